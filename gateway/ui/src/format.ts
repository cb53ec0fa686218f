/** Numbers and times for people: short, with their units, the exact ones in tooltips. */

const NS = 1e6;

let lastSecond = "";
let lastMs = 0;

/** RFC 3339 as milliseconds, with fractions. */
export function ms(time: string): number {
  const dot = time.indexOf(".");
  if (dot < 0) return Date.parse(time);
  // The many times of a trace lie within few seconds: reading a date anew takes ten times as long.
  const second = time.slice(0, dot);
  if (second !== lastSecond) {
    lastMs = Date.parse(`${second}Z`);
    lastSecond = second;
  }
  return lastMs + parseFloat(time.slice(dot)) * 1000;
}

export function duration(milliseconds: number): string {
  if (milliseconds < 1) return `${Math.round(milliseconds * 1000)} µs`;
  if (milliseconds < 1000) return `${thin(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${thin(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** A duration as resources have it, `1m4s`, in the page's way. */
export const spaced = (told: string): string => told.replace(/(\d)([a-z]+)(?=\d|$)/g, (_, digit: string, unit: string) => `${digit} ${unit === "m" ? "min" : unit} `).trim();

export const ofNs = (ns: number | null): string => (ns === null ? "running" : duration(ns / NS));

/** Three digits that count. */
function thin(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function count(value: number): string {
  if (value < 10_000) return value.toLocaleString("en");
  if (value < 1e6) return `${(value / 1e3).toFixed(1)}k`;
  if (value < 1e9) return `${(value / 1e6).toFixed(2)}M`;
  return `${(value / 1e9).toFixed(2)}G`;
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at++;
  }
  return `${at === 0 ? value : thin(value)} ${units[at]}`;
}

export function cost(value: number): string {
  if (value === 0) return "–";
  return `$${value < 0.01 ? value.toPrecision(2) : value.toFixed(2)}`;
}

export function age(time: string, now = Date.now()): string {
  const passed = Math.max(0, now - ms(time)) / 1000;
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86_400) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86_400)} d ago`;
}

const two = (n: number): string => String(n).padStart(2, "0");

let utcShown = false;

/** Whether times are shown in UTC; told once, for all of the page. */
export function showUtc(on?: boolean): boolean {
  if (on !== undefined) utcShown = on;
  return utcShown;
}

/** 14:45:00.123 of the day, in local time or UTC. */
export function clock(time: string, utc = utcShown): string {
  const at = new Date(ms(time));
  const parts = utc
    ? [at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds(), at.getUTCMilliseconds()]
    : [at.getHours(), at.getMinutes(), at.getSeconds(), at.getMilliseconds()];
  return `${two(parts[0]!)}:${two(parts[1]!)}:${two(parts[2]!)}.${String(parts[3]).padStart(3, "0")}`;
}

/** 2026-11-22, in local time or UTC. */
export function day(time: string, utc = utcShown): string {
  const at = new Date(ms(time));
  return utc ? at.toISOString().slice(0, 10) : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const full = (time: string): string =>
  utcShown ? `${new Date(ms(time)).toLocaleString(undefined, { timeZone: "UTC" })} UTC  (${time})` : `${new Date(ms(time)).toLocaleString()}  (${time})`;

/** Control characters as pictures: what a program prints is data, never formatting of the page. */
export function visible(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, (c) =>
    c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : "\ufffd",
  );
}
