/** What the gateway could not answer for, because the database was away: until the same is answered. */
import { useEffect, useState } from "preact/hooks";

const away = new Map<string, { told: string; at: number; lasting: boolean }>();
const watchers = new Set<() => void>();
/** Of a room that was left nobody asks again. */
const KEPT_MS = 30_000;

/** `lasting`: until `tellBack`, also when nobody asks again. */
export function tellAway(what: string, told: string, lasting = false): void {
  away.set(what, { told, at: Date.now(), lasting });
  for (const tell of watchers) tell();
}

export function tellBack(what: string): void {
  if (away.delete(what)) for (const tell of watchers) tell();
}

/** Parts of the page by the ends of the paths that they are asked for with. */
const PARTS: readonly [end: RegExp, part: string][] = [
  [/^live:/, "lines from before now"],
  [/\/projects$/, "projects"],
  [/\/logs$/, "stored lines"],
  [/\/histogram$/, "bars over time"],
  [/\/facets$/, "values to choose from"],
  [/\/(traces|traces\/series|series)$/, "traces and their figures"],
  [/\/(traces|spans)\//, "this trace"],
  [/\/metrics/, "metrics"],
  [/\/scores/, "scores"],
  [/\/timeline$/, "the timeline"],
  [/proof$/, "the proof"],
  [/quarantine/, "the quarantine"],
];

export interface Stale {
  /** What was said last. */
  told: string;
  parts: string[];
}

/** What it said last, while something is missing, and what that is; undefined when all is there. */
export function staleNow(now = Date.now()): Stale | undefined {
  for (const [what, { at, lasting }] of away) if (!lasting && now - at > KEPT_MS) away.delete(what);
  const last = [...away.values()].at(-1);
  if (!last) return undefined;
  const parts = [...away.keys()].map((what) => PARTS.find(([end]) => end.test(what))?.[1] ?? "some figures");
  return { told: last.told, parts: [...new Set(parts)].sort() };
}

export function useStale(): Stale | undefined {
  const [stale, set] = useState<Stale>();
  useEffect(() => {
    const look = (): void => {
      const now = staleNow();
      set((old) => (JSON.stringify(old) === JSON.stringify(now) ? old : now));
    };
    watchers.add(look);
    look();
    const timer = setInterval(look, 5_000);
    return () => {
      watchers.delete(look);
      clearInterval(timer);
    };
  }, []);
  return stale;
}
