/** How many when: bars over time, by kind; a drag, a click or Enter chooses a time. */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { UNITS } from "../figures";
import { clock, count, full } from "../format";
import "./reading.css";

export interface Bucket {
  time: string;
  total: number;
  parts: Record<string, number>;
}

interface Props {
  buckets: Bucket[];
  stepSeconds: number;
  /** Kinds from the bottom up, with their colours. */
  kinds: readonly (readonly [string, string])[];
  /** What is counted: "lines". */
  what: string;
  /** Of this kind the share is told. */
  rate?: string;
  brushed: (from: number, to: number) => void;
}

export function Histogram({ buckets, stepSeconds, kinds, what, rate, brushed }: Props): JSX.Element {
  // Kept as times, of the bars' beginnings: bars that come later may be others.
  const [dragged, setDragged] = useState<[number, number] | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const most = Math.max(1, ...buckets.map((b) => b.total));
  const n = Math.max(1, buckets.length);
  const start = (i: number): number => Date.parse(buckets[i]?.time ?? "") || 0;
  const bar = (time: number): number => Math.max(0, Math.min(n - 1, Math.floor((time - start(0)) / (stepSeconds * 1000))));
  const over = pointed === null ? null : bar(pointed);
  const drag = dragged && ([bar(dragged[0]), bar(dragged[1])] as const);
  const place = (event: PointerEvent): number => {
    const { left, width } = box.current!.getBoundingClientRect();
    return Math.max(0, Math.min(n - 1, Math.floor(((event.clientX - left) / width) * n)));
  };
  const choose = (a: number, b: number): void => {
    if (buckets.length) brushed(start(Math.min(a, b)), start(Math.max(a, b)) + stepSeconds * 1000);
  };
  const total = buckets.reduce((sum, b) => sum + b.total, 0);
  const sums = kinds.map(([kind]) => [kind, buckets.reduce((sum, b) => sum + (b.parts[kind] ?? 0), 0)] as const).filter(([, sum]) => sum > 0);
  const told = (i: number | null): string => {
    const bucket = i === null ? undefined : buckets[i];
    if (!bucket) return `${count(total)} ${what}${rate && total ? `, ${UNITS.percent((buckets.reduce((sum, b) => sum + (b.parts[rate] ?? 0), 0) / total) * 100)} ${rate}` : ""}`;
    const parts = kinds.filter(([kind]) => bucket.parts[kind]).map(([kind]) => `${count(bucket.parts[kind]!)} ${kind}`);
    return `${clock(bucket.time).slice(0, 8)}, ${length(stepSeconds)}: ${count(bucket.total)} ${what}${parts.length ? ` (${parts.join(", ")})` : ""}`;
  };
  const keys = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step) setPointed(start(Math.max(0, Math.min(n - 1, (over ?? (step > 0 ? -1 : n)) + step))));
    else if (event.key === "Enter" && over !== null) choose(over, over);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const seen = drag ? ([Math.min(...drag), Math.max(...drag) + 1] as const) : over === null ? null : ([over, over + 1] as const);
  return (
    <div class="histogram">
      <div
        class="bars"
        ref={box}
        tabIndex={0}
        role="slider"
        aria-label={`${what} over time; Enter shows the chosen time`}
        aria-valuemin={0}
        aria-valuemax={n - 1}
        aria-valuenow={over ?? 0}
        aria-valuetext={told(over)}
        onKeyDown={keys}
        onBlur={() => setPointed(null)}
        onPointerDown={(e) => {
          if (e.button !== 0) return;
          e.currentTarget.setPointerCapture(e.pointerId);
          setDragged([start(place(e)), start(place(e))]);
        }}
        onPointerMove={(e) => {
          setPointed(start(place(e)));
          if (dragged) setDragged([dragged[0], start(place(e))]);
        }}
        onPointerLeave={() => !dragged && setPointed(null)}
        onPointerCancel={() => setDragged(null)}
        onPointerUp={() => {
          if (drag) choose(...drag);
          setDragged(null);
        }}
      >
        <svg viewBox={`0 0 ${n} 100`} preserveAspectRatio="none" aria-hidden="true">
          {buckets.map((bucket, i) => {
            let top = 100;
            return kinds.map(([kind, colour]) => {
              const value = bucket.parts[kind] ?? 0;
              if (!value) return null;
              const tall = Math.max(2, (value / most) * 96);
              top -= tall;
              return <rect key={`${i} ${kind}`} x={i + 0.08} y={top} width={0.84} height={tall} fill={`var(${colour})`} />;
            });
          })}
        </svg>
        {seen && <div class="chosen" style={{ left: `${(seen[0] / n) * 100}%`, width: `${((seen[1] - seen[0]) / n) * 100}%` }} />}
      </div>
      <div class="histogram-foot soft small">
        <span title={buckets[0] ? full(buckets[0].time) : ""}>{buckets[0] ? stamp(buckets[0].time, stepSeconds * n) : ""}</span>
        <span role="status">{told(drag ? null : over)}</span>
        <span class="legend hide-narrow">
          {sums.map(([kind, sum]) => (
            <span key={kind}>
              <i style={{ background: `var(${kinds.find(([name]) => name === kind)![1]})` }} /> {kind} {count(sum)}
            </span>
          ))}
        </span>
        <span>{buckets.length ? stamp(new Date(start(buckets.length - 1) + stepSeconds * 1000).toISOString(), stepSeconds * n) : ""}</span>
      </div>
    </div>
  );
}

const stamp = (time: string, whole: number): string => (whole > 86_400 ? `${full(time).split(",")[0]} ` : "") + clock(time).slice(0, 5);

const length = (seconds: number): string => (seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(seconds % 3600 ? 1 : 0)} h`);
