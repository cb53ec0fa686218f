/** One story: commit, build, revision, line, trace, score, in the order in which they came. */
import type { JSX } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, part, Refused } from "../api";
import { walked } from "../focus";
import { useRoomKeys } from "../keys";
import type { Message } from "../live";
import { leads, Line, RunLine } from "../parts/storyrow";
import { choose, go, usePlace } from "../place";
import { names, type Run, storyRows } from "../scoreruns";
import { type Entry, isBad, KINDS, kindsOf, merged, ofLines, type Told } from "../timeline";
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
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const box = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => storyRows(entries, open, chosen), [entries, open, chosen]);
  const at = rows.findIndex((row) => row.id === chosen || (row.entry === undefined && names(row.run, chosen)));
  const selected = rows[at];
  const fold = (run: Run, opened: boolean): void => {
    const next = new Set(open);
    for (const { id } of run.entries) if (opened) next.delete(id);
    if (!opened) next.add(run.entries[0]!.id);
    setOpen(next);
    // What had the focus goes away with its row.
    if (opened && document.activeElement?.closest(".story-row.within")) box.current?.focus();
    choose({ entry: run.id });
  };
  const step = (by: number): void => {
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by))];
    if (next) choose({ entry: next.id });
  };
  const nextError = (): void => {
    const next = rows.find((row, i) => i > at && row.entry && isBad(row.entry));
    if (next) choose({ entry: next.id });
  };
  const run = selected?.run;
  const opened = Boolean(selected && (selected.entry ?? selected.open));
  useRoomKeys({
    j: walked(box, () => step(1)),
    k: walked(box, () => step(-1)),
    e: walked(box, nextError),
    Enter: () => {
      if (selected && !selected.entry) return fold(selected.run, selected.open);
      const to = selected?.entry && leads(selected.entry, id, project);
      if (to) go(to);
    },
    ArrowLeft: run && opened ? () => fold(run, true) : undefined,
    ArrowRight: run && !opened ? () => fold(run, false) : undefined,
  });

  // The newest is below, as in a log: who looks at the end stays there.
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    const element = box.current;
    if (element && atEnd.current && !chosen) element.scrollTop = element.scrollHeight;
  }, [entries, chosen]);
  const shown = selected !== undefined;
  // At once: the next key may look where the chosen one is.
  useLayoutEffect(() => {
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
        {rows.map((row, i) => {
          const before = rows[i - 1];
          const last = before && (before.entry ?? before.run.entries[0]);
          return row.entry ? (
            <Line key={row.id} entry={row.entry} before={last} at={i === at} of={id} project={project} within={row.run !== undefined} />
          ) : (
            <RunLine key={row.id} run={row.run} open={row.open} before={last} at={i === at} project={project} fold={fold} />
          );
        })}
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
