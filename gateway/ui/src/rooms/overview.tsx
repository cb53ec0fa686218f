/** Is everything all right? A card per deployment, and what is missing. */
import type { JSX } from "preact";
import type { Build, Deployment, Page, Project, Proof, Trace } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { cost, count, ofNs } from "../format";
import { Empty, Mark, Ready, Time } from "../parts/bits";
import { href } from "../place";
import { lost } from "./proof";

export function Overview({ project, since }: { project: string; since: string }): JSX.Element {
  const projects = useAsked<Page<Project>>("projects", {}, 10_000);
  const deployments = useAsked<Page<Deployment>>("deployments", {}, 5_000);
  const builds = useAsked<Page<Build>>("builds", {}, 5_000);
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
              {(all) => (
                <div class="cards">
                  {all.items
                    .filter((d) => !project || d.projectId === project)
                    .map((d) => (
                      <Card key={d.id} deployment={d} since={since} />
                    ))}
                  {all.items.length === 0 && <Empty command="kubectl apply -f deployment.yaml">No deployment runs yet.</Empty>}
                </div>
              )}
            </Ready>
          )
        }
      </Ready>
      <h2>Builds</h2>
      <Ready of={builds}>
        {(found) => {
          const failed = found.items.filter((b) => b.resource?.status?.phase === "Failed" && (!project || b.id.startsWith(project.split(".")[0]!)));
          return failed.length === 0 ? (
            <p class="soft">None has failed.</p>
          ) : (
            <ul>
              {failed.slice(0, 5).map((b) => (
                <li key={b.id}>
                  <a href={href(["builds", b.id])}>{b.id}</a> <Mark state="Failed" /> {b.resource?.status?.failure?.message}
                </li>
              ))}
            </ul>
          );
        }}
      </Ready>
    </>
  );
}

function Card({ deployment, since }: { deployment: Deployment; since: string }): JSX.Element {
  const { id, projectId } = deployment;
  const status = deployment.resource?.status;
  const traces = useAsked<Page<Trace>>(`projects/${part(projectId)}/traces`, { from: since, limit: 500, deployment: deployment.name }, 10_000);
  const proof = useAsked<Proof>(`projects/${part(projectId)}/proof`, {}, 30_000);
  const ready = status?.conditions?.find((c) => c.type === "Ready");
  const healthy = ready?.status === "True";
  const missing = proof.data ? proof.data.writers.filter((w) => w.deployment === deployment.name && lost(w)).length : undefined;
  return (
    <article class={`card${healthy || !status ? "" : " bad"}`}>
      <h3>
        <a href={href(["deployments", id], { project: projectId })}>{id}</a>
      </h3>
      <Mark state={healthy ? "Serving" : status?.reason ?? "unknown"} title={ready?.message} />
      {!healthy && status?.message && <div class="small">{status.message}</div>}
      <dl class="facts">
        <dt>Revision</dt>
        <dd>
          {status?.revision ?? "–"}, <Time at={status?.revisions?.find((r) => r.number === status.revision)?.startedAt} />
        </dd>
        <dt>Replicas</dt>
        <dd>
          {status?.readyReplicas ?? 0} of {status?.replicas ?? 0} ready{status?.restarts ? `, ${status.restarts} restarts` : ""}
        </dd>
        <Sums of={traces.data} />
        <dt>Missing</dt>
        <dd>{missing === undefined ? "–" : missing === 0 ? "nothing" : <a href={href(["proof"], { project: projectId })}>{missing} sources with losses</a>}</dd>
      </dl>
    </article>
  );
}

function Sums({ of }: { of: Page<Trace> | undefined }): JSX.Element {
  const traces = of?.items ?? [];
  const more = Boolean(of?.nextCursor);
  const failed = traces.filter((t) => t.status === "error").length;
  const took = traces.flatMap((t) => (t.durationNs === null ? [] : [t.durationNs])).sort((a, b) => a - b);
  const p95 = took.length ? took[Math.min(took.length - 1, Math.floor(took.length * 0.95))]! : null;
  const tokens = traces.reduce((sum, t) => sum + t.inputTokens + t.outputTokens, 0);
  const spent = traces.reduce((sum, t) => sum + t.cost, 0);
  return (
    <>
      <dt>Requests</dt>
      <dd title={more ? "of the newest 500" : undefined}>
        {of === undefined ? "–" : more ? "500+" : count(traces.length)}
        {traces.length > 0 && `, ${((failed / traces.length) * 100).toFixed(1)} % failed`}
      </dd>
      <dt>p95</dt>
      <dd>{p95 === null ? "–" : ofNs(p95)}</dd>
      <dt>Tokens</dt>
      <dd>
        {of === undefined ? "–" : `${count(tokens)} (${cost(spent)})`}
      </dd>
    </>
  );
}
