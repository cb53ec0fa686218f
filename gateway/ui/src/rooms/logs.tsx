/** What did it print? All lines of a project: how many when, which, and what comes. */
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import type { LogLine, Page } from "../api";
import { part } from "../api";
import { useAsked, useLast } from "../asking";
import { useProjectLines } from "../loglines";
import { shown } from "../older";
import { Empty, Ready } from "../parts/bits";
import { type Facet, Facets, valuesOf } from "../parts/facets";
import { type Bucket, Histogram } from "../parts/histogram";
import { LogView, type Shown } from "../parts/logview";
import { QueryBox } from "../parts/querybox";
import { choose, href, usePlace } from "../place";
import { fromFilters } from "../query";
import { between, RANGES, when } from "../when";

const FIELDS = [
  ["level", "debug, info, warn, error, fatal"],
  ["message", "words of the line"],
  ["deployment", "its name"],
  ["revision", "its number"],
  ["service", "OpenTelemetry's service.name"],
  ["pod", "its name"],
  ["container", "its name"],
  ["stream", "stdout, stderr, otlp, file"],
  ["trace", "a trace's id"],
  ["span", "a span's id"],
  ["attr.", "an attribute: attr.user:u-17"],
] as const;
const KINDS = [
  ["debug", "--other"],
  ["info", "--accent"],
  ["warn", "--warn"],
  ["error", "--bad"],
  ["fatal", "--db"],
] as const;

interface Counted {
  stepSeconds: number;
  buckets: { time: string; total: number; levels: Record<string, number> }[];
}

export function Logs({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const level = query.get("level") ?? "";
  const text = query.get("text") ?? "";
  useEffect(() => {
    if (level || text) choose({ q: [query.get("q") ?? "", fromFilters(level, text)].join(" ").trim(), level: undefined, text: undefined });
  }, [level, text]);
  if (!project) return <Empty>Choose a project above.</Empty>;
  if (level || text) return <div class="skeleton" />;
  const around = query.get("around");
  return around ? <Around project={project} id={around} at={query.get("moment") ?? ""} /> : <All key={project} project={project} />;
}

const ask = (q: string): void => choose({ q: q || undefined, line: undefined }, false);

function All({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const q = query.get("q") ?? "";
  const time = when(query);
  const lines = useProjectLines(project, q, time);
  const asking = { from: time.from, to: time.to, q };
  const counted = useAsked<Counted>(`projects/${part(project)}/logs/histogram`, { ...asking, buckets: 60 }, time.live ? 10_000 : 0);
  const facets = useAsked<{ facets: Facet[] }>(`projects/${part(project)}/logs/facets`, { ...asking, limit: 10 }, time.live ? 30_000 : 0);
  const problem = counted.error?.at ? counted.error : facets.error?.at ? facets.error : undefined;
  const bars = useLast(counted.data);
  const values = useLast(facets.data)?.facets;
  const buckets: Bucket[] = (bars?.buckets ?? []).map((b) => ({ time: b.time, total: b.total, parts: b.levels }));
  const aroundLink = (line: Shown): string => href(["logs"], { around: line.id, moment: line.at, line: line.id });
  return (
    <>
      <div class="head">
        <h1>Logs</h1>
      </div>
      <QueryBox signal="logs" query={q} fields={FIELDS} values={valuesOf(values)} problem={problem} ask={ask} />
      {!problem && <Ready of={{ ...counted, data: bars }}>{(data) => <Histogram buckets={buckets} stepSeconds={data.stepSeconds} kinds={KINDS} what="lines" brushed={(a, b) => choose({ ...between(a, b), line: undefined }, false)} />}</Ready>}
      <div class="reading">
        <Facets facets={values ?? []} query={q} ask={ask} />
        <div class="read">
          {lines.note && !problem && <p class="soft">{lines.note}</p>}
          {lines.problem && !problem && (
            <div class="problem" role="alert">
              {lines.problem.message}
            </div>
          )}
          <LogView {...lines} name={project} project={project} live={time.live} whole searched around={aroundLink} empty={lines.started && !lines.loading ? <Nothing q={q} label={time.label} from={time.from} /> : <>Loading …</>} />
        </div>
      </div>
    </>
  );
}

function Nothing({ q, label, from }: { q: string; label: string; from: string }): JSX.Element {
  const longer = RANGES.slice(Math.max(0, RANGES.findIndex(([key]) => key === from)) + 1).filter((_, i, all) => i === 0 || i === all.length - 1);
  return (
    <>
      <p>{q ? `No line of the time “${label}” matches.` : `No line in the time “${label}”.`}</p>
      <p class="acts" style={{ justifyContent: "center" }}>
        {longer.map(([key, name]) => (
          <button key={key} onClick={() => choose({ range: key, from: undefined, to: undefined }, false)}>
            Look at the {name}
          </button>
        ))}
        {q && <button onClick={() => ask("")}>Leave out the search</button>}
      </p>
    </>
  );
}

const EACH = 100;

function AroundLines({ project, older, newer }: { project: string; older: LogLine[]; newer: LogLine[] }): JSX.Element {
  // The same array each time: another one would be measured anew, and be put back where it was.
  const lines = useMemo(() => [...[...older].reverse(), ...newer].map(shown), [older, newer]);
  return <LogView lines={lines} version={lines.length} name={`${project}-around`} project={project} live={false} whole empty="Nothing of it is stored any more." />;
}

/** What the same source printed before and after a line. */
function Around({ project, id, at }: { project: string; id: string; at: string }): JSX.Element {
  const writer = id.slice(0, id.lastIndexOf("#"));
  const path = `projects/${part(project)}/logs`;
  const before = useAsked<Page<LogLine>>(path, { writer, to: at, order: "desc", limit: EACH });
  const after = useAsked<Page<LogLine>>(path, { writer, from: at, order: "asc", limit: EACH + 1 });
  const back = href(["logs"], { q: undefined });
  return (
    <>
      <div class="head">
        <h1>Around one line</h1>
        <span class="soft small mono">{writer}</span>
        <a class="button" href={back}>
          All lines
        </a>
      </div>
      <Ready of={before}>
        {(older) => (
          <Ready of={after}>
            {(newer) => <AroundLines project={project} older={older.items} newer={newer.items} />}
          </Ready>
        )}
      </Ready>
    </>
  );
}
