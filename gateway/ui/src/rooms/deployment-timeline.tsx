/** One story: commit, build, revision, line, trace, score, in the order in which they came. */
import type { JSX } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { plain } from "../ansi";
import { get, part, Refused } from "../api";
import { short } from "../commits";
import { clock, duration, full, visible } from "../format";
import { useRoomKeys } from "../keys";
import type { Message } from "../live";
import { Words } from "../parts/commit";
import { choose, go, href, usePlace } from "../place";
import { type Entry, isBad, isWarning, KINDS, kindsOf, merged, ofLines, type Told } from "../timeline";
import { when } from "../when";

const PAGE = 200;
const MOST = 2_000;
const AGAIN_MS = 5_000;

interface Props {
  id: string;
  project: string | undefined;
  listeners: Set<(message: Message) => void>;
}

interface State {
  key: string;
  entries: Entry[];
  older: string | null;
  partial: string;
  error?: string | undefined;
  begun: boolean;
}

const NOTHING: State = { key: "", entries: [], older: null, partial: "", begun: false };

export function Timeline({ id, project, listeners }: Props): JSX.Element {
  const { query } = usePlace();
  const { from, to, live } = when(query);
  const kinds = kindsOf(query.get("kinds"));
  const all = query.get("all") === "1";
  const path = `deployments/${part(id)}/timeline`;
  const filters = { from, to, kinds: kinds.length < KINDS.length ? kinds.join(",") : undefined, notable: all ? "false" : undefined, limit: PAGE };
  const key = JSON.stringify(filters);
  const [state, set] = useState<State>(NOTHING);
  const mine = state.key === key ? state : NOTHING;
  const add = useCallback((more: Entry[], change: Partial<State> = {}) => {
    set((old) => {
      const base = old.key === key ? old : { ...NOTHING, key };
      return { ...base, ...change, entries: merged(base.entries, more, MOST) };
    });
  }, [key]);

  // The newest page, again and again: what is stored comes a few seconds after it happened.
  const newest = useRef({ key: "", time: "" });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const ask = async (): Promise<void> => {
      if (!document.hidden) {
        try {
          const page = await get<Told>(path, filters, stop.signal);
          set((old) => asked(old, key, page, newest.current));
          newest.current = { key, time: page.items[0]?.time ?? "" };
        } catch (problem) {
          if (stop.signal.aborted) return;
          add([], { error: problem instanceof Refused ? problem.message : String(problem), begun: true });
        }
      }
      if (live && !stop.signal.aborted) timer = setTimeout(ask, AGAIN_MS);
    };
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [key, live, turn]);

  // Lines as they are printed; a changed status is a reason to ask at once.
  useEffect(() => {
    if (!live) return;
    const hear = (message: Message): void => {
      if (message.type === "deployment:status") setTurn((n) => n + 1);
      if (message.type !== "server:log" || message.history || !kinds.includes("server:log")) return;
      const found = ofLines(message.writer, message.items, all);
      if (found.length) add(found);
    };
    listeners.add(hear);
    return () => void listeners.delete(hear);
  }, [key, live, add]);

  const [loading, setLoading] = useState(false);
  const older = async (): Promise<void> => {
    if (!mine.older || loading) return;
    setLoading(true);
    try {
      const page = await get<Told>(path, { ...filters, cursor: mine.older });
      add(page.items, { older: page.nextCursor });
    } catch (problem) {
      add([], { error: problem instanceof Refused ? problem.message : String(problem) });
    } finally {
      setLoading(false);
    }
  };

  const chosen = query.get("entry");
  const { entries } = mine;
  const step = (by: number): void => {
    if (!entries.length) return;
    const now = entries.findIndex((entry) => entry.id === chosen);
    const next = now < 0 ? (by > 0 ? 0 : entries.length - 1) : Math.max(0, Math.min(entries.length - 1, now + by));
    choose({ entry: entries[next]!.id });
  };
  const nextError = (): void => {
    const now = entries.findIndex((entry) => entry.id === chosen);
    const next = entries.findIndex((entry, i) => i > now && isBad(entry));
    if (next >= 0) choose({ entry: entries[next]!.id });
  };
  const selected = entries.find((entry) => entry.id === chosen);
  useRoomKeys({
    j: () => step(1),
    k: () => step(-1),
    e: nextError,
    Enter: () => {
      const to = selected && leads(selected, id, project);
      if (to) go(to);
    },
  });

  // The newest is below, as in a log: who looks at the end stays there.
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    const element = box.current;
    if (element && atEnd.current && !chosen) element.scrollTop = element.scrollHeight;
  }, [entries, chosen]);
  const shown = selected !== undefined;
  useEffect(() => {
    if (shown) box.current?.querySelector(".at")?.scrollIntoView({ block: "nearest" });
  }, [chosen, shown]);

  const toggle = (kind: string): void => {
    const next = kinds.includes(kind as never) && kinds.length > 1 ? kinds.filter((one) => one !== kind) : KINDS.map(([one]) => one).filter((one) => one === kind || kinds.includes(one));
    choose({ kinds: next.length === KINDS.length ? undefined : next.join(","), entry: undefined });
  };
  return (
    <section class="story" aria-label={`timeline of ${id}`}>
      <div class="story-tools" role="group" aria-label="kinds">
        {KINDS.map(([kind, sign, name]) => (
          <button key={kind} aria-pressed={kinds.includes(kind)} class={kinds.includes(kind) ? "on" : ""} onClick={() => toggle(kind)}>
            <span class={`sign ${kind.replace(":", "-")}`} aria-hidden="true">
              {sign}
            </span>{" "}
            {name}
          </button>
        ))}
        <label>
          <input type="checkbox" checked={all} onChange={(e) => choose({ all: e.currentTarget.checked ? "1" : undefined })} /> all lines and traces
        </label>
      </div>
      {mine.error && (
        <div class="problem" role="alert">
          {mine.error} <button onClick={() => setTurn((n) => n + 1)}>Try again</button>
        </div>
      )}
      {mine.partial && <p class="warning">{mine.partial}</p>}
      <div
        class="story-box"
        ref={box}
        tabIndex={0}
        role="group"
        aria-label="what happened, the newest last"
        aria-busy={loading}
        onScroll={(e) => (atEnd.current = e.currentTarget.scrollTop + e.currentTarget.clientHeight >= e.currentTarget.scrollHeight - 24)}
      >
        {mine.older && (
          <button class="older" onClick={() => void older()} disabled={loading}>
            {loading ? "Loading …" : "Older ones"}
          </button>
        )}
        {entries.map((entry, i) => (
          <Line key={entry.id} entry={entry} before={entries[i - 1]} at={entry.id === chosen} of={id} project={project} />
        ))}
        {!entries.length && (mine.begun ? !mine.error && <div class="empty">Nothing of these kinds happened in this time. A longer time range, or “all lines and traces”, shows more.</div> : <div class="skeleton" role="status" aria-label="loading" />)}
      </div>
    </section>
  );
}

/** With the newest page. One that does not reach back to what the last one had leaves a hole: then it
 *  begins anew, and older ones are asked for from there. */
function asked(old: State, key: string, page: Told, last: { key: string; time: string }): State {
  const told = { partial: page.partial, error: undefined, begun: true };
  const oldest = page.items[page.items.length - 1]?.time ?? "";
  const hole = page.nextCursor !== null && (last.key !== key || oldest > last.time);
  if (old.key !== key || !old.begun || hole) return { key, ...told, entries: merged([], page.items, MOST), older: page.nextCursor };
  return { ...old, ...told, entries: merged(old.entries, page.items, MOST) };
}

const NAMES = new Map(KINDS.map(([kind, sign, name]) => [kind, { sign, name }]));

function Line({ entry, before, at, of, project }: { entry: Entry; before: Entry | undefined; at: boolean; of: string; project: string | undefined }): JSX.Element {
  const { sign, name } = NAMES.get(entry.kind)!;
  const to = leads(entry, of, project);
  const bad = isBad(entry) ? " bad" : isWarning(entry) ? " warn" : "";
  const day = entry.time.slice(0, 10);
  const facts = [
    entry.level,
    entry.kind === "span" && entry.status === "error" ? "failed" : "",
    entry.kind === "score" ? String(entry.value) : "",
    entry.durationNs === undefined ? "" : duration(entry.durationNs / 1e6),
    (entry.count ?? 1) > 1 ? `${entry.count} times` : "",
    entry.kind !== "revision" && entry.revision ? `revision ${entry.revision}` : "",
  ].filter(Boolean);
  const title = entry.kind === "commit" ? short(visible(entry.title)) : visible(plain(entry.title));
  return (
    <>
      {day !== before?.time.slice(0, 10) && <div class="day soft small">{new Date(entry.time.slice(0, 23) + "Z").toLocaleDateString()}</div>}
      <article class={`story-row${bad}${at ? " at" : ""}`} aria-current={at ? "true" : undefined} onClick={(e) => choosing(e, entry)}>
        <a class="when" href={linkTo(entry, of)} title={full(entry.time)}>
          <time dateTime={entry.time}>{clock(entry.time)}</time>
        </a>
        <span class="what">
          <span class={`sign ${entry.kind.replace(":", "-")}`} aria-hidden="true">
            {sign}
          </span>
          <span class="soft small">{name}</span>
        </span>
        <span class="title">
          {to ? <a href={to}>{title || "(empty)"}</a> : title} {entry.kind === "commit" && <Words of={entry} />} {facts.length > 0 && <span class="soft small">{facts.join(" · ")}</span>}
          {entry.buildId && entry.kind !== "revision" && <span class="soft small"> {entry.buildId}</span>}
          {entry.detail && <span class={`more${at ? " whole" : ""}`}>{visible(plain(entry.detail))}</span>}
        </span>
      </article>
    </>
  );
}

function choosing(event: MouseEvent, entry: Entry): void {
  if ((event.target as Element).closest("a") || getSelection()?.toString()) return;
  choose({ entry: entry.id });
}

const AROUND_MS = 10 * 60_000;

/** A link to this entry with the time around it, so that it is found again tomorrow. */
function linkTo(entry: Entry, of: string): string {
  const at = Date.parse(entry.time.slice(0, 23) + "Z");
  const moment = (by: number): string => new Date(at + by).toISOString();
  const now = Object.fromEntries(new URLSearchParams(location.search));
  return href(["deployments", of], {
    ...now, view: "timeline", entry: entry.id, range: undefined, from: moment(-AROUND_MS), to: moment(AROUND_MS),
  });
}

/** Where an entry leads: the build, the line, the trace. */
function leads(entry: Entry, of: string, project: string | undefined): string | undefined {
  if ((entry.kind === "span" || entry.kind === "score") && entry.traceId && project) return href(["traces", project, entry.traceId], { span: entry.spanId });
  if (entry.kind === "server:log") return href(["deployments", of], { line: entry.recordId });
  if (entry.buildId) return href(["builds", entry.buildId], { line: entry.recordId });
  return undefined;
}
