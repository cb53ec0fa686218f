/** Is everything all right? A card per deployment, against the same time before, and what is missing. */
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import type { Build, Deployment, DeploymentStatus, Page, Project, Proof } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { change, earlier, failing, type Figures, line, type SeriesOf, type Span, type TraceSeries, UNITS } from "../figures";
import { useListKeys, useReturned } from "../focus";
import { cost, count, duration } from "../format";
import { Empty, Mark, Ready, Row, Time } from "../parts/bits";
import { Spark } from "../parts/spark";
import { href, usePlace } from "../place";
import { type When, when } from "../when";
import { begun, isOf, newestFirst } from "./builds";
import { lost } from "./proof";
import "./overview.css";

const LATEST = 5;

export function Overview({ project }: { project: string }): JSX.Element {
  const projects = useAsked<Page<Project>>("projects", {}, 10_000);
  const deployments = useAsked<Page<Deployment>>("deployments", {}, 5_000);
  const builds = useAsked<Page<Build>>("builds", {}, 5_000);
  useListKeys(".card h3 a, .latest tr.link a");
  return (
    <>
      <div class="head">
        <h1>{project ? `Overview of ${project}` : "Overview"}</h1>
      </div>
      <Ready of={projects}>
        {(found) =>
          found.items.length === 0 ? (
            <Empty command="spanyard up examples/support-agent">There is no project yet. Build and run the example:</Empty>
          ) : (
            <Ready of={deployments}>
              {(all) => {
                const mine = all.items.filter((d) => !project || d.projectId === project);
                const owners = [...new Set(mine.map((d) => d.projectId))];
                return mine.length === 0 ? (
                  <Empty command="spanyard deploy ./my-agent">No deployment runs yet.</Empty>
                ) : (
                  <div class="cards overview">
                    {owners.map((owner) => (
                      <Cards key={owner} project={owner} deployments={mine.filter((d) => d.projectId === owner)} />
                    ))}
                  </div>
                );
              }}
            </Ready>
          )
        }
      </Ready>
      <h2>Latest builds</h2>
      <Ready of={builds}>
        {(found) => {
          const mine = found.items.filter((b) => b.resource && isOf(b, project)).sort(newestFirst);
          const failed = mine.filter((b) => b.resource?.status?.phase === "Failed").length;
          return mine.length === 0 ? (
            <Empty command="spanyard deploy ./my-agent">Nothing was built yet.</Empty>
          ) : (
            <>
              <div class="table-wrap latest" tabIndex={0}>
                <table>
                  <tbody>
                    {mine.slice(0, LATEST).map((b) => (
                      <Row key={b.id} to={href(["builds", b.id])}>
                        <td>
                          <a href={href(["builds", b.id])}>{b.id}</a>
                        </td>
                        <td>
                          <Mark state={b.resource?.status?.phase ?? "unknown"} />
                        </td>
                        <td class="hide-narrow">{b.resource?.status?.failure?.message ?? b.resource?.status?.message ?? ""}</td>
                        <td class="nowrap">
                          <Time at={begun(b)} />
                        </td>
                      </Row>
                    ))}
                  </tbody>
                </table>
              </div>
              {mine.length > LATEST && (
                <p class="soft">
                  The newest {LATEST} of {count(mine.length)}, {failed ? `${count(failed)} of which failed` : "none of which failed"}. <a href={href(["builds"])}>All builds</a>
                </p>
              )}
            </>
          );
        }}
      </Ready>
    </>
  );
}

/** The deployments of a project: one question for all of them, and one for the time before. */
function Cards({ project, deployments }: { project: string; deployments: Deployment[] }): JSX.Element {
  const time = when(usePlace().query);
  const before = earlier(time);
  const path = `projects/${part(project)}/traces/series`;
  const every = time.live ? 10_000 : 0;
  const now = useAsked<TraceSeries>(path, { from: time.from, to: time.to, by: "deployment", buckets: 60 }, every);
  const past = useAsked<TraceSeries>(path, { from: before.from, to: before.to, by: "deployment", buckets: 1 }, every * 6);
  const proof = useAsked<Proof>(`projects/${part(project)}/proof`, {}, 10_000);
  return (
    <>
      {deployments.map((d) => (
        <Card key={d.id} deployment={d} now={now.data} past={past.data} time={time} proof={proof.data} away={now.error?.message} />
      ))}
    </>
  );
}

interface Facts {
  deployment: Deployment;
  now: TraceSeries | undefined;
  past: TraceSeries | undefined;
  time: When;
  proof: Proof | undefined;
  away: string | undefined;
}

function Card({ deployment, now, past, time, proof, away }: Facts): JSX.Element {
  const { id, projectId, name } = deployment;
  const card = useRef<HTMLElement>(null);
  useReturned(href(["deployments", id]), card);
  const status = deployment.resource?.status;
  const ready = status?.conditions?.find((c) => c.type === "Ready");
  const healthy = ready?.status === "True";
  return (
    <article class={`card${healthy || !status ? "" : " bad"}`} ref={card}>
      <h3>
        <a href={href(["deployments", id], { project: projectId })}>{id}</a>
      </h3>
      <Mark state={healthy ? "Serving" : status?.reason ?? "unknown"} title={ready?.message} />
      {!healthy && status?.message && <div class="small">{status.message}</div>}
      <Numbers now={now} past={past} name={name} projectId={projectId} time={time} />
      {away && <div class="small mark warn">These numbers may be out of date: {away}</div>}
      <dl class="facts">
        <dt>Revision</dt>
        <dd>
          <LastDeployed status={status} />
        </dd>
        <dt>Replicas</dt>
        <dd>
          {status?.readyReplicas ?? 0} of {status?.replicas ?? 0} ready{status?.restarts ? `, ${status.restarts} restarts` : ""}
        </dd>
        <Stored proof={proof} name={name} projectId={projectId} />
      </dl>
    </article>
  );
}

/** What serves, and what came after it without success. */
function LastDeployed({ status }: { status: DeploymentStatus | undefined }): JSX.Element {
  const revisions = status?.revisions ?? [];
  const serving = revisions.find((r) => r.number === status?.revision);
  const newest = revisions.reduce<(typeof revisions)[number] | undefined>((most, r) => (!most || r.number > most.number ? r : most), undefined);
  return (
    <>
      {serving ? (
        <>
          {serving.number}, deployed <Time at={serving.startedAt} />
        </>
      ) : (
        "none serves"
      )}
      {newest && newest.number !== serving?.number && (
        <>
          ; {newest.number} {newest.state.toLowerCase()} <Time at={newest.startedAt} />
        </>
      )}
    </>
  );
}

type Params = Record<string, string | number | undefined>;

const NONE: Figures = { traces: 0, errors: 0, p50Ns: null, p95Ns: null, p99Ns: null, inputTokens: 0, outputTokens: 0, cost: 0 };

function Numbers({ now, past, name, projectId, time }: { now: TraceSeries | undefined; past: TraceSeries | undefined; name: string; projectId: string; time: When }): JSX.Element {
  const before = earlier(time);
  const found = useSeries(now, name, projectId, { from: time.from, to: time.to, buckets: 60 }, time.live ? 10_000 : 0);
  const was = useSeries(past, name, projectId, { from: before.from, to: before.to, buckets: 1 }, time.live ? 60_000 : 0)?.total;
  if (!found) return <div class="skeleton" role="status" aria-label="loading" />;
  const { total } = found;
  const row = (what: string, value: string, pick: (f: Figures) => number | null, values: (number | null)[], bad = false): JSX.Element => (
    <div class="figure" title={was && `${before.name}: ${what.toLowerCase()} ${tell(what, pick(was))}`}>
      <span class="soft">{what}</span>
      <strong>{value}</strong>
      {values.some((v) => v) ? <Spark values={values} kind={bad ? "bad" : ""} label={`${what} over time`} /> : <span class="spark" />}
      <Changed now={pick(total)} was={was ? pick(was) : null} before={before.name} />
    </div>
  );
  const values = (of: Parameters<typeof line>[0]): (number | null)[] => line(of, found, found.span);
  const failed = failing(total);
  return (
    <div class="figures">
      {row("Requests", count(total.traces), (f) => f.traces, values("requests"))}
      {row("Failed", failed === null ? "–" : UNITS.percent(failed), failing, values("errors"), true)}
      {row("p95", total.p95Ns === null ? "–" : duration(total.p95Ns / 1e6), (f) => (f.p95Ns === null ? null : f.p95Ns / 1e6), values("p95"))}
      {row("Tokens", count(total.inputTokens + total.outputTokens), (f) => f.inputTokens + f.outputTokens, values("tokens"))}
      {row("Cost", cost(total.cost), (f) => f.cost, values("cost"))}
      <a class="small" href={href(["metrics"], { project: projectId, deployment: name })}>
        Over time<span class="only-heard">: the metrics of {name}</span>
      </a>
    </div>
  );
}

/** A deployment's own series: of all of them, or, where it is among those told together, asked for by itself. */
function useSeries(all: TraceSeries | undefined, name: string, projectId: string, asked: Params, every: number): (SeriesOf & { span: Span }) | undefined {
  const told = all?.series.find((s) => s.deployment === name);
  const folded = all !== undefined && !told && all.series.some((s) => s.other);
  const alone = useAsked<TraceSeries>(folded ? `projects/${part(projectId)}/traces/series` : "", { ...asked, deployment: name }, every);
  if (folded) return alone.data && { ...alone.data.series[0]!, span: alone.data };
  return all && { ...(told ?? { deployment: name, revision: null, other: false, total: NONE, points: [] }), span: all };
}

function tell(what: string, value: number | null): string {
  if (value === null) return "unknown";
  return what === "Failed" ? UNITS.percent(value) : what === "p95" ? duration(value) : what === "Cost" ? cost(value) : count(value);
}

const ARROWS = { up: "↑", down: "↓", same: "=" };

function Changed({ now, was, before }: { now: number | null; was: number | null; before: string }): JSX.Element {
  const found = change(now, was, before);
  if (!found) return <span class="change" />;
  return (
    <span class="change">
      <span aria-hidden="true">{ARROWS[found.way]}</span> {found.text} <span class="than">{found.than}</span>
    </span>
  );
}

/** How far what is stored is behind, and what of it is gone. */
function Stored({ proof, name, projectId }: { proof: Proof | undefined; name: string; projectId: string }): JSX.Element {
  const writers = proof?.writers.filter((w) => w.deployment === name);
  const waiting = writers?.reduce((sum, w) => sum + w.pending, 0);
  const missing = writers?.filter(lost).length;
  const held = proof?.writers.reduce((sum, w) => sum + w.quarantined, 0);
  return (
    <>
      <dt>Behind</dt>
      <dd title="records that are in the bucket and not yet loaded">{waiting === undefined ? "…" : waiting === 0 ? "nothing waits to be loaded" : `${count(waiting)} records wait to be loaded`}</dd>
      {held ? (
        <>
          <dt>Quarantine</dt>
          <dd>
            <a href={href(["proof"], { project: projectId })}>{count(held)} {held === 1 ? "record" : "records"} of the project</a>
          </dd>
        </>
      ) : null}
      <dt>Missing</dt>
      <dd>{missing === undefined ? "…" : missing === 0 ? "nothing" : <a href={href(["proof"], { project: projectId })}>{missing === 1 ? "1 source" : `${count(missing)} sources`} with losses</a>}</dd>
    </>
  );
}
