/** Two revisions side by side: errors, latency, tokens, cost, scores; the address says which. */
import type { JSX } from "preact";
import type { Deployment, DeploymentStatus, Revision } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { compared, comparedScores, ENOUGH, pair } from "../compare";
import type { ScoreSeries, TraceSeries } from "../figures";
import { Ready } from "../parts/bits";
import { choose, usePlace } from "../place";

/** Further back nothing is summed up: it would be read again and again. */
const LONGEST_MS = 30 * 864e5;

export function Comparison({ deployment, status }: { deployment: Deployment; status: DeploymentStatus | undefined }): JSX.Element | null {
  const { query } = usePlace();
  const chosen = pair(query.get("compare"));
  const revisions = status?.revisions ?? [];
  if (!chosen || !revisions.length) return null;
  const [a, b] = chosen.map((number) => revisions.find((r) => r.number === number));
  if (!a || !b)
    return (
      <p class="problem">
        Of revisions {chosen.join(" and ")} {a || b ? "one is" : "both are"} no longer kept; <code>spec.revisionHistoryLimit</code> says how many are. <button onClick={() => choose({ compare: undefined })}>Close</button>
      </p>
    );
  return <Sides deployment={deployment} a={a} b={b} />;
}

function Sides({ deployment, a, b }: { deployment: Deployment; a: Revision; b: Revision }): JSX.Element {
  // All of both lives: they seldom overlap, and a time range of the page would cut one off.
  const begun = Math.max(Math.min(...[a, b].map((r) => Date.parse(r.startedAt ?? "") || Date.now())) - 60_000, Date.now() - LONGEST_MS);
  const from = new Date(Math.floor(begun / 60_000) * 60_000).toISOString();
  const params = { from, by: "revision", deployment: deployment.name, buckets: 1 };
  const path = `projects/${part(deployment.projectId)}`;
  const traces = useAsked<TraceSeries>(`${path}/traces/series`, params, 30_000);
  const scores = useAsked<ScoreSeries>(`${path}/scores/series`, params, 30_000);
  const is = (of: Revision) => (revision: string | null) => revision === String(of.number) || (revision !== null && (of.templates ?? []).includes(revision));
  return (
    <section class="compare" aria-label={`revision ${a.number} and revision ${b.number}`}>
      <Ready of={traces}>
        {(found) => {
          const totals = [a, b].map((r) => found.series.find((series) => is(r)(series.revision))?.total);
          const rows = [...compared(totals[0], totals[1]), ...comparedScores(scores.data?.series ?? [], is(a), is(b)).map((row) => ({ ...row, name: `score ${row.name}` }))];
          const few = rows.some((row) => row.few);
          return (
            <div class="table-wrap" tabIndex={0}>
              <table>
                <caption class="only-heard">
                  Revision {a.number} and revision {b.number} since {from}
                </caption>
                <thead>
                  <tr>
                    <th>
                      <button onClick={() => choose({ compare: undefined }, false)}>Close</button>
                    </th>
                    <th class="num">Revision {a.number}</th>
                    <th class="num">Revision {b.number}</th>
                    <th class="num">Difference</th>
                  </tr>
                </thead>
                <tbody>
                  <tr>
                    <th scope="row">requests</th>
                    <td class="num">{(totals[0]?.traces ?? 0).toLocaleString("en")}</td>
                    <td class="num">{(totals[1]?.traces ?? 0).toLocaleString("en")}</td>
                    <td class="num" />
                  </tr>
                  {rows.map((row) => (
                    <tr key={row.name}>
                      <th scope="row">{row.name}</th>
                      <Side value={row.a} of={row.samples[0]} scored={row.name.startsWith("score ")} />
                      <Side value={row.b} of={row.samples[1]} scored={row.name.startsWith("score ")} />
                      <td class={`num ${row.verdict}`}>
                        {row.difference}
                        {row.verdict && <span> {row.verdict}</span>}
                        {row.few && row.difference !== "–" && <span class="soft small"> too few to tell</span>}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {few && <p class="soft small few">Of fewer than {ENOUGH} on one side a difference is told and not judged.</p>}
              {scores.error && <p class="soft small few">Scores cannot be shown: {scores.error.message}</p>}
            </div>
          );
        }}
      </Ready>
    </section>
  );
}

function Side({ value, of, scored }: { value: string; of: number; scored: boolean }): JSX.Element {
  return (
    <td class="num">
      {value}
      {scored && of > 0 && <span class="soft small"> of {of.toLocaleString("en")}</span>}
    </td>
  );
}
