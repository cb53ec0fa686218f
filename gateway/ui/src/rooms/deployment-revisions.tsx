/** The line of revisions: who replaced whom, when, from which commit, how long it took, why it failed. */
import type { JSX } from "preact";
import type { Build, Deployment, DeploymentStatus, Page, Revision } from "../api";
import { useAsked } from "../asking";
import { pair } from "../compare";
import { duration, ms } from "../format";
import { Mark, Time } from "../parts/bits";
import { Subject } from "../parts/commit";
import { choose, href, usePlace } from "../place";

export function Revisions({ deployment, status }: { deployment: Deployment; status: DeploymentStatus | undefined }): JSX.Element | null {
  const { query } = usePlace();
  const builds = useAsked<Page<Build>>("builds", { project: deployment.projectId, limit: 200 }, 30_000);
  if (!status?.revisions?.length) return <p class="soft">It has no revision yet.</p>;
  const namespace = deployment.id.slice(0, deployment.id.indexOf("."));
  const sources = new Map((builds.data?.items ?? []).map((b) => [b.id, b.resource?.status?.source]));
  const revisions = [...status.revisions].sort((a, b) => b.number - a.number);
  const chosen = pair(query.get("compare"));
  const wanted = deployment.resource?.spec.replicas ?? 1;
  return (
    <div class="table-wrap" tabIndex={0}>
      <table class="revisions">
        <thead>
          <tr>
            <th class="num">Revision</th>
            <th>State</th>
            <th>Runs</th>
            <th>Begun</th>
            <th class="hide-narrow">Rollout</th>
            {revisions.length > 1 && <th>Compare</th>}
          </tr>
        </thead>
        <tbody>
          {revisions.map((r) => {
            return (
              <tr key={r.number} class={chosen?.includes(r.number) ? "at" : ""}>
                <td class="num">{r.number}</td>
                <td>
                  <Mark state={r.state} title={r.reason} />
                  {r.state === "Serving" && <Replicas status={status} wanted={wanted} />}
                </td>
                <td class="runs">
                  {r.build ? <a href={href(["builds", `${namespace}.${r.build}`])}>{r.build}</a> : <code>{r.image}</code>}
                  <Subject of={sources.get(`${namespace}.${r.build}`)} />
                </td>
                <td class="nowrap">
                  <Time at={r.startedAt} />
                </td>
                <td class="hide-narrow">{rollout(r, revisions)}</td>
                {revisions.length > 1 && (
                  <td>
                    <Choose revision={r} revisions={revisions} chosen={chosen} />
                  </td>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** One against the one before it; with a pair chosen, another one takes the place of its older half. */
function Choose({ revision, revisions, chosen }: { revision: Revision; revisions: Revision[]; chosen: readonly [number, number] | undefined }): JSX.Element | null {
  const { number } = revision;
  if (chosen?.includes(number))
    return (
      <button class="on" aria-pressed={true} aria-label={`leave revision ${number} out of the comparison`} onClick={() => choose({ compare: undefined }, false)}>
        ✓
      </button>
    );
  const before = revisions.find((r) => r.number < number) ?? revisions.find((r) => r.number > number);
  const other = chosen ? chosen[1] : before?.number;
  if (other === undefined) return null;
  return (
    <button aria-label={`compare revision ${number} with ${other}`} onClick={() => choose({ compare: `${number},${other}` }, false)}>
      with {other}
    </button>
  );
}

/** What became of it, in words. */
function rollout(r: Revision, all: Revision[]): string {
  // Statuses have whole seconds.
  const took = (from: string | undefined, to: string | undefined): string => (!from || !to ? "" : ms(to) - ms(from) < 1000 ? "less than 1 s" : duration(Math.round((ms(to) - ms(from)) / 1000) * 1000));
  const before = all.find((other) => other.number < r.number && other.endedAt && other.endedAt === r.readyAt);
  const after = all.find((other) => other.number > r.number && r.endedAt && other.readyAt === r.endedAt);
  const told: string[] = [];
  if (r.readyAt) told.push(`ready after ${took(r.startedAt, r.readyAt)}${before ? `, instead of ${before.number}` : ""}`);
  if (r.state === "Failed") told.push(`given up${r.endedAt ? ` after ${took(r.startedAt, r.endedAt)}` : ""}: ${r.reason || "see the events"}`);
  else if (r.readyAt && r.endedAt) told.push(`served for ${took(r.readyAt, r.endedAt)}${after ? `, until ${after.number}` : ""}`);
  return told.join("; ");
}

/** A dot for each replica that is wanted or runs, and the same in words. */
function Replicas({ status, wanted }: { status: DeploymentStatus; wanted: number }): JSX.Element {
  const ready = status.readyReplicas ?? 0;
  const running = Math.max(status.replicas ?? 0, ready);
  const all = Math.max(wanted, running);
  const words = [`${ready} of ${wanted} ready`, running > ready ? `${running - ready} not ready` : "", status.restarts ? `${status.restarts} ${status.restarts === 1 ? "restart" : "restarts"}` : ""].filter(Boolean).join(", ");
  const shown = Math.min(all, 24);
  return (
    <span class="replicas">
      <span aria-hidden="true">
        {Array.from({ length: shown }, (_, i) => (
          <i key={i} class={i < ready ? "ready" : i < running ? "busy" : "none"} />
        ))}
      </span>{" "}
      <span class="soft">{words}</span>
    </span>
  );
}
