/** The frame: rail, bar, and the room that the address names. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Page, post, type Project, Refused } from "./api";
import { useAsked } from "./asking";
import { live, type State } from "./live";
import { choose, followLinks, go, here, href, usePlace } from "./place";
import { BuildRoom, Builds } from "./rooms/builds";
import { DeploymentRoom, Deployments } from "./rooms/deployments";
import { Logs } from "./rooms/logs";
import { Overview } from "./rooms/overview";
import { ProofRoom } from "./rooms/proof";
import { TraceRoom } from "./rooms/trace";
import { Traces } from "./rooms/traces";

const ROOMS = [
  ["", "Overview"],
  ["builds", "Builds"],
  ["deployments", "Deployments"],
  ["traces", "Traces"],
  ["logs", "Logs"],
  ["proof", "Proof"],
] as const;
const RANGES = [
  ["15m", "last 15 minutes"],
  ["1h", "last hour"],
  ["6h", "last 6 hours"],
  ["1d", "last day"],
  ["7d", "last 7 days"],
  ["30d", "last 30 days"],
] as const;
const KEYS = [
  ["/", "search"],
  ["j k", "next, previous"],
  ["← →", "fold, unfold"],
  ["e", "next error"],
  ["f", "follow"],
  ["g o/b/d/t/l/p", "go to a room"],
  ["?", "this list"],
] as const;

export function App(): JSX.Element {
  const { path, query } = usePlace();
  const projects = useAsked<Page<Project>>("projects", {}, 15_000);
  const [state, setState] = useState<State>("idle");
  const help = useRef<HTMLDialogElement>(null);
  useEffect(() => live.watch(setState), []);
  useEffect(() => {
    addEventListener("click", followLinks);
    return () => removeEventListener("click", followLinks);
  }, []);
  useKeys(() => help.current?.showModal());
  const only = projects.data?.items.length === 1 ? projects.data.items[0]!.id : "";
  const project = path[0] === "traces" && path[1] ? path[1] : query.get("project") ?? only;
  const range = query.get("range") ?? "1h";
  const [room, ...rest] = path;
  useEffect(() => {
    const name = ROOMS.find(([key]) => key === (room ?? ""))?.[1] ?? "Spanyard";
    document.title = [rest[rest.length - 1], name, "Spanyard"].filter(Boolean).join(" · ");
  }, [path.join("/")]);
  if (projects.error?.status === 401) return <Login again={projects.again} />;
  return (
    <div class="frame">
      <a class="skip" href="#room">
        Skip to the room
      </a>
      <nav class="rail" aria-label="rooms">
        <a class="brand" href={href([])}>
          Spanyard
        </a>
        {ROOMS.map(([key, name]) => (
          <a key={key} class="room" href={href(key ? [key] : [])} aria-current={(room ?? "") === key ? "page" : undefined}>
            {name}
          </a>
        ))}
        <span class="foot">
          Keys: <kbd>?</kbd>
        </span>
      </nav>
      <div class="main">
        <div class="bar">
          <select
            aria-label="project"
            value={project}
            onChange={(e) => {
              const chosen = e.currentTarget.value || undefined;
              if (path[0] === "traces" && path[1]) go(href(["traces"], { project: chosen }));
              else choose({ project: chosen });
            }}
          >
            <option value="">all projects</option>
            {(projects.data?.items ?? []).map((p) => (
              <option key={p.id} value={p.id}>
                {p.id}
              </option>
            ))}
            {project && !projects.data?.items.some((p) => p.id === project) && <option value={project}>{project}</option>}
          </select>
          <select aria-label="time range" value={range} onChange={(e) => choose({ range: e.currentTarget.value, between: undefined })}>
            {RANGES.map(([key, name]) => (
              <option key={key} value={key}>
                {name}
              </option>
            ))}
          </select>
          <form
            class="grow"
            role="search"
            onSubmit={(e) => {
              e.preventDefault();
              const text = String(new FormData(e.currentTarget).get("text") ?? "").trim();
              if (/^[0-9a-f]{32}$/.test(text) && project) go(href(["traces", project, text]));
              else go(href(["logs"], { text: text || undefined, project: project || undefined }));
            }}
          >
            <input id="search" name="text" type="search" placeholder="Search log lines, or paste a trace id   ( / )" aria-label="Search log lines, or paste a trace id" />
          </form>
        </div>
        {state === "lost" && (
          <div class="banner" role="status">
            The connection is lost. It comes back by itself, and goes on where it was.
          </div>
        )}
        <main id="room" class="room-body" tabIndex={-1}>
          <Room key={path.join("/")} room={room ?? ""} rest={rest} project={project} range={range} level={query.get("level") ?? ""} />
        </main>
      </div>
      <dialog ref={help} aria-label="keys">
        <h1>Keys</h1>
        <dl class="facts">
          {KEYS.map(([key, what]) => (
            <>
              <dt key={key}>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </>
          ))}
        </dl>
        <p>
          <button onClick={() => help.current?.close()}>Close</button>
        </p>
      </dialog>
    </div>
  );
}

function Room({ room, rest, project, range, level }: { room: string; rest: string[]; project: string; range: string; level: string }): JSX.Element {
  const id = rest[0];
  switch (room) {
    case "":
      return <Overview project={project} since={range} />;
    case "builds":
      return id ? <BuildRoom id={id} /> : <Builds project={project} />;
    case "deployments":
      return id ? <DeploymentRoom id={id} level={level} /> : <Deployments project={project} />;
    case "traces":
      return id && rest[1] ? <TraceRoom project={id} id={rest[1]} /> : <Traces project={project} since={range} />;
    case "logs":
      return <Logs project={project} />;
    case "proof":
      return <ProofRoom project={project} />;
    default:
      return (
        <div class="empty">
          There is no such room. <a href={href([])}>Overview</a>
        </div>
      );
  }
}

function useKeys(help: () => void): void {
  useEffect(() => {
    let before = "";
    const pressed = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if ((event.target as Element).matches?.("input, textarea, select")) {
        if (event.key === "Escape") (event.target as HTMLElement).blur();
        return;
      }
      const rooms: Record<string, string[]> = { o: [], b: ["builds"], d: ["deployments"], t: ["traces"], l: ["logs"], p: ["proof"] };
      const room = before === "g" ? rooms[event.key] : undefined;
      before = event.key;
      if (room) go(href(room));
      else if (event.key === "/") document.getElementById("search")?.focus();
      else if (event.key === "?") help();
      else if (event.key === "Escape" && !document.querySelector("dialog[open]") && here().path.length > 1) go(href(here().path.slice(0, 1)));
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Login({ again }: { again: () => void }): JSX.Element {
  const [error, setError] = useState("");
  return (
    <main class="room-body" style={{ maxWidth: "480px", margin: "10vh auto" }}>
      <h1>Sign in to Spanyard</h1>
      <p>
        Paste a Kubernetes token. <code>kubectl create token NAME</code> makes one for a service account. It is shown to the gateway once and kept nowhere.
      </p>
      <form
        onSubmit={async (e) => {
          e.preventDefault();
          try {
            await post("login", { token: String(new FormData(e.currentTarget).get("token")).trim() });
            await get("projects");
            again();
          } catch (problem) {
            setError(problem instanceof Refused ? problem.message : String(problem));
          }
        }}
      >
        <input name="token" type="password" autocomplete="off" required aria-label="token" style={{ width: "100%" }} />
        <p>
          <button>Sign in</button>
        </p>
      </form>
      {error && (
        <div class="problem" role="alert">
          {error}
        </div>
      )}
    </main>
  );
}
