/** Lines over time: a legend that works without colour, a brush that chooses a time, dots that lead to
 *  traces, and the same numbers as a table. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Unit } from "../figures";
import { full, ms, showUtc } from "../format";
import { choose } from "../place";
import { between } from "../when";
import { axis, colour, timeAxis, zone } from "./axis";
import { useDark } from "./dark";
import "./chart.css";

export interface Line {
  name: string;
  values: (number | null)[];
}

/** A dot that stands for something that can be opened. */
export interface Dot {
  /** Milliseconds. */
  at: number;
  value: number;
  /** What is said of it. */
  name: string;
  bad: boolean;
  open: () => void;
}

interface Props {
  title: string;
  unit: Unit;
  /** RFC 3339, ascending: when each piece begins. */
  times: string[];
  lines: Line[];
  dots?: Dot[];
  note?: string;
  height?: number;
}

/** Colour and dashes of the nth line: each tells them apart alone. */
const STYLES: readonly (readonly [string, number[]])[] = [
  ["--accent", []],
  ["--tool", [8, 4]],
  ["--agent", [2, 3]],
  ["--http", [10, 3, 2, 3]],
  ["--db", [4, 4]],
  ["--other", [12, 6]],
];
export const styleOf = (n: number): readonly [string, number[]] => [STYLES[n % STYLES.length]![0], STYLES[(n + Math.floor(n / STYLES.length)) % STYLES.length]![1]];

/** A drag chooses the time that all of the page shows. */
export const zoom = (from: number, to: number): void => choose({ ...between(from, to), live: undefined }, false);

export function Chart({ title, unit, times, lines, dots = [], note, height = 160 }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const drawn = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const [open, setOpen] = useState(false);
  const dark = useDark();
  const latest = useRef({ dots, unit });
  latest.current = { dots, unit };
  const any = lines.some((l) => l.values.some((v) => v !== null));
  const data = [times.map((t) => ms(t) / 1000), ...lines.map((l) => l.values)] as uPlot.AlignedData;
  const key = JSON.stringify([data, dots.map((d) => [d.at, d.value])]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const plot = new uPlot(options(element.clientWidth || 420, height, lines.length, latest, setAt), data, element);
    drawn.current = plot;
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
      drawn.current = null;
    };
  }, [lines.length, height, any, dark, showUtc()]);
  useEffect(() => drawn.current?.setData(data), [key]);
  const here = at !== null && at < times.length ? at : null;
  const value = (of: Line): string => {
    const v = here === null ? undefined : of.values[here];
    return v === null || v === undefined ? (here === null ? "" : "–") : unit(v);
  };
  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        <small>{here === null ? note : full(times[here]!).split("  (")[0]}</small>
      </figcaption>
      {any ? <div role="img" aria-label={`${title} over time; the table has its numbers`} ref={box} /> : <div class="none">Nothing in this time.</div>}
      {lines.length > 0 && (
        <ul class="legend">
          {lines.map((line, n) => (
            <li key={n}>
              <Sample n={n} /> {line.name} <b>{value(line)}</b>
            </li>
          ))}
          {dots.length > 0 && (
            <li>
              <svg viewBox="0 0 28 10" aria-hidden="true">
                <rect x="2" y="1" width="8" height="8" fill="var(--bad)" />
                <circle cx="21" cy="5" r="4" fill="none" stroke="var(--ink)" stroke-width="1.5" />
              </svg>
              traces: failed, slow
            </li>
          )}
        </ul>
      )}
      {any && (
        <details open={open}>
          {/* Not by `toggle`, which is told later: a Tab right after Enter would have left before the table was there. */}
          <summary
            onClick={(e) => {
              e.preventDefault();
              setOpen(!open);
            }}
          >
            As a table
          </summary>
          {open && <Numbers title={title} unit={unit} times={times} lines={lines} dots={dots} />}
        </details>
      )}
    </figure>
  );
}

function options(width: number, height: number, many: number, latest: { current: { dots: Dot[]; unit: Unit } }, pointed: (at: number | null) => void): uPlot.Options {
  return {
    width,
    height,
    legend: { show: false },
    ...zone(),
    scales: { y: { range: (_, __, most) => [0, Math.max(most ?? 0, ...latest.current.dots.map((d) => d.value)) * 1.08 || 1] } },
    axes: [timeAxis(), { ...axis(), size: (_, texts) => 24 + 7 * Math.max(0, ...(texts ?? []).map((t) => t.length)), values: (_, ticks) => ticks.map((t) => latest.current.unit(t)) }],
    series: [
      {},
      ...Array.from({ length: many }, (_, n): uPlot.Series => {
        const [name, dash] = styleOf(n);
        return { stroke: colour(name), width: 1.75, dash: [...dash], points: { size: 4, fill: colour(name) } };
      }),
    ],
    cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: "figures" } },
    hooks: {
      setCursor: [(u) => pointed(u.cursor.idx ?? null)],
      setSelect: [
        (u) => {
          if (u.select.width < 4) return;
          const right = u.select.left + u.select.width;
          const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(right, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          // A point stands for the time up to the next one: who brushes to the last means all of it.
          const starts = u.data[0];
          const nearest = starts[u.posToIdx(right)] ?? to;
          const step = (starts[1] ?? 0) - (starts[0] ?? 0);
          zoom(from * 1000, Math.max(to, nearest + step) * 1000);
        },
      ],
      draw: [(u) => latest.current.dots.forEach((dot) => drawDot(u, dot))],
      ready: [
        (u) =>
          u.over.addEventListener("click", () => {
            const { left = -99, top = -99 } = u.cursor;
            const close = latest.current.dots
              .map((dot) => ({ dot, far: Math.hypot(u.valToPos(dot.at / 1000, "x") - left, u.valToPos(dot.value, "y") - top) }))
              .sort((a, b) => a.far - b.far)[0];
            if (close && close.far < 12) close.dot.open();
          }),
      ],
    },
  };
}

function drawDot(u: uPlot, dot: Dot): void {
  const [x, y] = [u.valToPos(dot.at / 1000, "x", true), u.valToPos(dot.value, "y", true)];
  if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
  const size = 4 * devicePixelRatio;
  u.ctx.beginPath();
  if (dot.bad) {
    u.ctx.fillStyle = colour("--bad");
    u.ctx.fillRect(x - size, y - size, 2 * size, 2 * size);
  } else {
    u.ctx.strokeStyle = colour("--ink");
    u.ctx.setLineDash([]);
    u.ctx.lineWidth = 1.5 * devicePixelRatio;
    u.ctx.arc(x, y, size, 0, 2 * Math.PI);
    u.ctx.stroke();
  }
}

function Sample({ n }: { n: number }): JSX.Element {
  const [name, dash] = styleOf(n);
  return (
    <svg viewBox="0 0 28 10" aria-hidden="true">
      <line x1="0" y1="5" x2="28" y2="5" stroke={`var(${name})`} stroke-width="2" stroke-dasharray={dash.join(" ")} />
    </svg>
  );
}

/** What was plotted, in numbers; what is nowhere is left out. */
function Numbers({ title, unit, times, lines, dots }: Required<Pick<Props, "title" | "unit" | "times" | "lines" | "dots">>): JSX.Element {
  const rows = times.map((time, i) => ({ time, values: lines.map((l) => l.values[i] ?? null) })).filter((row) => row.values.some((v) => v !== null && v !== 0));
  return (
    <div class="figures" tabIndex={0}>
      <table aria-label={title}>
        <thead>
          <tr>
            <th>Time</th>
            {lines.map((l, n) => (
              <th key={n} class="num">
                {l.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.time}>
              <td class="nowrap">{full(row.time).split("  (")[0]}</td>
              {row.values.map((v, n) => (
                <td key={n} class="num">
                  {v === null ? "–" : unit(v)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length === 0 && <p class="soft">Only zeros.</p>}
      {dots.length > 0 && (
        <ul>
          {dots.map((dot, i) => (
            <li key={i}>
              <button onClick={dot.open}>
                {dot.name}, {unit(dot.value)}
                {dot.bad ? ", failed" : ""}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
