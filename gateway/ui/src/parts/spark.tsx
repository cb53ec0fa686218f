/** A small line without axes: how something went, beside the number that it came to. */
import type { JSX } from "preact";
import "./chart.css";

const WIDE = 120;
const HIGH = 24;

/** Points of the line's pieces: where a value is not there, the line is broken. Pure, for tests. */
export function strokes(values: (number | null)[], wide = WIDE, high = HIGH): string[] {
  const known = values.filter((v): v is number => v !== null);
  const top = Math.max(...known, 0);
  const low = Math.min(...known, 0);
  const x = (i: number): number => (values.length < 2 ? wide / 2 : (i / (values.length - 1)) * wide);
  const y = (v: number): number => (top === low ? high - 1 : high - 1 - ((v - low) / (top - low)) * (high - 2));
  const pieces: string[] = [];
  let piece: string[] = [];
  values.forEach((v, i) => {
    if (v !== null) piece.push(`${x(i).toFixed(1)},${y(v).toFixed(1)}`);
    if ((v === null || i === values.length - 1) && piece.length) {
      // One value alone would be nothing to see.
      if (piece.length === 1) piece.push(`${(x(v === null ? i - 1 : i) + 1.5).toFixed(1)},${piece[0]!.split(",")[1]}`);
      pieces.push(piece.join(" "));
      piece = [];
    }
  });
  return pieces;
}

/** `label` says what the line says, for who does not see it. */
export function Spark({ values, label, kind = "" }: { values: (number | null)[]; label: string; kind?: "" | "bad" }): JSX.Element {
  return (
    <svg class={`spark ${kind}`} viewBox={`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <title>{label}</title>
      {strokes(values).map((points, i) => (
        <polyline key={i} points={points} />
      ))}
    </svg>
  );
}
