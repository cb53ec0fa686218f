/** What the gateway could not answer for, because the database was away: until the same is answered. */
import { useEffect, useState } from "preact/hooks";

const away = new Map<string, { told: string; at: number }>();
const watchers = new Set<() => void>();
/** Of a room that was left nobody asks again. */
const KEPT_MS = 30_000;

export function tellAway(what: string, told: string): void {
  away.set(what, { told, at: Date.now() });
  for (const tell of watchers) tell();
}

export function tellBack(what: string): void {
  if (away.delete(what)) for (const tell of watchers) tell();
}

/** What it said last, while something is missing; empty when all is there. */
export function staleNow(now = Date.now()): string {
  for (const [what, { at }] of away) if (now - at > KEPT_MS) away.delete(what);
  return [...away.values()].at(-1)?.told ?? "";
}

export function useStale(): string {
  const [told, set] = useState("");
  useEffect(() => {
    const look = (): void => set(staleNow());
    watchers.add(look);
    const timer = setInterval(look, 5_000);
    return () => {
      watchers.delete(look);
      clearInterval(timer);
    };
  }, []);
  return told;
}
