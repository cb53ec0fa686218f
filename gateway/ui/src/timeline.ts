/** The joined timeline of a deployment, as `/deployments/{id}/timeline` answers it. */
import type { LogItem } from "./live";

export interface Entry {
  id: string;
  time: string;
  kind: Kind;
  title: string;
  detail?: string;
  /** These of a commit. */
  subject?: string;
  author?: string;
  committedAt?: string;
  level?: string;
  status?: string;
  durationNs?: number;
  count?: number;
  value?: number | string;
  buildId?: string;
  revision?: string;
  pod?: string;
  container?: string;
  traceId?: string;
  spanId?: string;
  recordId?: string;
}

export interface Told {
  items: Entry[];
  nextCursor: string | null;
  partial: string;
}

export type Kind = "commit" | "build" | "build:log" | "revision" | "event" | "server:log" | "span" | "score";

/** In the order of cause and effect; a sign and a word for each, so that none is told by colour alone. */
export const KINDS: readonly (readonly [Kind, string, string])[] = [
  ["commit", "◆", "commit"],
  ["build", "■", "build"],
  ["build:log", "▤", "build line"],
  ["revision", "▲", "revision"],
  ["event", "●", "event"],
  ["server:log", "≡", "server line"],
  ["span", "◗", "trace"],
  ["score", "★", "score"],
];
const RANK = new Map(KINDS.map(([kind], rank) => [kind, rank]));

/** Kinds that an address names; none named: all. */
export function kindsOf(text: string | null): Kind[] {
  const named = new Set((text ?? "").split(","));
  const found = KINDS.map(([kind]) => kind).filter((kind) => named.has(kind));
  return found.length ? found : KINDS.map(([kind]) => kind);
}

/** What is bad about it, for `e` and for the eye. */
export const isBad = (entry: Entry): boolean =>
  entry.level === "error" || entry.level === "fatal" || entry.status === "error" || entry.status === "Failed";

export const isWarning = (entry: Entry): boolean => entry.level === "warn" || entry.status === "Warning";

/** Both, each entry once (the newer word on it), oldest first, at most so many: the oldest go. */
export function merged(old: readonly Entry[], more: readonly Entry[], most: number): Entry[] {
  const all = new Map(old.map((entry) => [entry.id, entry]));
  for (const entry of more) all.set(entry.id, entry);
  return [...all.values()].sort(order).slice(-most);
}

function order(a: Entry, b: Entry): number {
  // Times have nine digits and one zone: they sort as texts.
  if (a.time !== b.time) return a.time < b.time ? -1 : 1;
  const rank = RANK.get(a.kind)! - RANK.get(b.kind)!;
  if (rank) return rank;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

const NOTABLE = new Set(["warn", "error", "fatal"]);

/** Lines that came live, as the timeline will tell them when they are stored. */
export function ofLines(writer: string, items: readonly LogItem[], all: boolean): Entry[] {
  return items
    .filter((item) => all || NOTABLE.has(item.level))
    .map((item) => {
      const recordId = `${writer}#${item.seq}`;
      const entry: Entry = { id: `server:log/${recordId}`, time: nine(item.timestamp), kind: "server:log", title: item.line.slice(0, 1000), level: item.level, recordId };
      if (item.pod) entry.pod = item.pod;
      if (item.traceId) entry.traceId = item.traceId;
      return entry;
    });
}

/** With all nine digits of the second. */
function nine(time: string): string {
  const [whole, digits = ""] = time.replace(/Z$/, "").split(".");
  return `${whole}.${digits.padEnd(9, "0")}Z`;
}
