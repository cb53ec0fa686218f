/** The lines of a project in a time: those that come, and the stored ones before them, page by page. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, type LogLine, type Page, part, Refused } from "./api";
import type { Shown } from "./parts/logview";
import { type Streamed, useLines } from "./streaming";
import { bounds, type When } from "./when";

export interface Lines extends Streamed {
  /** Ask for older ones; undefined when there are none, or they are on their way. */
  older: (() => void) | undefined;
  loading: boolean;
  problem: Refused | undefined;
}

const PAGE = 1_000;

export function shown(line: LogLine): Shown {
  return { id: line.id, at: line.timestamp, level: line.level, from: line.pod, text: line.message, traceId: line.traceId, spanId: line.spanId, about: line };
}

/** A moment after, so that what is of the same moment is asked for too: times have nine digits. */
export const justAfter = (time: string): string => {
  const [whole, rest = "Z"] = time.split(".");
  const digits = rest.replace(/\D.*$/, "").padEnd(9, "0").slice(0, 9);
  if (digits === "999999999") return new Date(Date.parse(`${whole!.replace(/Z$/, "")}Z`) + 1000).toISOString();
  return `${whole!.replace(/Z$/, "")}.${String(Number(digits) + 1).padStart(9, "0")}Z`;
};

export function useProjectLines(project: string, query: string, time: When): Lines {
  const view = `${project} ${query} ${time.from} ${time.to ?? ""} ${time.live}`;
  const start = useRef({ view: "", at: 0 });
  if (start.current.view !== view) start.current = { view, at: bounds(time)[0] };
  const filter = query ? { q: query } : {};
  const stream = useLines(project && time.live ? `project:${project}` : "", filter, undefined, { key: view, since: start.current.at });
  const [state, set] = useState<{ view: string; end: boolean; loading: boolean; problem?: Refused }>({ view, end: false, loading: false });
  const mine = state.view === view ? state : { view, end: false, loading: false };
  const place = useRef<{ view: string; cursor: string | null; to: string | undefined; known: ReadonlySet<string> }>({ view: "", cursor: null, to: undefined, known: new Set() });
  const busy = useRef("");
  const latest = useRef(view);
  latest.current = view;
  const { lines, prepend } = stream;

  const older = useCallback(async (): Promise<void> => {
    if (busy.current === view) return;
    busy.current = view;
    set({ view, end: false, loading: true });
    if (place.current.view !== view) {
      // History is the newest of each source: the stored ones begin where its oldest line stands.
      const oldest = lines.find((line) => line.at)?.at;
      place.current = { view, cursor: null, to: oldest ? justAfter(oldest) : time.to, known: new Set(lines.slice(0, 20_000).map((line) => line.id)) };
    }
    const { cursor, to, known } = place.current;
    try {
      const page = await get<Page<LogLine>>(`projects/${part(project)}/logs`, {
        from: new Date(start.current.at).toISOString(), to, q: query, limit: PAGE, cursor,
      });
      if (latest.current !== view) return;
      place.current.cursor = page.nextCursor;
      prepend(page.items.filter((line) => !known.has(line.id)).reverse().map(shown));
      set({ view, end: page.nextCursor === null, loading: false });
    } catch (error) {
      if (latest.current !== view) return;
      set({ view, end: true, loading: false, problem: error instanceof Refused ? error : new Refused(0, String(error)) });
    } finally {
      if (busy.current === view) busy.current = "";
    }
  }, [view, lines, prepend]);

  useEffect(() => {
    if (project && !time.live) void older();
  }, [view]);
  const may = project && !mine.end && !mine.loading && (time.live ? stream.started : place.current.view === view);
  return {
    ...stream,
    started: time.live ? stream.started : mine.end || lines.length > 0,
    older: may ? () => void older() : undefined,
    loading: mine.loading,
    problem: mine.problem,
  };
}
