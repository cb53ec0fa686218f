/** What runs, since when, is the new one worse, and what does it print? */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Deployment, DeploymentStatus } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { failing, line, type TraceSeries, UNITS } from "../figures";
import { cost, count, ofNs } from "../format";
import type { Message } from "../live";
import { Copyable, Mark, Ready, Time } from "../parts/bits";
import { Events } from "../parts/events";
import { FailureCard } from "../parts/failure";
import { LogView } from "../parts/logview";
import { Spark } from "../parts/spark";
import { choose, href, listed, usePlace } from "../place";
import { levelFilter, useLines } from "../streaming";
import { when } from "../when";
import "./deployment.css";
import { Comparison } from "./deployment-compare";
import { Revisions } from "./deployment-revisions";
import { Timeline } from "./deployment-timeline";
import { stateOf } from "./deployments";

export function DeploymentRoom({ id, level }: { id: string; level: string }): JSX.Element {
  const { query } = usePlace();
  const found = useAsked<Deployment>(`deployments/${part(id)}`, {}, 10_000);
  const [fresh, setFresh] = useState<DeploymentStatus>();
  const listeners = useRef(new Set<(message: Message) => void>());
  const stream = useLines(`server:${id}`, levelFilter(level), (message) => {
    if (message.type === "deployment:status") setFresh(message.status as DeploymentStatus);
    for (const hear of listeners.current) hear(message);
  });
  const status = fresh ?? found.data?.resource?.status;
  const gone = found.error?.status === 404 && !stream.lines.length;
  const project = found.data?.projectId;
  const story = query.get("view") === "timeline";
  const tab = (name: string, of: string | undefined): JSX.Element => (
    <button role="tab" aria-selected={story === (of === "timeline")} onClick={() => choose({ view: of, entry: undefined }, false)}>
      {name}
    </button>
  );
  return (
    <>
      <div class="head">
        <h1>{id}</h1>
        {!gone && <Mark state={stateOf(status)} />}
        {status?.endpoint && <code>{status.endpoint}</code>}
        {project && <a href={href(["traces"], { project })}>traces</a>}
      </div>
      <Ready of={found}>
        {(d) => (
          <>
            <Why status={status} />
            {status?.failure && <FailureCard failure={status.failure} />}
            <Numbers deployment={d} />
            <Revisions deployment={d} status={status} />
            <Comparison deployment={d} status={status} />
            <Events events={d.events ?? []} health />
            <Commands id={id} status={status} />
          </>
        )}
      </Ready>
      {gone && (
        <p>
          <a href={listed("deployments")}>All deployments</a>
        </p>
      )}
      {!gone && <div class="tabs room-tabs" role="tablist" aria-label="log or timeline">
        {tab("Log", undefined)}
        {tab("Timeline", "timeline")}
      </div>}
      {gone ? null : story ? (
        <Timeline id={id} project={project} listeners={listeners.current} />
      ) : (
        <>
          {stream.note && <p class="soft">{stream.note}</p>}
          <LogView lines={stream.lines} version={stream.version} name={id} project={project} live empty={stream.started ? "It has printed nothing yet." : "Loading …"} />
        </>
      )}
    </>
  );
}

/** Why it is as it is, and since when: the words of its conditions. */
function Why({ status }: { status: DeploymentStatus | undefined }): JSX.Element | null {
  const told = (status?.conditions ?? []).filter((c) => c.type === "Ready" || c.status === "True");
  if (!told.length) return null;
  return (
    <ul class="why">
      {told.map((c) => (
        <li key={c.type}>
          <strong>{c.type === "Ready" && c.status !== "True" ? "Not ready" : c.type}</strong> {c.message || c.reason} <span class="soft">since</span> <Time at={c.lastTransitionTime} />
        </li>
      ))}
    </ul>
  );
}

/** How it did in the time that is shown: requests, failures, p95, and what they cost. */
function Numbers({ deployment }: { deployment: Deployment }): JSX.Element {
  const { query } = usePlace();
  const { from, to, label } = when(query);
  const found = useAsked<TraceSeries>(`projects/${part(deployment.projectId)}/traces/series`, { from, to, buckets: 60, deployment: deployment.name }, 10_000);
  const series = found.data?.series[0];
  const total = series?.total;
  const share = total ? failing(total) : null;
  const fact = (name: string, value: string, measure: "requests" | "errors" | "p95" | "tokens", kind: "" | "bad" = ""): JSX.Element => (
    <div class="number">
      <span class="soft small">{name}</span>
      <strong>{value}</strong>
      {series && found.data && <Spark values={line(measure, series, found.data)} label={`${name}, ${label}: ${value} in all`} kind={kind} />}
    </div>
  );
  return (
    <section class="numbers" aria-label={`requests, ${label}`}>
      {fact("requests", total ? count(total.traces) : found.error ? "–" : "…", "requests")}
      {fact("failed", share === null ? "–" : UNITS.percent(share), "errors", "bad")}
      {fact("p95", total && total.p95Ns !== null ? ofNs(total.p95Ns) : "–", "p95")}
      {fact("tokens", total ? `${count(total.inputTokens + total.outputTokens)}${total.cost ? ` · ${cost(total.cost)}` : ""}` : "–", "tokens")}
      <span class="soft small">{label}</span>
    </section>
  );
}

/** What to type where one types: the page changes nothing here. */
function Commands({ id, status }: { id: string; status: DeploymentStatus | undefined }): JSX.Element | null {
  if (!status) return null;
  const [namespace, name] = [id.slice(0, id.indexOf(".")), id.slice(id.indexOf(".") + 1)];
  const before = [...(status.revisions ?? [])].reverse().find((r) => r.state === "Replaced" && r.build && r.build !== status.build);
  const patch = before && JSON.stringify({ buildRef: { name: before.build }, follow: null });
  const laptop = status.collector?.mode === "shim";
  const base = new URL("..", document.baseURI).href;
  return (
    <details>
      <summary>Commands</summary>
      {patch ? (
        <>
          <p class="soft small">
            Back to what revision {before.number} ran, {before.build} (<code>follow: true</code> in its place later follows new builds again):
          </p>
          <Copyable
            text={
              laptop
                ? `curl -X PATCH ${base}deployments/${id} -H 'Content-Type: application/json' -d '${patch}'`
                : `kubectl patch sdep/${name} -n ${namespace} --type merge -p '{"spec":${patch}}'`
            }
          />
        </>
      ) : (
        <p class="soft small">There is no earlier build to go back to.</p>
      )}
      <p class="soft small">All that is known of it, Events too:</p>
      <Copyable text={laptop ? `curl ${base}deployments/${id}` : `kubectl describe sdep/${name} -n ${namespace}`} />
    </details>
  );
}
