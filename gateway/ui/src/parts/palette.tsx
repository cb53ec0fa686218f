/** Go anywhere, do anything: a few letters, and Enter. */
import type { JSX, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Build, Deployment, Page, Trace } from "../api";
import { get, part } from "../api";
import { visible } from "../format";
import { ranked } from "../fuzzy";
import { choose, go, here, href } from "../place";
import { RANGES, whenHere } from "../when";
import "./frame.css";

interface Thing {
  kind: string;
  name: string;
  act: () => void;
}

const MOST = 60;

interface Props {
  dialog: RefObject<HTMLDialogElement | null>;
  rooms: readonly (readonly [string, string])[];
  project: string;
  projects: string[];
  keys: () => void;
  time: () => void;
  /** Ends the session, where there is one. */
  leave: (() => void) | undefined;
}

export function Palette(props: Props): JSX.Element {
  const { dialog } = props;
  const [wanted, setWanted] = useState("");
  const [at, setAt] = useState(0);
  const [found, setFound] = useState<Thing[]>([]);
  const [opened, setOpened] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const element = dialog.current!;
    // `toggle` comes with opening and closing, whoever does it.
    const toggled = (): void => {
      if (!element.open) return;
      setWanted("");
      setAt(0);
      setOpened((n) => n + 1);
      input.current?.focus();
    };
    const observer = new MutationObserver(toggled);
    observer.observe(element, { attributeFilter: ["open"] });
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!opened) return;
    const stop = new AbortController();
    setFound([]);
    void things(props.project, stop.signal, (more) => setFound((old) => [...old, ...more]));
    return () => stop.abort();
  }, [opened, props.project]);
  const all = opened ? [...own(props), ...found] : [];
  const named = (thing: Thing): string => `${thing.kind} ${thing.name}`;
  const fit = ranked(wanted, all, named, MOST);
  // What has the very words comes before a search for them, what only has their letters after it.
  const sure = fit.filter((thing) => wanted.trim() && named(thing).toLowerCase().includes(wanted.trim().toLowerCase()));
  const shown = [...sure, ...searches(wanted.trim(), props.project), ...fit.filter((thing) => !sure.includes(thing))];
  const chosen = Math.min(at, shown.length - 1);
  const take = (thing: Thing | undefined): void => {
    if (!thing) return;
    dialog.current?.close();
    thing.act();
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") setAt((chosen + 1) % Math.max(1, shown.length));
    else if (event.key === "ArrowUp") setAt((chosen - 1 + shown.length) % Math.max(1, shown.length));
    else if (event.key === "Enter") take(shown[chosen]);
    else return;
    event.preventDefault();
  };
  useEffect(() => document.getElementById(`thing-${chosen}`)?.scrollIntoView({ block: "nearest" }), [chosen, wanted]);
  return (
    <dialog ref={dialog} class="palette" aria-label="go anywhere" onClick={(e) => e.target === e.currentTarget && e.currentTarget.close()}>
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls="things"
        aria-autocomplete="list"
        aria-activedescendant={shown.length ? `thing-${chosen}` : undefined}
        aria-label="go anywhere, do anything"
        placeholder="A room, a project, a build, a trace id, words to search for …"
        autocomplete="off"
        spellcheck={false}
        value={wanted}
        onInput={(e) => {
          setWanted(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={keys}
      />
      <div id="things" role="listbox" aria-label="what fits" tabIndex={-1}>
        {shown.map((thing, i) => (
          <div key={`${thing.kind} ${thing.name} ${i}`} id={`thing-${i}`} role="option" aria-selected={i === chosen} class={i === chosen ? "at" : ""} onClick={() => take(thing)} onMouseMove={() => setAt(i)}>
            <span class="soft">{thing.kind}</span> {visible(thing.name)}
          </div>
        ))}
      </div>
      {shown.length === 0 && <p class="soft">Nothing has this name.</p>}
    </dialog>
  );
}

/** What can be looked for by these words; a trace's id leads to the trace. */
function searches(wanted: string, project: string): Thing[] {
  if (!wanted) return [];
  const things: Thing[] = [];
  if (/^[0-9a-f]{32}$/i.test(wanted) && project) things.push({ kind: "trace", name: wanted, act: () => go(href(["traces", project, wanted.toLowerCase()])) });
  if (wanted.length > 2)
    for (const [room, what] of [["logs", "lines"], ["traces", "traces"]] as const)
      things.push({ kind: "search", name: `${what} for: ${wanted}`, act: () => go(href([room], { q: wanted, project: project || undefined })) });
  return things.slice(0, things[0]?.kind === "trace" ? 1 : 2);
}

/** Rooms, projects, and what the frame can do. */
function own({ rooms, projects, keys, time, leave }: Props): Thing[] {
  const { query } = here();
  const live = whenHere();
  const utc = query.get("utc") === "1";
  const acts: Thing[] = [
    { kind: "do", name: "Copy link to this view", act: () => void navigator.clipboard.writeText(location.href).catch(() => prompt("The link", location.href)) },
    { kind: "do", name: "Time range …", act: time },
    ...RANGES.map(([key, name]) => ({ kind: "time", name, act: () => choose({ range: key, from: undefined, to: undefined }, false) })),
    { kind: "do", name: utc ? "Show local times" : "Show times in UTC", act: () => choose({ utc: utc ? undefined : "1" }) },
    { kind: "do", name: "Keys", act: keys },
    ...(leave ? [{ kind: "do", name: "Sign out", act: leave }] : []),
  ];
  if (live.to === undefined) acts.unshift({ kind: "do", name: live.live ? "Pause: nothing new comes in" : "Follow: what comes is shown", act: () => choose({ live: live.live ? "0" : undefined }) });
  return [
    ...rooms.map(([key, name]) => ({ kind: "room", name, act: () => go(href(key ? [key] : [])) })),
    ...acts,
    ...projects.map((id) => ({ kind: "project", name: id, act: () => choose({ project: id }, false) })),
  ];
}

/** What the gateway knows by name, as it comes; what it does not answer is not there. */
async function things(project: string, signal: AbortSignal, tell: (more: Thing[]) => void): Promise<void> {
  const ask = async <T,>(path: string, params: Record<string, string | number>, thing: (one: T) => Thing): Promise<void> => {
    try {
      const page = await get<Page<T>>(path, params, signal);
      if (!signal.aborted) tell(page.items.map(thing));
    } catch {
      // The rest of the list is of use without it; the rooms say what is wrong.
    }
  };
  await Promise.all([
    ask<Deployment>("deployments", { limit: 200 }, (d) => ({ kind: "deployment", name: d.id, act: () => go(href(["deployments", d.id], { project: d.projectId })) })),
    ask<Build>("builds", { limit: 200 }, (b) => ({ kind: "build", name: b.id, act: () => go(href(["builds", b.id])) })),
    ...(project
      ? [ask<Trace>(`projects/${part(project)}/traces`, { limit: 30 }, (t) => ({ kind: "trace", name: `${t.name} ${t.id.slice(0, 8)}`, act: () => go(href(["traces", t.projectId, t.id])) }))]
      : []),
  ]);
}

