/** Which groups of a log are folded: it stands in the address, so that a link shows the same. */
import { useMemo, useRef, useState } from "preact/hooks";
import { choose, usePlace } from "./place";

/** All are open, though some are not when nothing is said. */
const NONE = "-";

export interface Folds {
  folded: ReadonlySet<string>;
  fold: (folded: ReadonlySet<string>) => void;
}

export function parsed(told: string | null, first: readonly string[]): string[] {
  return told === null ? [...first] : told.split(",").filter((key) => key && key !== NONE);
}

export function said(folded: ReadonlySet<string>, first: readonly string[]): string | undefined {
  const same = folded.size === first.length && first.every((key) => folded.has(key));
  return same ? undefined : [...folded].join(",") || NONE;
}

/**
 * `first`: what is folded when the address says nothing. What is folded while something is searched for
 * is forgotten with the search, which begins with all open: hits are seen.
 */
export function useFolds(first: readonly string[], search: string): Folds {
  const told = usePlace().query.get("fold");
  const lasting = useMemo(() => new Set(parsed(told, first)), [told, first.join()]);
  const passing = useRef({ search: "", folded: new Set<string>() as ReadonlySet<string> });
  const [, draw] = useState(0);
  if (passing.current.search !== search) passing.current = { search, folded: new Set() };
  return {
    folded: search ? passing.current.folded : lasting,
    fold: (folded) => {
      if (!search) return choose({ fold: said(folded, first) });
      passing.current.folded = folded;
      draw((n) => n + 1);
    },
  };
}
