/** Why did it fail, where is it now? */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Build, BuildStatus, Deployment, Page, Step } from "../api";
import { get, part, post } from "../api";
import { useAsked } from "../asking";
import { bytes, duration, full, ms, spaced } from "../format";
import { useOlder } from "../older";
import { Copyable, Mark, Ready, Time } from "../parts/bits";
import { Committed } from "../parts/commit";
import { Events } from "../parts/events";
import { FailureCard } from "../parts/failure";
import { type About as AboutStep, headId } from "../parts/loghead";
import { LogView, type Shown } from "../parts/logview";
import { choose, href, listed } from "../place";
import { useLines } from "../streaming";
import "./deployment.css";

export function BuildRoom({ id }: { id: string }): JSX.Element {
  const build = useAsked<Build>(`builds/${part(id)}`, {}, 10_000);
  const [fresh, setFresh] = useState<BuildStatus>();
  const stream = useLines(`build:${id}`, {}, (message) => {
    if (message.type === "build:status") setFresh(message.status as BuildStatus);
  });
  const [error, setError] = useState("");
  const [jump, setJump] = useState(0);
  const status = fresh ?? build.data?.resource?.status;
  const gone = build.error?.status === 404 && !stream.lines.length;
  const running = status?.phase === "Building" || status?.phase === "Queued";
  const meta = build.data?.resource?.metadata;
  // The stream began with the newest lines; those of a long build are looked up when they are wanted.
  const older = useOlder(id, stream, {
    path: stream.full && meta ? `projects/${part(`${meta.namespace}.${build.data!.resource!.spec.project}`)}/logs` : "",
    params: { build: id, from: meta?.creationTimestamp && new Date(ms(meta.creationTimestamp) - 60_000).toISOString() },
    ready: stream.started,
  });
  // Of one that has failed when the reader comes the steps that went well are folded. Nothing is folded before a reader's eyes.
  const first = useRef<string[] | undefined>(undefined);
  first.current ??= status && (status.phase === "Failed" ? (status.steps ?? []).filter((step) => stateOf(step, status)[0] === "good").map((step) => step.name) : []);
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
        {running && <button onClick={() => void cancel()}>Cancel</button>}
        {status?.duration && <span class="soft">{spaced(status.duration)}</span>}
        {status?.artifact?.size ? <span class="soft">artifact of {bytes(status.artifact.size)}</span> : null}
      </div>
      {error && (
        <div class="problem" role="alert">
          {error}
        </div>
      )}
      {status?.failure && <FailureCard failure={status.failure} id={id} />}
      <Steps
        status={status}
        lines={stream.lines}
        open={(step) => {
          choose({ line: headId({ key: step }) });
          setJump((n) => n + 1);
        }}
      />
      <Ready of={build}>
        {(found) => (
          <>
            <About id={id} build={found} status={status} />
            <Events events={found.events ?? []} />
          </>
        )}
      </Ready>
      {stream.note && !gone && <p class="soft">{stream.note}</p>}
      {older.problem && (
        <div class="problem" role="alert">
          Older lines cannot be shown: {older.problem.message}
        </div>
      )}
      {/* What is folded at first depends on how it stands: lines that are quicker wait for it. */}
      {gone ? (
        <p>
          <a href={listed("builds")}>All builds</a>
        </p>
      ) : status || build.error ? (
        <LogView
          lines={stream.lines}
          version={stream.version}
          before={stream.before}
          older={older.older}
          loading={older.loading}
          name={id}
          live={running}
          whole
          jump={jump}
          grouped={{ about: (name) => aboutStep(name, status), folded: first.current ?? [] }}
          everything={status?.logComplete ? async () => (await get<{ text: string }>(`builds/${part(id)}/logs`)).text : undefined}
          empty={stream.started ? "It has printed nothing yet." : "Loading …"}
        />
      ) : (
        <div class="skeleton" />
      )}
    </>
  );
}

const took = (step: Step): string => (step.startedAt ? duration((step.finishedAt ? ms(step.finishedAt) : Date.now()) - ms(step.startedAt)) : "");

function aboutStep(name: string, status: BuildStatus | undefined): AboutStep | undefined {
  const step = status?.steps?.find((one) => one.name === name);
  if (!step || !status) return undefined;
  const [kind, word] = stateOf(step, status);
  return { kind, word, told: [took(step), step.exitCode ? `exit code ${step.exitCode}` : ""].filter(Boolean).join(", ") };
}

/** Names of the steps that have printed something; each line is looked at once. */
function usePrinted(lines: readonly Shown[]): ReadonlySet<string> {
  const kept = useRef({ first: "", upTo: 0, names: new Set<string>() });
  const first = lines[0]?.id ?? "";
  if (kept.current.first !== first || kept.current.upTo > lines.length) kept.current = { first, upTo: 0, names: new Set() };
  const { names } = kept.current;
  for (; kept.current.upTo < lines.length; kept.current.upTo++) {
    const { group } = lines[kept.current.upTo]!;
    if (group !== undefined) names.add(group);
  }
  return names;
}

/** The steps with how long they took; each leads to its part of the log. */
function Steps({ status, lines, open }: { status: BuildStatus | undefined; lines: Shown[]; open: (step: string) => void }): JSX.Element | null {
  const printed = usePrinted(lines);
  if (!status?.steps?.length) return null;
  return (
    <ol class="steps" aria-label="steps">
      {status.steps.map((step) => {
        const [kind, word] = stateOf(step, status);
        const told = (
          <>
            <span class={`mark ${kind}`}>{step.name}</span> <span class="only-heard">{word}</span> <span class="soft">{took(step)}</span>
            {step.exitCode ? <span class="soft">, exit code {step.exitCode}</span> : null}
          </>
        );
        return (
          <li key={step.name} title={[word, step.startedAt ? full(step.startedAt) : ""].filter(Boolean).join(", ")}>
            {printed.has(step.name) ? (
              <button class="step" onClick={() => open(step.name)}>
                {told}
              </button>
            ) : (
              <span class="step">{told}</span>
            )}
          </li>
        );
      })}
    </ol>
  );
}

function stateOf(step: Step, status: BuildStatus): [kind: string, word: string] {
  if (!step.finishedAt) return status.phase === "Building" ? ["busy", "running"] : ["bad", "not ended"];
  if (step.exitCode || status.failure?.step === step.name) return ["bad", "failed"];
  return ["good", "succeeded"];
}

/** What was built from, for whom, how long it waited, and who runs it. */
function About({ id, build, status }: { id: string; build: Build; status: BuildStatus | undefined }): JSX.Element | null {
  const namespace = id.slice(0, id.indexOf("."));
  const spec = build.resource?.spec;
  const project = spec ? `${namespace}.${spec.project}` : "";
  const deployments = useAsked<Page<Deployment>>(project ? "deployments" : "", { project, limit: 200 }, 15_000);
  if (!spec) return null;
  const name = id.slice(namespace.length + 1);
  const runs = (deployments.data?.items ?? []).flatMap((d) => (d.resource?.status?.revisions ?? []).filter((r) => r.build === name).map((r) => ({ d, r })));
  const waited = status?.queuedAt && status.startedAt ? ms(status.startedAt) - ms(status.queuedAt) : 0;
  return (
    <dl class="facts about">
      <dt>Source</dt>
      <dd>
        {sourceOf(spec.source)}
      </dd>
      {status?.source?.commit && (
        <>
          <dt>Commit</dt>
          <dd>
            <Committed of={status.source} />
          </dd>
        </>
      )}
      <dt>Begun</dt>
      <dd>
        <Time at={status?.startedAt || status?.queuedAt} />
        {waited >= 1000 && <span class="soft">, after it waited for {duration(waited)}</span>}
        {(status?.attempt ?? 0) > 1 && <span class="soft">, attempt {status?.attempt}</span>}
        {status?.phase === "Queued" && status.message && <span class="soft">, {status.message}</span>}
      </dd>
      {runs.length > 0 && (
        <>
          <dt>Runs</dt>
          <dd>
            {runs.map(({ d, r }) => (
              <span key={d.id + r.number} class="run">
                <a href={href(["deployments", d.id], { project: d.projectId })}>{d.id}</a> <span class="soft">revision {r.number},</span> <Mark state={r.state} />
              </span>
            ))}
          </dd>
        </>
      )}
      {status?.failure && (
        <>
          <dt>Its log</dt>
          <dd>
            <code>spanyard build-log {id}</code> <Copyable text={`spanyard build-log ${id}`} shown="Copy" />
          </dd>
        </>
      )}
    </dl>
  );
}

function sourceOf(source: Record<string, unknown> | undefined): string {
  const of = (name: string): Record<string, string> | undefined => source?.[name] as Record<string, string> | undefined;
  const git = of("git");
  if (git) return `${git["url"]}, ${git["revision"] ?? "HEAD"}`;
  return of("directory")?.["path"] ?? of("archive")?.["digest"] ?? of("artifact")?.["path"] ?? of("artifact")?.["digest"] ?? "–";
}
