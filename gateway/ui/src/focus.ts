/** Where the keyboard is after a walk: in the room, or on what one came back from; never nowhere. */
import type { RefObject } from "preact";
import { useEffect } from "preact/hooks";
import { useRoomKeys } from "./keys";

/** Addresses, without their queries: the one that was left last is looked for in a list. */
let at = "";
let left = "";

const room = (): HTMLElement | null => document.getElementById("room");
/** Nobody has gone on to something else. */
const idle = (): boolean => document.activeElement === null || document.activeElement === document.body || document.activeElement === room();

/** For the frame: the room has the focus, where what had it went away with the view before. */
export function useFocusInRoom(query: string): void {
  const { pathname } = location;
  useEffect(() => {
    const first = at === "";
    if (at !== pathname) [left, at] = [at, pathname];
    if (!first && idle()) room()?.focus({ preventScroll: true });
  }, [pathname, query]);
}

/** For an entry of a list: its link has the focus when one comes back from where it leads. */
export function useReturned(to: string, row: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    if (!left || !idle() || new URL(to, location.href).pathname !== left) return;
    left = "";
    row.current?.querySelector("a")?.focus();
  }, []);
}

/** A list whose chosen entry is told by the address has the focus itself: Enter means that entry, and not
 *  the link or button that had the focus before. */
export function walked(list: RefObject<HTMLElement | null>, by: () => void): () => void {
  return () => {
    list.current?.focus({ preventScroll: true });
    by();
  };
}

/** `j` and `k` go from entry to entry of a list that is a list of links or buttons. */
export function useListKeys(entries: string): void {
  const step = (by: number): void => {
    const all = [...document.querySelectorAll<HTMLElement>(entries)].filter((one) => room()?.contains(one));
    const now = all.indexOf(document.activeElement as HTMLElement);
    const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, now + by))];
    next?.focus();
  };
  useRoomKeys({ j: () => step(1), k: () => step(-1) });
}
