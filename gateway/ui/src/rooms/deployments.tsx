/** What runs? A row per deployment. */
import type { JSX } from "preact";
import type { Deployment, DeploymentStatus, Page } from "../api";
import { useAsked } from "../asking";
import { useListKeys } from "../focus";
import { Empty, Mark, Ready, Row } from "../parts/bits";
import { href } from "../place";

export const stateOf = (status: DeploymentStatus | undefined): string =>
  status?.conditions?.find((c) => c.type === "Ready")?.status === "True" ? "Serving" : status?.reason ?? "unknown";

export function Deployments({ project }: { project: string }): JSX.Element {
  const found = useAsked<Page<Deployment>>("deployments", {}, 3_000);
  useListKeys("tr.link a");
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
