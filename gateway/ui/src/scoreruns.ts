/** Scores that follow each other in a timeline: one row that says how many, their mean and the worst. Pure. */
import { day } from "./format";
import type { Entry } from "./timeline";

/** Fewer than these are rows of their own. */
const FEW = 3;
const SIGN = "run:";

export interface Run {
  /** Names one of its entries: it is found again when older ones or newer ones have joined it. */
  id: string;
  entries: Entry[];
}

export type StoryRow =
  | { id: string; entry: Entry; run?: Run }
  | { id: string; run: Run; open: boolean; entry?: undefined };

/** Of one name: how many, and of those that are numbers the mean and the lowest. */
export interface Sum {
  name: string;
  count: number;
  mean: number | null;
  worst: Entry | null;
}

/** Whether the address names this run, by whichever of its entries. */
export const names = (run: Run, chosen: string | null): boolean => Boolean(chosen?.startsWith(SIGN)) && run.entries.some((entry) => SIGN + entry.id === chosen);

/** The rows of these entries. A run is open when one of its entries is in `open`, or is the chosen one. */
export function storyRows(entries: readonly Entry[], open: ReadonlySet<string>, chosen: string | null): StoryRow[] {
  const rows: StoryRow[] = [];
  for (let i = 0; i < entries.length; ) {
    let end = i + 1;
    while (end < entries.length && together(entries[i]!, entries[end]!)) end++;
    if (end - i < FEW) {
      for (; i < end; i++) rows.push({ id: entries[i]!.id, entry: entries[i]! });
      continue;
    }
    const run = { id: SIGN + entries[i]!.id, entries: entries.slice(i, end) };
    const opened = run.entries.some((entry) => open.has(entry.id) || entry.id === chosen);
    rows.push({ id: run.id, run, open: opened });
    if (opened) for (const entry of run.entries) rows.push({ id: entry.id, entry, run });
    i = end;
  }
  return rows;
}

/** Scores of one revision and one day: a run hides neither the begin of a day nor who was judged. */
function together(first: Entry, next: Entry): boolean {
  return first.kind === "score" && next.kind === "score" && first.revision === next.revision && day(first.time) === day(next.time);
}

/** By name, the one with most scores first. */
export function sums(run: Run): Sum[] {
  const found = new Map<string, Entry[]>();
  for (const entry of run.entries) {
    const same = found.get(entry.title);
    if (same) same.push(entry);
    else found.set(entry.title, [entry]);
  }
  return [...found]
    .map(([name, of]) => {
      const judged = of.filter((entry) => typeof entry.value === "number");
      const total = judged.reduce((sum, entry) => sum + Number(entry.value), 0);
      const worst = judged.reduce<Entry | null>((least, entry) => (least && Number(least.value) <= Number(entry.value) ? least : entry), null);
      return { name, count: of.length, mean: judged.length ? total / judged.length : null, worst };
    })
    .sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}
