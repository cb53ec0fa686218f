/** Where the reader is: the address of the page is the whole state of a view. */
import { useLayoutEffect, useState } from "preact/hooks";

export interface Place {
  /** `["traces", "local.support", "e07e…"]` below `/ui/`. */
  path: string[];
  query: URLSearchParams;
}

/** Where the page lies: `/ui/`, below the gateway's base path. */
export const root = new URL(".", document.baseURI).pathname;
const changed = new Set<() => void>();

/** A part of an address; one that is no text in UTF-8 stays as it is written. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function here(): Place {
  const path = location.pathname.slice(root.length).split("/").filter(Boolean).map(decoded);
  return { path, query: new URLSearchParams(location.search) };
}

/** What goes along from room to room: whose records, and of when. */
const KEPT = ["project", "range", "from", "to", "utc", "live"];

export function href(path: string[], query: Record<string, string | undefined> = {}): string {
  const params = new URLSearchParams();
  const now = here().query;
  for (const kept of KEPT) {
    const value = now.get(kept);
    if (value) params.set(kept, value);
  }
  for (const [name, value] of Object.entries(query)) {
    if (value) params.set(name, value);
    else params.delete(name);
  }
  const text = params.toString();
  return root + path.map(encodeURIComponent).join("/") + (text ? `?${text}` : "");
}

/** How each list was when it was left: its filters. */
const lists = new Map<string, string>();

/** The address of a list as it was left last. */
export const listed = (room: string): string => lists.get(room) ?? href([room]);

export function go(to: string, replace = false): void {
  const { path } = here();
  if (path.length === 1) lists.set(path[0]!, location.pathname + location.search);
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  for (const tell of changed) tell();
}

/** Change some of the view's filters; what is empty leaves the address. */
export function choose(query: Record<string, string | undefined>, replace = true): void {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(query)) {
    if (value) params.set(name, value);
    else params.delete(name);
  }
  const text = params.toString();
  go(location.pathname + (text ? `?${text}` : ""), replace);
}

export function usePlace(): Place {
  const [place, set] = useState(here);
  // With the drawing, not after it: a place that changes in between would be missed for ever.
  useLayoutEffect(() => {
    const tell = (): void => set(here());
    changed.add(tell);
    addEventListener("popstate", tell);
    return () => {
      changed.delete(tell);
      removeEventListener("popstate", tell);
    };
  }, []);
  return place;
}

/** Links of the page change the place without loading the page again. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (!link.pathname.startsWith(root)) return;
  event.preventDefault();
  // The document's base is not this place: `#room` would lead to the overview.
  const inside = link.getAttribute("href") ?? "";
  if (inside.startsWith("#")) document.getElementById(inside.slice(1))?.focus();
  else go(link.href);
}
