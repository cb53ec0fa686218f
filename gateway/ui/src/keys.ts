/** Keys of the page: those of every room, and those that a room adds while it is there. */
import { useLayoutEffect, useRef } from "preact/hooks";

export const KEYS = [
  ["Ctrl-K", "go anywhere, do anything"],
  ["/", "search"],
  ["t", "time range"],
  ["j k", "next, previous"],
  ["Enter", "open"],
  ["Esc", "back"],
  ["← →", "fold, unfold"],
  ["e", "next error"],
  ["n N", "next, previous hit in a trace"],
  ["f", "follow"],
  ["w", "wrap lines"],
  ["g o/b/d/t/l/m/s/p", "go to a room"],
  ["?", "this list"],
] as const;

/** Somebody writes, or a dialog has the word. */
export function busy(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return true;
  const target = event.target as Element;
  return Boolean(target.matches?.("input, textarea, select") || document.querySelector("dialog[open]"));
}

/** What a room does on a key, by the key's name. A key on a button or link that takes it is left to it. */
export function useRoomKeys(acts: Record<string, (() => void) | undefined>): void {
  const latest = useRef(acts);
  latest.current = acts;
  // With the drawing, not after it: who sees the room may press a key at once.
  useLayoutEffect(() => {
    let before = "";
    const pressed = (event: KeyboardEvent): void => {
      const after = before;
      before = event.key;
      if (busy(event) || after === "g") return; // the second key of a walk to a room
      if (event.key === "Enter" && (event.target as Element).closest("a, button, summary")) return;
      const act = latest.current[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
