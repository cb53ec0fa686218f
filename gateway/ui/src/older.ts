/** Lines that were stored before those that are there: page by page, each line once. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, type LogLine, type Page, Refused } from "./api";
import type { Shown } from "./parts/logview";
import { stepOf, type Streamed } from "./streaming";

export interface Older {
  /** Ask for older ones; undefined when there are none, or they are on their way. */
  older: (() => void) | undefined;
  loading: boolean;
  /** All there is is there. */
  end: boolean;
  problem: Refused | undefined;
}

interface Source {
  /** A list of lines of the gateway; empty: there is none to be asked. */
  path: string;
  params: Record<string, string | undefined>;
  /** Lines before then, where none is there yet. */
  to?: string | undefined;
  /** They may be asked for: those of now are there. */
  ready: boolean;
  /** Asked for without being told to: nothing else brings lines. */
  atOnce?: boolean;
}

const PAGE = 1_000;

export function shown(line: LogLine): Shown {
  return { id: line.id, at: line.timestamp, level: line.level, from: line.pod, text: line.message, traceId: line.traceId, spanId: line.spanId, about: line, group: line.build ? stepOf(line.container) : undefined };
}

/** A moment after, so that what is of the same moment is asked for too: times have nine digits. */
export const justAfter = (time: string): string => {
  const [whole, rest = "Z"] = time.split(".");
  const digits = rest.replace(/\D.*$/, "").padEnd(9, "0").slice(0, 9);
  if (digits === "999999999") return new Date(Date.parse(`${whole!.replace(/Z$/, "")}Z`) + 1000).toISOString();
  return `${whole!.replace(/Z$/, "")}.${String(Number(digits) + 1).padStart(9, "0")}Z`;
};

/** `view`: changes when all begins anew. */
export function useOlder(view: string, { lines, prepend }: Streamed, { path, params, to: end, ready, atOnce }: Source): Older {
  const [state, set] = useState<{ view: string; end: boolean; loading: boolean; problem?: Refused }>({ view, end: false, loading: false });
  const mine = state.view === view ? state : { view, end: false, loading: false };
  const place = useRef<{ view: string; cursor: string | null; to: string | undefined; known: ReadonlySet<string> }>({ view: "", cursor: null, to: undefined, known: new Set() });
  const busy = useRef("");
  const latest = useRef({ view, params });
  latest.current = { view, params };

  const older = useCallback(async (): Promise<void> => {
    if (busy.current === view) return;
    busy.current = view;
    set({ view, end: false, loading: true });
    if (place.current.view !== view) {
      // History is the newest of each source: the stored ones begin where its oldest line stands.
      const oldest = lines.find((line) => line.at)?.at;
      place.current = { view, cursor: null, to: oldest ? justAfter(oldest) : end, known: new Set(lines.slice(0, 20_000).map((line) => line.id)) };
    }
    const { cursor, to, known } = place.current;
    try {
      const page = await get<Page<LogLine>>(path, { ...latest.current.params, to, limit: PAGE, cursor });
      if (latest.current.view !== view) return;
      place.current.cursor = page.nextCursor;
      prepend(page.items.filter((line) => !known.has(line.id)).reverse().map(shown));
      set({ view, end: page.nextCursor === null, loading: false });
    } catch (error) {
      if (latest.current.view !== view) return;
      set({ view, end: true, loading: false, problem: error instanceof Refused ? error : new Refused(0, String(error)) });
    } finally {
      if (busy.current === view) busy.current = "";
    }
  }, [view, path, lines, prepend]);

  useEffect(() => {
    if (path && atOnce) void older();
  }, [view]);
  const may = path && !mine.end && !mine.loading && (atOnce ? place.current.view === view : ready);
  return { older: may ? () => void older() : undefined, loading: mine.loading, end: mine.end, problem: mine.problem };
}
