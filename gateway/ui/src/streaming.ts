/** Lines of a channel, kept as they come: history, then live, over disconnects. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api";
import { ms } from "./format";
import { live, type Message } from "./live";
import type { Shown } from "./parts/logview";
import { tellAway, tellBack } from "./stale";

export interface Streamed {
  lines: Shown[];
  version: number;
  started: boolean;
  note: string;
  /** So many of them were put before what came. */
  before: number;
  /** There may be older ones than those that it began with. */
  full: boolean;
  prepend: (lines: Shown[]) => void;
}

interface More {
  /** What else a new list depends on. */
  key?: string;
  /** Lines from before then, in milliseconds, are left out of the history. */
  since?: number;
}

/** As many as the gateway gives. */
const HISTORY = 10_000;
const MOST = 1_000_000;
/** Cut off so many at once: each cut moves all the others. */
const SPARE = 50_000;
/** Whether the database is there again. */
const LOOK_MS = 5_000;
const LEVELS = new Set(["debug", "info", "warn", "error", "fatal"]);

/** The levels that an address names; what is none is left out, for the gateway refuses it. */
export function levelFilter(level: string): { level?: string[] } {
  const known = level.split(",").filter((name) => LEVELS.has(name));
  return known.length ? { level: known } : {};
}

/** The name of a step; in a cluster the containers of our own are named `spanyard-…`. */
export const stepOf = (container: string): string => container.replace(/^spanyard-/, "");

/** `hear`: also told of every message. An empty channel listens to nothing. */
export function useLines(channel: string, filter: Record<string, unknown>, hear?: (message: Message) => void, more: More = {}): Streamed {
  const kept = useRef<{ key: string; lines: Shown[]; before: number; history: number }>({ key: "", lines: [], before: 0, history: 0 });
  const [state, set] = useState({ key: "", version: 0, started: false, note: "" });
  const key = channel + JSON.stringify(filter) + (more.key ?? "");
  // Begun once more, when it began without its history.
  const [turn, setTurn] = useState(0);
  const listener = useRef(hear);
  listener.current = hear;
  if (kept.current.key !== key) kept.current = { key, lines: [], before: 0, history: 0 };
  const since = useRef(0);
  since.current = more.since ?? 0;
  const prepend = useCallback((older: Shown[]) => {
    kept.current.lines.unshift(...older);
    kept.current.before += older.length;
    set((old) => ({ ...old, version: old.version + 1 }));
  }, []);
  useEffect(() => {
    if (!channel) return;
    const { lines } = kept.current;
    lines.length = 0;
    kept.current.before = kept.current.history = 0;
    set((old) => ({ key, version: old.version + 1, started: false, note: "" }));
    let frame = 0;
    let told = 0;
    let begun = false;
    let short = false;
    let looks: ReturnType<typeof setTimeout> | undefined;
    const away = (told: string): void => {
      tellAway(`live:${channel}`, told, true);
      short ||= !begun;
      looks ??= setTimeout(look, LOOK_MS);
    };
    const look = async (): Promise<void> => {
      try {
        await get("projects");
      } catch {
        looks = looks && setTimeout(look, LOOK_MS);
        return;
      }
      if (!looks) return; // the room was left
      looks = undefined;
      tellBack(`live:${channel}`);
      // What a resumed stream is owed comes by itself.
      if (short) setTurn((n) => n + 1);
    };
    const tell = (text: string, level = ""): void => {
      lines.push({ id: `told-${++told}`, at: "", level, from: "", text, told: true });
    };
    const draw = (): void => {
      // Not in the drawing: a page in the background draws nothing, and its lines come all the same.
      if (lines.length > MOST + SPARE) lines.splice(0, lines.length - MOST);
      if (frame) return;
      // Many messages of a moment are one drawing.
      frame = requestAnimationFrame(() => {
        frame = 0;
        set((old) => ({ ...old, version: old.version + 1 }));
      });
    };
    const end = live.subscribe({ channel, history: HISTORY, filter }, (message) => {
      listener.current?.(message);
      if (message.type === "server:log" || message.type === "build:log") {
        for (const item of message.items) {
          if (message.history) kept.current.history++;
          if (message.history && since.current && ms(item.timestamp) < since.current) continue;
          lines.push({
            id: `${message.writer}#${item.seq}`,
            at: item.timestamp,
            level: item.level,
            from: message.type === "build:log" ? "" : item.pod ?? "",
            text: item.line,
            traceId: item.traceId,
            spanId: item.spanId,
            about: item,
            group: message.type === "build:log" ? stepOf(item.container ?? item.stream ?? "") : undefined,
          });
        }
        draw();
      } else if (message.type === "dropped") {
        tell(`${message.count.toLocaleString("en")} lines are left out here: ${REASONS[message.reason] ?? message.reason}`, "lost");
        draw();
      } else if (message.type === "subscribed") {
        // Before the stream has begun a new connection brings the whole history again.
        if (!begun) {
          lines.length = 0;
          kept.current.before = kept.current.history = 0;
        }
        set((old) => ({ ...old, version: old.version + 1, note: "" }));
      } else if (message.type === "live") {
        begun = true;
        set((old) => ({ ...old, version: old.version + 1, started: true }));
      } else if (message.type === "partial" && message.reason === "database-away") {
        away(message.message);
      } else if (message.type === "partial" || message.type === "error") {
        set((old) => ({ ...old, started: true, note: message.message }));
      }
    });
    return () => {
      end();
      cancelAnimationFrame(frame);
      clearTimeout(looks);
      looks = undefined;
      tellBack(`live:${channel}`);
    };
  }, [key, turn]);
  return { lines: kept.current.lines, before: kept.current.before, full: kept.current.history >= HISTORY, prepend, ...state, started: state.key === key && state.started };
}

const REASONS: Record<string, string> = {
  "slow-client": "this page could not keep up",
  "not-stored": "they are not stored; the room Proof says more",
  "database-away": "ClickHouse did not answer",
  "too-many-holes": "too much of what is stored was being fetched already",
};
