/** Values over time, as `traces/series` and `scores/series` answer them, and what is told from them. */
import { bytes, cost, count, duration, ms } from "./format";
import { span as durationOf } from "./when";

export interface Figures {
  traces: number;
  errors: number;
  p50Ns: number | null;
  p95Ns: number | null;
  p99Ns: number | null;
  inputTokens: number;
  outputTokens: number;
  cost: number;
}

export interface Point extends Figures {
  time: string;
}

export interface SeriesOf {
  deployment: string | null;
  revision: string | null;
  other: boolean;
  total: Figures;
  points: Point[];
}

export interface Span {
  from: string;
  to: string;
  stepSeconds: number;
}

export interface TraceSeries extends Span {
  series: SeriesOf[];
}

export interface ScoreSeriesOf {
  name: string;
  deployment: string | null;
  revision: string | null;
  kind: "number" | "boolean" | "category";
  total: { count: number; mean: number | null; p5: number | null; p50: number | null; p95: number | null };
  points: { time: string; count: number; mean: number | null; min: number | null; max: number | null }[];
  histogram: { from: number; to: number; count: number }[];
  values: { value: string; count: number }[];
}

export interface ScoreSeries extends Span {
  series: ScoreSeriesOf[];
  more: boolean;
}

/** How a number is written: with its unit. */
export type Unit = (value: number) => string;

const few = (value: number): string => (value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : Math.abs(value) < 10 ? String(Number(value.toPrecision(3))) : count(Math.round(value)));

export const UNITS = {
  count: (v: number) => count(Math.round(v)),
  perSecond: (v: number) => `${few(v)}/s`,
  percent: (v: number) => `${v === 0 ? "0" : v < 10 ? v.toFixed(1) : v.toFixed(0)} %`,
  duration: (v: number) => (v === 0 ? "0" : duration(v)),
  tokens: (v: number) => `${few(v)} tokens/s`,
  costPerHour: (v: number) => (v === 0 ? "$0/h" : `${cost(v)}/h`),
  plain: few,
} satisfies Record<string, Unit>;

/** Seconds of each piece that lie in the time that was asked for: the first and last one reach beyond it. */
export function seconds(of: Span, times: string[]): number[] {
  const [from, to] = [ms(of.from), ms(of.to)];
  return times.map((time) => {
    const begin = ms(time);
    return Math.max(0, Math.min(to, begin + of.stepSeconds * 1000) - Math.max(from, begin)) / 1000;
  });
}

export type Measure = "requests" | "failed" | "errors" | "p50" | "p95" | "p99" | "input" | "output" | "tokens" | "cost";

/** A measure's value in one piece of so many seconds; null: nothing to tell. */
export function measured(of: Measure, point: Figures, lasts: number): number | null {
  const rate = (n: number): number | null => (lasts > 0 ? n / lasts : null);
  const time = (ns: number | null): number | null => (ns === null ? null : ns / 1e6);
  switch (of) {
    case "requests":
      return rate(point.traces);
    case "failed":
      return rate(point.errors);
    case "errors":
      return point.traces ? (point.errors / point.traces) * 100 : null;
    case "p50":
      return time(point.p50Ns);
    case "p95":
      return time(point.p95Ns);
    case "p99":
      return time(point.p99Ns);
    case "input":
      return rate(point.inputTokens);
    case "output":
      return rate(point.outputTokens);
    case "tokens":
      return rate(point.inputTokens + point.outputTokens);
    case "cost":
      return lasts > 0 ? (point.cost / lasts) * 3600 : null;
  }
}

/** A measure of a series over time. */
export function line(of: Measure, series: SeriesOf, span: Span): (number | null)[] {
  const lasts = seconds(span, series.points.map((p) => p.time));
  return series.points.map((point, i) => measured(of, point, lasts[i]!));
}

/** What a series is called. */
export function nameOf(series: { deployment: string | null; revision: string | null; other?: boolean }): string {
  if (series.other) return "all others";
  if (series.deployment === null) return "all";
  const deployment = series.deployment || "(no deployment)";
  return series.revision === null ? deployment : `${deployment}, ${series.revision ? `revision ${series.revision}` : "no revision"}`;
}

export interface Change {
  /** In words: `12 % more`. */
  text: string;
  /** … `than yesterday`. */
  than: string;
  way: "up" | "down" | "same";
}

/** How a value stands against what it was `before`; undefined where one of them is not known. */
export function change(now: number | null, was: number | null, before: string): Change | undefined {
  if (now === null || was === null) return undefined;
  const by = was === 0 ? (now === 0 ? 0 : Infinity) : (now - was) / was;
  if (Math.abs(by) < 0.02) return { text: "same", than: `as ${before}`, way: "same" };
  if (by === Infinity) return { text: "none", than: before, way: "up" };
  if (by >= 1) return { text: `${(by + 1).toFixed(by < 9 ? 1 : 0)} ×`, than: before, way: "up" };
  return { text: `${(Math.abs(by) * 100).toFixed(0)} % ${by > 0 ? "more" : "less"}`, than: `than ${before}`, way: by > 0 ? "up" : "down" };
}

const DAY = 864e5;

/** The time that a view's time is held against: a day before, of more than a day the same length before. */
export function earlier(time: { from: string; to: string | undefined }, now = Date.now()): { from: string; to: string; name: string } {
  const back = durationOf(time.from);
  if (back !== undefined) {
    const by = Math.max(DAY, back);
    return { from: `${(back + by) / 1e3}s`, to: `${by / 1e3}s`, name: by === DAY ? "yesterday" : "before" };
  }
  const [from, to] = [Date.parse(time.from), time.to === undefined ? now : Date.parse(time.to)];
  const by = Math.max(DAY, to - from);
  return { from: new Date(from - by).toISOString(), to: new Date(to - by).toISOString(), name: by === DAY ? "the day before" : "before" };
}

/** The share of failed ones in percent; null of none. */
export const failing = (of: Figures): number | null => (of.traces ? (of.errors / of.traces) * 100 : null);

export interface MetricNames {
  names: { name: string; kind: string; unit: string; description: string; points: number; series: number; attributes: string[] }[];
  more: boolean;
}

export interface MetricPoint {
  time: string;
  rate: number | null;
  mean: number | null;
  min: number | null;
  max: number | null;
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface MetricSeries extends Span {
  kind: string;
  unit: string;
  series: { deployment: string | null; revision: string | null; value: string | null; points: MetricPoint[] }[];
  more: boolean;
}

/** How values of a metric are written, by the unit that it tells (UCUM: `s`, `ms`, `By`, `{question}`). */
export function unitOf(unit: string): Unit {
  const scale = { s: 1e3, ms: 1, us: 1e-3, ns: 1e-6 }[unit];
  if (scale !== undefined) return (v) => UNITS.duration(v * scale);
  if (unit === "By") return (v) => (v < 0 ? `-${bytes(-v)}` : bytes(v));
  if (unit === "%") return UNITS.percent;
  const word = unit.replace(/^\{(.*)\}$/, "$1");
  return (v) => (word && word !== "1" ? `${few(v)} ${word}` : few(v));
}

/** What is plotted of a metric: of one series all that it tells, of several one line each. */
export function metricLines(of: MetricSeries, most: number): { title: string; unit: Unit; lines: { name: string; values: (number | null)[] }[] }[] {
  const unit = unitOf(of.unit);
  const perSecond: Unit = (v) => `${few(v)}/s`;
  const one = of.series.length === 1;
  const called = (s: MetricSeries["series"][number]): string => (s.value === null ? nameOf(s) : s.value || "(without)");
  const each = (pick: (p: MetricPoint) => number | null): { name: string; values: (number | null)[] }[] =>
    of.series.slice(0, most).map((s) => ({ name: called(s), values: s.points.map(pick) }));
  const several = (names: (keyof MetricPoint)[]): { name: string; values: (number | null)[] }[] =>
    names.map((name) => ({ name, values: of.series[0]!.points.map((p) => p[name] as number | null) }));
  if (of.kind === "histogram")
    return [
      { title: one ? "Values" : "Values, p95", unit, lines: one ? several(["p50", "p95", "p99"]) : each((p) => p.p95) },
      { title: "How many", unit: perSecond, lines: each((p) => p.rate) },
    ];
  if (of.kind === "counter") return [{ title: "Rate", unit: (v) => `${unit(v)}/s`, lines: each((p) => p.rate) }];
  return [{ title: one ? "Level" : "Level, mean", unit, lines: one ? several(["mean", "min", "max"]) : each((p) => p.mean) }];
}
