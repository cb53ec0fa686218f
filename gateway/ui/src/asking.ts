/** Asking the gateway from a room: the answer, what went wrong, and asking again. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, Refused } from "./api";

export interface Asked<T> {
  data: T | undefined;
  error: Refused | undefined;
  loading: boolean;
  again: () => void;
}

type Params = Record<string, string | number | undefined | null>;

/** `every`: ask again after so many milliseconds, while the page is seen. An empty path asks nothing. */
export function useAsked<T>(path: string, params: Params = {}, every = 0): Asked<T> {
  const key = path + JSON.stringify(params);
  const [state, set] = useState<{ key: string; data?: T; error?: Refused }>({ key: "" });
  const [turn, setTurn] = useState(0);
  const again = useCallback(() => setTurn((n) => n + 1), []);
  const latest = useRef(params);
  latest.current = params;
  useEffect(() => {
    if (!path) return;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const ask = async (): Promise<void> => {
      // Opened in the background: asked for when it is seen.
      if (document.hidden && !every) await seen(stop.signal);
      if (stop.signal.aborted) return;
      if (!document.hidden) {
        try {
          const data = await get<T>(path, latest.current, stop.signal);
          set({ key, data });
        } catch (error) {
          if (stop.signal.aborted) return;
          const told = error instanceof Refused ? error : new Refused(0, String(error));
          set((old) => (old.key === key && old.data !== undefined ? { ...old, error: told } : { key, error: told }));
        }
      }
      if (every && !stop.signal.aborted) timer = setTimeout(ask, every);
    };
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [key, every, turn]);
  const mine = state.key === key;
  return { data: mine ? state.data : undefined, error: mine ? state.error : undefined, loading: !mine, again };
}

/** Asks again while something is awaited: after 3 s, then ever more rarely, down to once a minute. */
export function useAwaited(awaited: boolean, again: () => void): void {
  const latest = useRef(again);
  latest.current = again;
  useEffect(() => {
    if (!awaited) return;
    let wait = 3_000;
    let timer = setTimeout(function turn() {
      latest.current();
      wait = Math.min(2 * wait, 60_000);
      timer = setTimeout(turn, wait);
    }, wait);
    return () => clearTimeout(timer);
  }, [awaited]);
}

/** What was there last, until something new is: a view that is asked for anew does not jump. */
export function useLast<T>(data: T | undefined): T | undefined {
  const last = useRef(data);
  if (data !== undefined) last.current = data;
  return last.current;
}

function seen(stop: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const look = (): void => {
      if (document.hidden && !stop.aborted) return;
      document.removeEventListener("visibilitychange", look);
      stop.removeEventListener("abort", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
    stop.addEventListener("abort", look);
  });
}
