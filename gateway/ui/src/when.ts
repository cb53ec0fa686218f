/** The time that a view shows: before now, or from one moment to another; all of it in the address. */
import { showUtc } from "./format";
import { here } from "./place";

export const RANGES = [
  ["15m", "last 15 minutes"],
  ["1h", "last hour"],
  ["6h", "last 6 hours"],
  ["1d", "last day"],
  ["7d", "last 7 days"],
  ["30d", "last 30 days"],
] as const;

export interface When {
  /** What the gateway is asked for: a duration before now, or RFC 3339. */
  from: string;
  /** RFC 3339; undefined: until now. */
  to: string | undefined;
  /** In words. */
  label: string;
  /** What comes belongs to it, and nobody has switched it off. */
  live: boolean;
}

const UNITS: Record<string, number> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5 };

/** A duration such as `15m` in milliseconds; undefined when it is none. */
export function span(text: string): number | undefined {
  const found = /^(\d{1,6})([smhd])$/.exec(text);
  return found ? Number(found[1]) * UNITS[found[2]!]! : undefined;
}

const moment = (text: string | null): string | undefined => (text && !Number.isNaN(Date.parse(text)) ? text : undefined);

/** Of an address; what is no time there is as if it were not there. */
export function when(query: URLSearchParams): When {
  const from = moment(query.get("from"));
  const to = from ? moment(query.get("to")) : undefined;
  const live = query.get("live") !== "0" && to === undefined;
  if (from) return { from, to, live, label: `${short(from)} – ${to ? short(to) : "now"}` };
  const asked = query.get("range") ?? "1h";
  const range = span(asked) === undefined ? "1h" : asked;
  return { from: range, to: undefined, live, label: RANGES.find(([key]) => key === range)?.[1] ?? `last ${range}` };
}

/** The time of the address, now. */
export const whenHere = (): When => when(here().query);

/** Where it begins and ends, in milliseconds. */
export function bounds(of: When, now = Date.now()): [number, number] {
  const back = span(of.from);
  return [back === undefined ? Date.parse(of.from) : now - back, of.to === undefined ? now : Date.parse(of.to)];
}

/** What the address says of a time from one moment to another, in milliseconds. */
export function between(from: number, to: number): Record<string, string | undefined> {
  return { from: new Date(Math.floor(from)).toISOString(), to: new Date(Math.ceil(to)).toISOString(), range: undefined };
}

function short(time: string): string {
  const at = new Date(time);
  const zone = showUtc() ? { timeZone: "UTC" } : {};
  return `${at.toLocaleString(undefined, { ...zone, dateStyle: "medium", timeStyle: "short" })}${showUtc() ? " UTC" : ""}`;
}

/** A moment as `<input type="datetime-local">` wants it, in the zone that is shown. */
export function typed(milliseconds: number, utc: boolean): string {
  const at = new Date(milliseconds);
  const local = utc ? at : new Date(at.getTime() - at.getTimezoneOffset() * 6e4);
  return local.toISOString().slice(0, 19);
}

/** The moment that stands in such an input, as RFC 3339; undefined when nothing does. */
export function fromTyped(text: string, utc: boolean): string | undefined {
  const at = new Date(utc ? `${text}Z` : text);
  return text && !Number.isNaN(at.getTime()) ? at.toISOString() : undefined;
}
