/** Is it getting worse? Requests, failures, durations, tokens and cost over time; and what the programs
 *  themselves measure. */
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import type { Deployment, Page, Trace } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { failing, line, type Measure, nameOf, type TraceSeries, type Unit, UNITS } from "../figures";
import { cost, count, ms, ofNs } from "../format";
import { Empty, Ready } from "../parts/bits";
import { Chart, type Dot, type Line } from "../parts/chart";
import { choose, go, href, usePlace } from "../place";
import { when } from "../when";
import { Own } from "./own";

interface Plot {
  title: string;
  unit: Unit;
  /** Of all together: a line each. */
  measures: (readonly [string, Measure])[];
  /** Of several series: of each this one. */
  each: Measure;
}

const PLOTS: Plot[] = [
  { title: "Requests", unit: UNITS.perSecond, measures: [["all", "requests"], ["failed", "failed"]], each: "requests" },
  { title: "Failed", unit: UNITS.percent, measures: [["failed", "errors"]], each: "errors" },
  { title: "Duration", unit: UNITS.duration, measures: [["p50", "p50"], ["p95", "p95"], ["p99", "p99"]], each: "p95" },
  { title: "Tokens", unit: UNITS.tokens, measures: [["in", "input"], ["out", "output"]], each: "tokens" },
  { title: "Cost", unit: UNITS.costPerHour, measures: [["cost", "cost"]], each: "cost" },
];
const MOST_LINES = 6;

export function Metrics({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const by = query.get("by") ?? "none";
  const deployment = query.get("deployment") ?? "";
  const time = when(query);
  const every = time.live ? 10_000 : 0;
  const asked = { from: time.from, to: time.to, deployment };
  const found = useAsked<TraceSeries>(project ? `projects/${part(project)}/traces/series` : "", { ...asked, by, buckets: 120 }, every);
  const names = useAsked<Page<Deployment>>(project ? "deployments" : "", { project });
  if (!project) return <Empty>Choose a project above.</Empty>;
  return (
    <>
      <div class="head">
        <h1>Metrics</h1>
        <select aria-label="deployment" value={deployment} onChange={(e) => choose({ deployment: e.currentTarget.value })}>
          <option value="">all deployments</option>
          {[...new Set([...(names.data?.items ?? []).map((d) => d.name), deployment].filter(Boolean))].map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <select aria-label="lines" value={by} onChange={(e) => choose({ by: e.currentTarget.value === "none" ? undefined : e.currentTarget.value })}>
          <option value="none">all together</option>
          <option value="deployment">by deployment</option>
          <option value="revision">by revision</option>
        </select>
      </div>
      <Ready of={found}>
        {(answer) =>
          answer.series.every((s) => s.total.traces === 0) ? (
            <Empty>
              No request was traced in this time. Choose a longer one, or ask the server something: each root span counts as a request.
            </Empty>
          ) : (
            <Plots answer={answer} project={project} by={by} asked={asked} every={every} />
          )
        }
      </Ready>
      <h2>Measured by the programs</h2>
      <Own project={project} />
    </>
  );
}

type Params = Record<string, string | undefined>;

function Plots({ answer, project, by, asked, every }: { answer: TraceSeries; project: string; by: string; asked: Params; every: number }): JSX.Element {
  const path = `projects/${part(project)}/traces`;
  const first = answer.series[0]!;
  const p95 = answer.series.reduce((most, s) => Math.max(most, s.total.p95Ns ?? 0), 0);
  const failed = useAsked<Page<Trace>>(path, { ...asked, status: "error", limit: 20 }, every);
  // Rounded down, so that it is not another question each time.
  const slow = useAsked<Page<Trace>>(p95 ? path : "", { ...asked, minDuration: `${coarse(p95)}ns`, limit: 20 }, every);
  const dots = useMemo(() => {
    const both = new Map([...(slow.data?.items ?? []), ...(failed.data?.items ?? [])].map((t) => [t.id, t]));
    return [...both.values()].flatMap((t): Dot[] =>
      t.durationNs === null
        ? []
        : [{ at: ms(t.startTime), value: t.durationNs / 1e6, name: `trace ${t.name}`, bad: t.status === "error", open: () => go(href(["traces", t.projectId, t.id])) }],
    );
  }, [slow.data, failed.data]);
  const times = first.points.map((p) => p.time);
  const lines = (plot: Plot): Line[] => {
    if (by === "none") return plot.measures.map(([name, of]) => ({ name, values: line(of, first, answer) }));
    return answer.series.slice(0, MOST_LINES).map((s) => ({ name: nameOf(s), values: line(plot.each, s, answer) }));
  };
  return (
    <>
      {by === "none" ? <Totals of={answer} /> : <Table of={answer} />}
      <div class="charts">
        {PLOTS.map((plot) => (
          <Chart
            key={plot.title + by}
            title={plot.title + (by !== "none" && plot.title === "Duration" ? ", p95" : "")}
            unit={plot.unit}
            times={times}
            lines={lines(plot)}
            dots={plot.title === "Duration" ? dots : []}
            note={plot.title === "Duration" ? "a dot opens its trace" : "drag to choose a time"}
          />
        ))}
      </div>
      {by !== "none" && answer.series.length > MOST_LINES && <p class="soft">Lines of the {MOST_LINES} with most requests; the table has {answer.series.length}.</p>}
    </>
  );
}

/** Not above it, with one digit. */
function coarse(ns: number): number {
  const unit = 10 ** Math.floor(Math.log10(Math.max(1, ns)));
  return Math.floor(ns / unit) * unit;
}

function Totals({ of }: { of: TraceSeries }): JSX.Element {
  const { total } = of.series[0]!;
  return (
    <p>
      {count(total.traces)} requests, {UNITS.percent(failing(total) ?? 0)} failed; {total.p50Ns === null ? "none has ended" : `half within ${ofNs(total.p50Ns)}, 95 % within ${ofNs(total.p95Ns)}`};{" "}
      <span title={`${total.inputTokens} in, ${total.outputTokens} out`}>{count(total.inputTokens + total.outputTokens)} tokens</span>, {cost(total.cost)}.
    </p>
  );
}

function Table({ of }: { of: TraceSeries }): JSX.Element {
  return (
    <div class="table-wrap" tabIndex={0} style={{ marginBottom: "16px", flex: "none" }}>
      <table>
        <thead>
          <tr>
            <th>Of</th>
            <th class="num">Requests</th>
            <th class="num">Failed</th>
            <th class="num hide-narrow">p50</th>
            <th class="num">p95</th>
            <th class="num hide-narrow">Tokens</th>
            <th class="num hide-narrow">Cost</th>
          </tr>
        </thead>
        <tbody>
          {of.series.map((s) => (
            <tr key={nameOf(s)}>
              <td>{nameOf(s)}</td>
              <td class="num">{count(s.total.traces)}</td>
              <td class="num">{UNITS.percent(failing(s.total) ?? 0)}</td>
              <td class="num hide-narrow">{s.total.p50Ns === null ? "–" : ofNs(s.total.p50Ns)}</td>
              <td class="num">{s.total.p95Ns === null ? "–" : ofNs(s.total.p95Ns)}</td>
              <td class="num hide-narrow">{count(s.total.inputTokens + s.total.outputTokens)}</td>
              <td class="num hide-narrow">{cost(s.total.cost)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
