/** What runs, since when, and what does it print? */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Deployment, DeploymentStatus, Page, ResourceEvent } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { Empty, Mark, Ready, Row, Time } from "../parts/bits";
import { LogView } from "../parts/logview";
import { href } from "../place";
import { levelFilter, useLines } from "../streaming";
import { FailureCard } from "./builds";

const stateOf = (status: DeploymentStatus | undefined): string =>
  status?.conditions?.find((c) => c.type === "Ready")?.status === "True" ? "Serving" : status?.reason ?? "unknown";

export function Deployments({ project }: { project: string }): JSX.Element {
  const found = useAsked<Page<Deployment>>("deployments", {}, 3_000);
  return (
    <>
      <div class="head">
        <h1>Deployments</h1>
      </div>
      <Ready of={found}>
        {(page) => {
          const mine = page.items.filter((d) => !project || d.projectId === project);
          return mine.length === 0 ? (
            <Empty command="spanyard deploy ./my-agent">Nothing runs yet.</Empty>
          ) : (
            <div class="table-wrap" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th>Deployment</th>
                    <th>State</th>
                    <th class="num">Revision</th>
                    <th class="num">Replicas</th>
                    <th class="num hide-narrow">Restarts</th>
                    <th class="hide-narrow">Build</th>
                    <th class="hide-narrow">Message</th>
                  </tr>
                </thead>
                <tbody>
                  {mine.map((d) => {
                    const status = d.resource?.status;
                    const to = href(["deployments", d.id], { project: d.projectId });
                    return (
                      <Row key={d.id} to={to}>
                        <td>
                          <a href={to}>{d.id}</a>
                        </td>
                        <td>
                          <Mark state={stateOf(status)} />
                        </td>
                        <td class="num">{status?.revision ?? "–"}</td>
                        <td class="num">
                          {status?.readyReplicas ?? 0}/{status?.replicas ?? 0}
                        </td>
                        <td class="num hide-narrow">{status?.restarts ?? 0}</td>
                        <td class="hide-narrow">{status?.build ?? ""}</td>
                        <td class="hide-narrow">{status?.message ?? ""}</td>
                      </Row>
                    );
                  })}
                </tbody>
              </table>
            </div>
          );
        }}
      </Ready>
    </>
  );
}

export function DeploymentRoom({ id, level }: { id: string; level: string }): JSX.Element {
  const found = useAsked<Deployment>(`deployments/${part(id)}`, {}, 10_000);
  const [fresh, setFresh] = useState<DeploymentStatus>();
  const stream = useLines(`server:${id}`, levelFilter(level), (message) => {
    if (message.type === "deployment:status") setFresh(message.status as DeploymentStatus);
  });
  const status = fresh ?? found.data?.resource?.status;
  const project = found.data?.projectId;
  return (
    <>
      <div class="head">
        <h1>{id}</h1>
        <Mark state={stateOf(status)} />
        {status?.endpoint && <code>{status.endpoint}</code>}
        {project && <a href={href(["traces"], { project })}>traces</a>}
      </div>
      <Ready of={found}>
        {(d) => (
          <>
            {status?.failure && <FailureCard failure={status.failure} />}
            <Revisions status={status} namespace={id.split(".")[0]!} />
            <Events events={d.events ?? []} />
          </>
        )}
      </Ready>
      <h2>Log</h2>
      {stream.note && <p class="soft">{stream.note}</p>}
      <LogView lines={stream.lines} version={stream.version} name={id} project={project} live empty={stream.started ? "It has printed nothing yet." : "Loading …"} />
    </>
  );
}

function Revisions({ status, namespace }: { status: DeploymentStatus | undefined; namespace: string }): JSX.Element | null {
  if (!status?.revisions?.length) return null;
  return (
    <div class="table-wrap" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th class="num">Revision</th>
            <th>State</th>
            <th>Runs</th>
            <th>Begun</th>
            <th class="hide-narrow">Reason</th>
          </tr>
        </thead>
        <tbody>
          {[...status.revisions].reverse().map((r) => (
            <tr key={r.number}>
              <td class="num">{r.number}</td>
              <td>
                <Mark state={r.state} />
                {r.state === "Serving" && (
                  <span class="soft">
                    {" "}
                    {status.readyReplicas ?? 0} of {status.replicas ?? 0} ready
                  </span>
                )}
              </td>
              <td>{r.build ? <a href={href(["builds", `${namespace}.${r.build}`])}>{r.build}</a> : <code>{r.image}</code>}</td>
              <td class="nowrap">
                <Time at={r.startedAt} />
              </td>
              <td class="hide-narrow">{r.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Events({ events }: { events: ResourceEvent[] }): JSX.Element | null {
  if (!events.length) return null;
  return (
    <details>
      <summary>{events.length} events</summary>
      <ul>
        {[...events].reverse().map((event) => (
          <li key={event.time + event.reason}>
            <Time at={event.time} /> <strong>{event.reason}</strong> {event.message}
            {event.count && event.count > 1 ? ` (${event.count} times)` : ""}
          </li>
        ))}
      </ul>
    </details>
  );
}
