/** Which requests were bad? How many when, how long, which, and those that run. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Page, Trace } from "../api";
import { get, part, Refused } from "../api";
import { useAsked, useLast } from "../asking";
import { live } from "../live";
import { Empty, Ready } from "../parts/bits";
import { type Facet, Facets, valuesOf } from "../parts/facets";
import { type Bucket, Histogram } from "../parts/histogram";
import { Scatter } from "../parts/plot";
import { QueryBox } from "../parts/querybox";
import { TraceTable } from "../parts/tracetable";
import { choose, go, href, usePlace } from "../place";
import { hasTerm, term, toggledTerm } from "../query";
import { between, when } from "../when";

const FIELDS = [
  ["status", "ok, error, unset"],
  ["error", "true: a span of it failed"],
  ["name", "of its root"],
  ["duration", "duration:>2s"],
  ["tool", "a tool that it called"],
  ["agent", "an agent in it"],
  ["model", "a model that it asked"],
  ["session", "a conversation's id"],
  ["input", "words of a prompt or of arguments"],
  ["output", "words of an answer or result"],
  ["tokens", "tokens:>=1000"],
  ["cost", "cost:>0.01"],
  ["spans", "spans:>100"],
  ["open", "true: it has not ended"],
  ["service", "OpenTelemetry's service.name"],
  ["deployment", "its name"],
  ["revision", "its number"],
  ["span.name", "of any span"],
  ["span.duration", "of any span"],
  ["attr.", "an attribute: attr.user:u-17"],
] as const;
const KINDS = [
  ["failed", "--bad"],
  ["not failed", "--accent"],
] as const;
const SLOW = ["duration:>=100ms", "duration:>=1s", "duration:>=10s"] as const;

interface Series {
  stepSeconds: number;
  series: { points: { time: string; traces: number; errors: number }[] }[];
}

export function Traces({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  // Links of before: filters of their own.
  const old = ["status", "name", "slow"].filter((name) => query.get(name));
  useEffect(() => {
    if (!old.length) return;
    const terms = old.map((name) => (name === "slow" ? `duration:>=${query.get(name)!}` : term(name, query.get(name)!)));
    choose({ q: [query.get("q") ?? "", ...terms].join(" ").trim(), status: undefined, name: undefined, slow: undefined });
  }, [old.join()]);
  if (!project) return <Empty>Choose a project above.</Empty>;
  if (old.length) return <div class="skeleton" />;
  return <All key={project} project={project} />;
}

const ask = (q: string): void => choose({ q: q || undefined, at: undefined }, false);

function All({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const q = query.get("q") ?? "";
  const time = when(query);
  const path = `projects/${part(project)}/traces`;
  const asking = { from: time.from, to: time.to, q };
  const found = useAsked<Page<Trace>>(path, { ...asking, limit: 200 }, time.live ? 30_000 : 0);
  const series = useAsked<Series>(`${path}/series`, { ...asking, buckets: 60 }, time.live ? 10_000 : 0);
  const facets = useAsked<{ facets: Facet[] }>(`${path}/facets`, { ...asking, limit: 10 }, time.live ? 30_000 : 0);
  const problem = found.error?.at ? found.error : undefined;
  const shown = useLast(found.data);
  const [more, setMore] = useState<{ of: Page<Trace> | undefined; traces: Trace[]; cursor: string | null; busy: boolean; problem?: Refused | undefined }>({ of: undefined, traces: [], cursor: null, busy: false });
  const mine = more.of === shown ? more : { of: shown, traces: [], cursor: shown?.nextCursor ?? null, busy: false };
  useNews(project, time.live, () => {
    // Older pages that somebody reads are not taken away from under them.
    if (!more.traces.length || more.of !== shown) found.again();
  });
  const load = async (): Promise<void> => {
    const at = { ...mine, busy: true, problem: undefined };
    setMore(at);
    try {
      const page = await get<Page<Trace>>(path, { ...asking, limit: 200, cursor: mine.cursor });
      setMore({ of: shown, traces: [...mine.traces, ...page.items], cursor: page.nextCursor, busy: false });
    } catch (error) {
      setMore({ ...at, busy: false, problem: error instanceof Refused ? error : new Refused(0, String(error)) });
    }
  };
  const traces = useMemo(() => [...(shown?.items ?? []), ...mine.traces], [shown, mine.traces]);
  const points = useLast(series.data);
  const buckets: Bucket[] = (points?.series[0]?.points ?? []).map((p) => ({ time: p.time, total: p.traces, parts: { failed: p.errors, "not failed": p.traces - p.errors } }));
  const values = useLast(facets.data)?.facets ?? [];
  const brushed = (a: number, b: number): void => choose(between(a, b), false);
  return (
    <>
      <div class="head">
        <h1>Traces</h1>
      </div>
      <QueryBox signal="traces" query={q} fields={FIELDS} values={valuesOf(values)} problem={problem} ask={ask} />
      {points && !problem && <Histogram buckets={buckets} stepSeconds={points.stepSeconds} kinds={KINDS} what="traces" rate="failed" brushed={brushed} />}
      <div class="reading rolls">
        <div class="facet-side">
          <div class="slow" role="group" aria-label="duration">
            {SLOW.map((one) => (
              <button key={one} class={hasTerm(q, one) ? "on" : ""} aria-pressed={hasTerm(q, one)} onClick={() => ask(toggledTerm(q, one))}>
                {one.replace(/duration:>=(\d+)/, "≥ $1 ")}
              </button>
            ))}
          </div>
          <Facets facets={values} query={q} ask={ask} />
        </div>
        <div class="read">
          {!problem && (
            <Ready of={{ ...found, data: shown }}>
              {() =>
                traces.length === 0 ? (
                  <Empty>
                    No trace of the time “{time.label}” matches. Choose a longer time (<kbd>t</kbd>), or leave out a filter.
                  </Empty>
                ) : (
                  <>
                    <Scatter traces={traces} brushed={brushed} open={(trace) => go(href(["traces", trace.projectId, trace.id]))} />
                    <TraceTable traces={traces} />
                    {mine.problem && (
                      <p class="mark bad" role="alert">
                        {mine.problem.message}
                      </p>
                    )}
                    {mine.cursor && (
                      <p>
                        <button disabled={mine.busy} onClick={() => void load()}>
                          {mine.busy ? "Loading …" : "Older ones"}
                        </button>
                      </p>
                    )}
                  </>
                )
              }
            </Ready>
          )}
        </div>
      </div>
    </>
  );
}

/** Spans that begin and end are a reason to ask again; at most every two seconds. */
function useNews(project: string, on: boolean, tell: () => void): void {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (!on) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = live.subscribe({ channel: `project:${project}` }, (message) => {
      if ((message.type === "span:ended" || message.type === "span:started") && !message.history)
        timer ??= setTimeout(() => {
          timer = undefined;
          setTurn((n) => n + 1);
        }, 2_000);
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [project, on]);
  useEffect(() => {
    if (turn) tell();
  }, [turn]);
}
