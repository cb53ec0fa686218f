/** Is the new version better? Per score its trend and how it is distributed, revisions side by side. */
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import type { Page, Score } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { useListKeys, useReturned } from "../focus";
import { nameOf, type ScoreSeries, type ScoreSeriesOf, UNITS } from "../figures";
import { count, visible } from "../format";
import { Empty, Ready, Time } from "../parts/bits";
import { Chart } from "../parts/chart";
import { Cut } from "../parts/cut";
import { choose, href, usePlace } from "../place";
import { type When, when } from "../when";
import "./scores.css";

const FEW = 20;
/** Fewer than these are no ground for a judgement. */
const SEND = `import spanyard

with spanyard.span("answer"):
    spanyard.score("helpful", 0.9, comment="by the user")`;

export function Scores({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const chosen = query.get("name") ?? "";
  const by = query.get("by") === "none" ? "none" : "revision";
  const time = when(query);
  const found = useAsked<ScoreSeries>(project ? `projects/${part(project)}/scores/series` : "", { from: time.from, to: time.to, by, buckets: 60 }, time.live ? 10_000 : 0);
  useListKeys(".worst a");
  if (!project) return <Empty>Choose a project above.</Empty>;
  return (
    <>
      <div class="head">
        <h1>Scores</h1>
        {(found.data?.series.length ?? 0) > 0 && (
          <>
            <select aria-label="score" value={chosen} onChange={(e) => choose({ name: e.currentTarget.value })}>
              <option value="">all scores</option>
              {[...new Set(found.data!.series.map((s) => s.name))].map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
            <select aria-label="lines" value={by} onChange={(e) => choose({ by: e.currentTarget.value === "none" ? "none" : undefined })}>
              <option value="revision">by revision</option>
              <option value="none">all together</option>
            </select>
          </>
        )}
      </div>
      <Ready of={found}>
        {(answer) => {
          const names = [...new Set(answer.series.map((s) => s.name))].filter((name) => !chosen || name === chosen);
          if (names.length === 0)
            return (
              <Empty command={SEND}>
                No score in this time. Choose a longer one, or judge a trace where it happens, or later by its id (<code>trace_id=…</code>):
              </Empty>
            );
          return (
            <>
              {names.map((name) => (
                <OneScore key={name} name={name} series={answer.series.filter((s) => s.name === name)} time={time} project={project} />
              ))}
              {answer.more && <p class="soft">There are more: those with most scores are shown.</p>}
            </>
          );
        }}
      </Ready>
    </>
  );
}

function OneScore({ name, series, time, project }: { name: string; series: ScoreSeriesOf[]; time: When; project: string }): JSX.Element {
  const { kind } = series[0]!;
  const yes = kind === "boolean";
  return (
    <section class="score" aria-label={`score ${name}`}>
      <h2>{name}</h2>
      <div class="score-parts">
        <Chart
          title={kind === "category" ? "How many" : yes ? "Share of yes" : "Mean"}
          unit={kind === "category" ? UNITS.count : yes ? UNITS.percent : UNITS.plain}
          times={series[0]!.points.map((p) => p.time)}
          lines={series.slice(0, 6).map((s) => ({
            name: nameOf(s),
            values: s.points.map((p) => (kind === "category" ? p.count : p.mean === null ? null : yes ? p.mean * 100 : p.mean)),
          }))}
          note="drag to choose a time"
        />
        <div class="score-shares">
          {series.map((s) => (
            <Distribution key={nameOf(s)} of={s} />
          ))}
        </div>
        {kind !== "category" && <Worst name={name} series={series} time={time} project={project} />}
      </div>
    </section>
  );
}

function Distribution({ of }: { of: ScoreSeriesOf }): JSX.Element {
  const { total, kind } = of;
  const bars =
    kind === "number"
      ? of.histogram.map((b, i) => ({ name: b.from === b.to ? UNITS.plain(b.from) : `${UNITS.plain(b.from)} – ${UNITS.plain(b.to)}`, count: b.count, key: i }))
      : of.values.map((v, i) => ({ name: kind === "boolean" ? (v.value === "1" ? "yes" : "no") : visible(v.value), count: v.count, key: i }));
  const share = (n: number): number => (total.count ? (n / total.count) * 100 : 0);
  const most = Math.max(1, ...bars.map((b) => b.count));
  return (
    <div class="share">
      <h3>{nameOf(of)}</h3>
      <p class="small soft">
        {count(total.count)} {total.count === 1 ? "score" : "scores"}
        {kind === "number" && total.mean !== null && `, mean ${UNITS.plain(total.mean)}, median ${UNITS.plain(total.p50!)}, worst 5 % up to ${UNITS.plain(total.p5!)}`}
        {total.count < FEW && " "}
        {total.count < FEW && <span class="mark warn">too few to judge by</span>}
      </p>
      <div class="shares">
        {bars.map((bar) => (
          <>
            <span key={bar.key}>{bar.name}</span>
            <span class="meter" aria-hidden="true">
              <i style={{ width: `${(bar.count / most) * 100}%`, visibility: bar.count ? "visible" : "hidden" }} />
            </span>
            <span class="num">
              {count(bar.count)} ({UNITS.percent(share(bar.count))})
            </span>
          </>
        ))}
      </div>
    </div>
  );
}

/** The traces with the lowest values; the newest of those in the worst twentieth. */
function Worst({ name, series, time, project }: { name: string; series: ScoreSeriesOf[]; time: When; project: string }): JSX.Element {
  const floors = series.flatMap((s) => (s.total.p5 === null ? [] : [s.total.p5]));
  const floor = series[0]!.kind === "boolean" ? 0 : floors.length ? Math.max(...floors) : undefined;
  const worst = useAsked<Page<Score>>(floor === undefined ? "" : `projects/${part(project)}/scores`, { name, from: time.from, to: time.to, maxValue: floor, limit: 50 });
  const items = [...(worst.data?.items ?? [])].filter((s) => s.traceId && typeof s.value === "number").sort((a, b) => Number(a.value) - Number(b.value));
  return (
    <div>
      <h3>Worst traces</h3>
      {items.length === 0 ? (
        <p class="soft small">{worst.loading && floor !== undefined ? "…" : worst.error ? worst.error.message : "No low score names a trace."}</p>
      ) : (
        <ul class="worst">
          {items.slice(0, 8).map((s) => (
            <Low key={s.id} of={s} yes={series[0]!.kind === "boolean"} project={project} />
          ))}
        </ul>
      )}
    </div>
  );
}

function Low({ of, yes, project }: { of: Score; yes: boolean; project: string }): JSX.Element {
  const item = useRef<HTMLLIElement>(null);
  const to = href(["traces", project, of.traceId]);
  useReturned(to, item);
  return (
    <li ref={item}>
      <b>{yes ? "no" : UNITS.plain(Number(of.value))}</b>
      <a href={to}>
        trace <code>{of.traceId.slice(0, 8)}</code>
      </a>
      <span class="soft">{of.comment && <Cut text={of.comment} lines={1} />}</span> <Time at={of.timestamp} />
    </li>
  );
}
