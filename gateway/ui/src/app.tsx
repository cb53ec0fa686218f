/** The frame: rail, bar, and the room that the address names. */
import type { JSX, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Page, Project } from "./api";
import { useAsked } from "./asking";
import { useFocusInRoom } from "./focus";
import { duration, showUtc, visible } from "./format";
import { busy, KEYS } from "./keys";
import { live, type Missed, type State } from "./live";
import { Palette } from "./parts/palette";
import { Login, SignedIn } from "./parts/signin";
import { TimePicker } from "./parts/timepicker";
import { choose, followLinks, go, here, href, listed, usePlace } from "./place";
import { BuildRoom } from "./rooms/build";
import { Builds } from "./rooms/builds";
import { DeploymentRoom } from "./rooms/deployment";
import { Deployments } from "./rooms/deployments";
import { Logs } from "./rooms/logs";
import { Metrics } from "./rooms/metrics";
import { Overview } from "./rooms/overview";
import { ProofRoom } from "./rooms/proof";
import { Scores } from "./rooms/scores";
import { TraceRoom } from "./rooms/trace";
import { Traces } from "./rooms/traces";
import { signOut, watchSession, type WhoAmI } from "./session";
import { useStale } from "./stale";
import { when } from "./when";

const ROOMS = [
  ["", "Overview"],
  ["builds", "Builds"],
  ["deployments", "Deployments"],
  ["traces", "Traces"],
  ["logs", "Logs"],
  ["metrics", "Metrics"],
  ["scores", "Scores"],
  ["proof", "Proof"],
] as const;

/** For so long it is said what was missed. */
const MISSED_MS = 20_000;

function told({ away, records, left }: Missed): string {
  const came = records ? `${records.toLocaleString("en")} ${records === 1 ? "record that was" : "records that were"} missed ${records === 1 ? "is" : "are"} shown now` : "nothing was missed";
  return `Connected again after ${duration(away)}: ${came}${left ? `, ${left.toLocaleString("en")} are left out, where they are missing` : ""}.`;
}

export function App(): JSX.Element {
  const { path, query } = usePlace();
  const [room, ...rest] = path;
  // Asked first, and alone: who is not signed in gets one refusal, not one of each room. It needs no database.
  const session = useAsked<WhoAmI>("whoami");
  const known = !session.loading && session.error?.status !== 401;
  const projects = useAsked<Page<Project>>(known ? "projects" : "", {}, 15_000);
  const who = session.data;
  const [problem, setProblem] = useState("");
  const leave = (): void => void signOut().catch((error: Error) => setProblem(`You are still signed in. ${error.message}`));
  useEffect(() => (who?.user ? watchSession() : undefined), [who?.user]);
  const [state, setState] = useState<State>("idle");
  const help = useRef<HTMLDialogElement>(null);
  const [missed, setMissed] = useState<Missed>();
  useEffect(() => live.watch(setState), []);
  useEffect(() => live.caughtUp(setMissed), []);
  useEffect(() => {
    const timer = missed && setTimeout(() => setMissed(undefined), MISSED_MS);
    return () => clearTimeout(timer);
  }, [missed]);
  useEffect(() => {
    addEventListener("click", followLinks);
    return () => removeEventListener("click", followLinks);
  }, []);
  const rail = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a phone the rail is a line that is wider than the screen.
    rail.current?.querySelector("[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  }, [room]);
  const palette = useRef<HTMLDialogElement>(null);
  const picker = useRef<HTMLDialogElement>(null);
  const stale = useStale();
  useKeys({ help, palette, picker });
  useFocusInRoom(query.toString());
  showUtc(query.get("utc") === "1");
  const only = projects.data?.items.length === 1 ? projects.data.items[0]!.id : "";
  const project = path[0] === "traces" && path[1] ? path[1] : query.get("project") ?? only;
  const time = when(query);
  useEffect(() => {
    const name = ROOMS.find(([key]) => key === (room ?? ""))?.[1] ?? "Spanyard";
    document.title = [rest[rest.length - 1], name, project, "Spanyard"].filter(Boolean).join(" · ");
  }, [path.join("/"), project]);
  const again = (): void => {
    session.again();
    projects.again();
  };
  if (session.error?.status === 401 || projects.error?.status === 401) return <Login again={again} />;
  return (
    <div class="frame">
      <a class="skip" href="#room">
        Skip to the room
      </a>
      <nav class="rail" ref={rail} aria-label="rooms">
        <a class="brand" href={href([])}>
          Spanyard
        </a>
        {ROOMS.map(([key, name]) => (
          <a key={key} class="room" href={href(key ? [key] : [])} aria-current={(room ?? "") === key ? "page" : undefined}>
            {name}
          </a>
        ))}
        <div class="foot">
          <SignedIn who={who} leave={leave} />
          <span class="hint">
            Keys: <kbd>?</kbd>
          </span>
        </div>
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
          <TimePicker dialog={picker} />
          {time.to === undefined && (
            <button class="live" aria-pressed={time.live} onClick={() => choose({ live: time.live ? "0" : undefined })} title="whether what comes is shown as it comes">
              Live
            </button>
          )}
          <button class="find" onClick={() => palette.current?.showModal()} aria-haspopup="dialog">
            Search or go … <kbd>Ctrl-K</kbd>
          </button>
        </div>
        {problem && (
          <div class="banner" role="alert">
            {problem} <button onClick={() => setProblem("")}>Close</button>
          </div>
        )}
        {state === "lost" && (
          <div class="banner" role="status">
            The connection is lost{live.why && `: ${visible(live.why)}`}. It comes back by itself, and goes on where it was.
          </div>
        )}
        {missed && state !== "lost" && (
          <div class="banner again" role="status">
            {told(missed)} <button onClick={() => setMissed(undefined)}>Close</button>
          </div>
        )}
        {stale && (
          <div class="banner" role="status">
            {stale.told.replace(/\.?$/, ".")} Missing or out of date: {stale.parts.join(", ")}. Build logs and what comes live are shown all the same.
          </div>
        )}
        <main id="room" class="room-body" tabIndex={-1}>
          {known && <Room key={path.join("/")} room={room ?? ""} rest={rest} project={project} level={query.get("level") ?? ""} />}
        </main>
      </div>
      <Palette dialog={palette} rooms={ROOMS} project={project} projects={(projects.data?.items ?? []).map((p) => p.id)} keys={() => help.current?.showModal()} time={() => picker.current?.showModal()} leave={who?.user ? leave : undefined} />
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

function Room({ room, rest, project, level }: { room: string; rest: string[]; project: string; level: string }): JSX.Element {
  const id = rest[0];
  switch (room) {
    case "":
      return <Overview project={project} />;
    case "builds":
      return id ? <BuildRoom id={id} /> : <Builds project={project} />;
    case "deployments":
      return id ? <DeploymentRoom key={id} id={id} level={level} /> : <Deployments project={project} />;
    case "traces":
      return id && rest[1] ? <TraceRoom project={id} id={rest[1]} /> : <Traces project={project} />;
    case "logs":
      return <Logs project={project} />;
    case "metrics":
      return <Metrics project={project} />;
    case "scores":
      return <Scores project={project} />;
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

type Dialog = RefObject<HTMLDialogElement | null>;

function useKeys({ help, palette, picker }: { help: Dialog; palette: Dialog; picker: Dialog }): void {
  useEffect(() => {
    let before = "";
    const pressed = (event: KeyboardEvent): void => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !event.altKey && !event.shiftKey) {
        if (palette.current?.open) palette.current.close();
        else if (!document.querySelector("dialog[open]")) palette.current?.showModal();
        event.preventDefault();
        return;
      }
      if (event.key === "Escape" && (event.target as Element).matches?.("input, textarea, select")) {
        (event.target as HTMLElement).blur();
        if (!(event.target as Element).closest("dialog")) document.getElementById("room")?.focus({ preventScroll: true });
      }
      if (busy(event)) return;
      const rooms: Record<string, string[]> = { o: [], b: ["builds"], d: ["deployments"], t: ["traces"], l: ["logs"], m: ["metrics"], s: ["scores"], p: ["proof"] };
      const room = before === "g" ? rooms[event.key] : undefined;
      before = event.key;
      if (room) go(href(room));
      else if (event.key === "/") {
        // A room's own search, else the one that leads to all.
        const search = document.querySelector<HTMLInputElement>("#room input[type=search], #room .query input");
        if (search) search.focus();
        else palette.current?.showModal();
      } else if (event.key === "?") help.current?.showModal();
      else if (event.key === "t") picker.current?.showModal();
      else if (event.key === "Escape" && here().path.length > 1) go(listed(here().path[0]!));
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
