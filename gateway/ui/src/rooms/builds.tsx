/** Why did it fail, where is it now? */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Build, BuildStatus, Failure, Page } from "../api";
import { part, post } from "../api";
import { useAsked } from "../asking";
import { bytes, duration, full, ms } from "../format";
import { Copyable, Empty, Mark, Ready, Row, Time } from "../parts/bits";
import { LogView } from "../parts/logview";
import { href } from "../place";
import { useLines } from "../streaming";

export function Builds({ project }: { project: string }): JSX.Element {
  const builds = useAsked<Page<Build>>("builds", {}, 3_000);
  return (
    <>
      <div class="head">
        <h1>Builds</h1>
      </div>
      <Ready of={builds}>
        {(found) => {
          const mine = found.items.filter((b) => !project || !b.resource || `${b.resource.metadata.namespace}.${b.resource.spec.project}` === project);
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
                    <th class="num">Duration</th>
                    <th>Begun</th>
                  </tr>
                </thead>
                <tbody>
                  {mine.map((b) => (
                    <Row key={b.id} to={href(["builds", b.id])}>
                      <td>
                        <a href={href(["builds", b.id])}>{b.id}</a>
                      </td>
                      <td>
                        <Mark state={b.resource?.status?.phase ?? (b.complete ? "ended" : "unknown")} />
                      </td>
                      <td class="hide-narrow">{b.resource?.status?.failure?.message ?? b.resource?.status?.message ?? ""}</td>
                      <td class="num">{b.resource?.status?.duration ?? "–"}</td>
                      <td class="nowrap">
                        <Time at={b.resource?.status?.startedAt ?? b.resource?.metadata.creationTimestamp} />
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

export function BuildRoom({ id }: { id: string }): JSX.Element {
  const build = useAsked<Build>(`builds/${part(id)}`, {}, 10_000);
  const [fresh, setFresh] = useState<BuildStatus>();
  const stream = useLines(`build:${id}`, {}, (message) => {
    if (message.type === "build:status") setFresh(message.status as BuildStatus);
  });
  const [error, setError] = useState("");
  const status = fresh ?? build.data?.resource?.status;
  const running = status?.phase === "Building" || status?.phase === "Queued";
  const cancel = async (): Promise<void> => {
    try {
      await post(`builds/${part(id)}/cancel`, {});
    } catch (problem) {
      setError(String((problem as Error).message));
    }
  };
  return (
    <>
      <div class="head">
        <h1>{id}</h1>
        {status?.phase && <Mark state={status.phase} />}
        {running && <button onClick={cancel}>Cancel</button>}
        {status?.duration && <span class="soft">{status.duration}</span>}
        {status?.source?.commit && <code title="commit">{status.source.commit.slice(0, 12)}</code>}
        {status?.artifact?.size ? <span class="soft">artifact of {bytes(status.artifact.size)}</span> : null}
      </div>
      {error && <div class="problem">{error}</div>}
      <Ready of={build}>{() => null}</Ready>
      {status?.failure && <FailureCard failure={status.failure} />}
      <Steps status={status} />
      {stream.note && <p class="soft">{stream.note}</p>}
      <LogView
        lines={stream.lines}
        version={stream.version}
        name={id}
        live={running}
        empty={stream.started ? "It has printed nothing yet." : "Loading …"}
      />
    </>
  );
}

export function FailureCard({ failure }: { failure: Failure }): JSX.Element {
  return (
    <section class="problem" aria-label="failure">
      <h2>
        {failure.reason}
        {failure.step ? ` in ${failure.step}` : ""}
        {failure.exitCode !== null && failure.exitCode !== undefined ? `, exit code ${failure.exitCode}` : ""}
      </h2>
      <div>{failure.message}</div>
      {failure.remedy && <div>{failure.remedy}</div>}
      {failure.lastLines && failure.lastLines.length > 0 && <Copyable text={failure.lastLines.join("\n")} />}
    </section>
  );
}

function Steps({ status }: { status: BuildStatus | undefined }): JSX.Element | null {
  if (!status?.steps?.length) return null;
  return (
    <ol class="steps">
      {status.steps.map((step) => {
        const state = step.finishedAt ? (step.exitCode ? "Failed" : "Succeeded") : "running";
        const took = step.startedAt ? duration((step.finishedAt ? ms(step.finishedAt) : Date.now()) - ms(step.startedAt)) : "";
        return (
          <li key={step.name} title={step.startedAt ? full(step.startedAt) : ""}>
            <Mark state={state} /> {step.name} <span class="soft">{took}</span>
          </li>
        );
      })}
    </ol>
  );
}
