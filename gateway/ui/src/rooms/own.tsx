/** What the programs measure themselves: one metric at a time, by name and attribute. */
import type { JSX } from "preact";
import { part } from "../api";
import { useAsked } from "../asking";
import { metricLines, type MetricNames, type MetricSeries } from "../figures";
import { count } from "../format";
import { Empty, Ready } from "../parts/bits";
import { Chart } from "../parts/chart";
import { choose, usePlace } from "../place";
import { when } from "../when";

const MOST_LINES = 6;
const SEND = `import spanyard

spanyard.metrics.counter("questions", unit="{question}").add(1, {"kind": "billing"})`;

export function Own({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const time = when(query);
  const asked = { from: time.from, to: time.to, deployment: query.get("deployment") ?? "" };
  const every = time.live ? 10_000 : 0;
  const names = useAsked<MetricNames>(`projects/${part(project)}/metrics/names`, asked, every * 3);
  const known = names.data?.names ?? [];
  const name = query.get("metric") ?? known[0]?.name ?? "";
  const chosen = known.find((n) => n.name === name);
  const by = query.get("by") ?? "none";
  const attribute = query.get("attribute") ?? "";
  const split = attribute ? { attribute } : { by };
  const found = useAsked<MetricSeries>(name ? `projects/${part(project)}/metrics/series` : "", { ...asked, name, ...split, buckets: 120 }, every);
  return (
    <Ready of={names}>
      {() =>
        known.length === 0 && !name ? (
          <Empty command={SEND}>No program measured anything in this time. Counters, gauges and histograms of any OpenTelemetry SDK are shown here, or of ours:</Empty>
        ) : (
          <>
            <div class="head">
              <select aria-label="metric" value={name} onChange={(e) => choose({ metric: e.currentTarget.value, attribute: undefined })}>
                {!chosen && <option value={name}>{name}</option>}
                {known.map((n) => (
                  <option key={n.name}>{n.name}</option>
                ))}
              </select>
              <select aria-label="attribute" value={attribute} onChange={(e) => choose({ attribute: e.currentTarget.value })}>
                <option value="">not by attribute</option>
                {[...new Set([...(chosen?.attributes ?? []), attribute].filter(Boolean))].map((key) => (
                  <option key={key} value={key}>
                    by {key}
                  </option>
                ))}
              </select>
              {chosen && (
                <span class="soft">
                  {chosen.kind}, {count(chosen.points)} points of {count(chosen.series)} series. {chosen.description}
                </span>
              )}
            </div>
            <Ready of={found}>
              {(answer) =>
                answer.series.length === 0 ? (
                  <Empty>{name} was not measured in this time.</Empty>
                ) : (
                  <>
                    <div class="charts">
                      {metricLines(answer, MOST_LINES).map((plot) => (
                        <Chart key={name + plot.title} title={`${name}: ${plot.title}`} unit={plot.unit} times={answer.series[0]!.points.map((p) => p.time)} lines={plot.lines} />
                      ))}
                    </div>
                    {answer.series.length > MOST_LINES && (
                      <p class="soft">
                        The {MOST_LINES} with most points of {answer.series.length}
                        {answer.more && " and more"}.
                      </p>
                    )}
                  </>
                )
              }
            </Ready>
          </>
        )
      }
    </Ready>
  );
}
