/** What was built? A row per build. */
import type { JSX } from "preact";
import type { Build, Page } from "../api";
import { useAsked } from "../asking";
import { useListKeys } from "../focus";
import { spaced } from "../format";
import { Empty, Mark, Ready, Row, Time } from "../parts/bits";
import { Subject } from "../parts/commit";
import { href } from "../place";

export const isOf = (build: Build, project: string): boolean => !project || !build.resource || `${build.resource.metadata.namespace}.${build.resource.spec.project}` === project;
export const begun = (build: Build): string | undefined => build.resource?.status?.startedAt ?? build.resource?.metadata.creationTimestamp;
/** Those of which only a log is left stand last. */
export const newestFirst = (a: Build, b: Build): number => (begun(b) ?? "").localeCompare(begun(a) ?? "") || a.id.localeCompare(b.id);

export function Builds({ project }: { project: string }): JSX.Element {
  const builds = useAsked<Page<Build>>("builds", {}, 3_000);
  useListKeys("tr.link a");
  return (
    <>
      <div class="head">
        <h1>Builds</h1>
      </div>
      <Ready of={builds}>
        {(found) => {
          const mine = found.items.filter((b) => isOf(b, project)).sort(newestFirst);
          return mine.length === 0 ? (
            <Empty command="spanyard deploy ./my-agent">Nothing was built yet.</Empty>
          ) : (
            <div class="table-wrap" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th>Build</th>
                    <th>Phase</th>
                    <th class="hide-narrow">Reason</th>
                    <th class="num hide-narrow">Duration</th>
                    <th>Begun</th>
                  </tr>
                </thead>
                <tbody>
                  {mine.map((b) => (
                    <Row key={b.id} to={href(["builds", b.id])}>
                      <td>
                        <a href={href(["builds", b.id])}>{b.id}</a>
                        <Subject of={b.resource?.status?.source} />
                      </td>
                      <td>
                        <Mark state={b.resource?.status?.phase ?? (b.complete ? "ended" : "unknown")} />
                      </td>
                      <td class="hide-narrow">{b.resource?.status?.failure?.message ?? b.resource?.status?.message ?? ""}</td>
                      <td class="num hide-narrow nowrap">{b.resource?.status?.duration ? spaced(b.resource.status.duration) : "–"}</td>
                      <td class="nowrap">
                        <Time at={begun(b)} />
                      </td>
                    </Row>
                  ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Ready>
    </>
  );
}
