/** Two revisions side by side: numbers, how they differ, and whether there are enough to say so. */
import { failing, type Figures, type ScoreSeriesOf, UNITS } from "./figures";
import { cost, count, ofNs } from "./format";

/** Of fewer, a difference says nothing: one more failure of 19 is 5 points. */
export const ENOUGH = 20;

export interface Compared {
  name: string;
  a: string;
  b: string;
  /** The newer against the older one. */
  difference: string;
  /** What that means, where it means anything. */
  verdict: "better" | "worse" | "";
  /** Of how many, on each side. */
  samples: readonly [number, number];
  few: boolean;
}

interface Row {
  name: string;
  values: readonly [number | null, number | null];
  unit: (value: number) => string;
  samples: readonly [number, number];
  /** Whether more is worse, better, or neither. */
  more: "worse" | "better" | "";
  /** The difference in points instead of in percent of the older one's. */
  points?: boolean;
}

function row({ name, values: [a, b], unit, samples, more, points }: Row): Compared {
  const few = samples[0] < ENOUGH || samples[1] < ENOUGH;
  const told = (value: number | null): string => (value === null ? "–" : unit(value));
  let difference = "–";
  let verdict: Compared["verdict"] = "";
  if (a !== null && b !== null) {
    const by = b - a;
    const share = a === 0 ? null : by / Math.abs(a);
    const same = points ? Math.abs(by) < 0.05 : by === 0 || (share !== null && Math.abs(share) < 0.01);
    if (same) difference = "the same";
    else {
      const sign = by > 0 ? "+" : "−";
      const size = points ? `${Math.abs(by).toFixed(1)} points` : share === null ? unit(Math.abs(by)) : `${(Math.abs(share) * 100).toFixed(0)} %`;
      difference = `${sign}${size}`;
      if (more && !few) verdict = by > 0 === (more === "worse") ? "worse" : "better";
    }
  }
  return { name, a: told(a), b: told(b), difference, verdict, samples, few };
}

const each = (sum: number, of: number): number | null => (of ? sum / of : null);

/** What requests of both came to; undefined: it had none. */
export function compared(a: Figures | undefined, b: Figures | undefined): Compared[] {
  const samples = [a?.traces ?? 0, b?.traces ?? 0] as const;
  const both = (get: (of: Figures) => number | null): [number | null, number | null] => [a ? get(a) : null, b ? get(b) : null];
  const money = (value: number): string => (value === 0 ? "$0" : cost(value));
  return [
    row({ name: "failed", values: both(failing), unit: UNITS.percent, samples, more: "worse", points: true }),
    row({ name: "p50", values: both((f) => f.p50Ns), unit: ofNs, samples, more: "worse" }),
    row({ name: "p95", values: both((f) => f.p95Ns), unit: ofNs, samples, more: "worse" }),
    row({ name: "tokens per request", values: both((f) => each(f.inputTokens + f.outputTokens, f.traces)), unit: (v) => count(Math.round(v)), samples, more: "" }),
    row({ name: "cost per request", values: both((f) => each(f.cost, f.traces)), unit: money, samples, more: "worse" }),
  ];
}

/** Scores by name, mean against mean; what is better nobody said, so it is not judged. */
export function comparedScores(of: readonly ScoreSeriesOf[], isA: (revision: string | null) => boolean, isB: (revision: string | null) => boolean): Compared[] {
  const names = [...new Set(of.map((series) => series.name))].sort();
  return names.map((name) => {
    const totals = [isA, isB].map((is) => of.find((series) => series.name === name && is(series.revision))?.total);
    const values = totals.map((total) => total?.mean ?? null) as [number | null, number | null];
    return row({ name, values, unit: UNITS.plain, samples: [totals[0]?.count ?? 0, totals[1]?.count ?? 0], more: "" });
  });
}

/** The two numbers of an address, older first; undefined where it names none. */
export function pair(text: string | null): readonly [number, number] | undefined {
  const found = /^(\d{1,9}),(\d{1,9})$/.exec(text ?? "");
  if (!found || found[1] === found[2]) return undefined;
  const [a, b] = [Number(found[1]), Number(found[2])];
  return a < b ? [a, b] : [b, a];
}
