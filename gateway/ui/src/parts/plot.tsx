/** A scatter of traces over time: when, how long, and which failed. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Trace } from "../api";
import { duration, ms, showUtc } from "../format";
import { axis, colour, timeAxis, zone } from "./axis";
import { useDark } from "./dark";

interface Props {
  traces: Trace[];
  brushed: (from: number, to: number) => void;
  open: (trace: Trace) => void;
}

export function Scatter({ traces, brushed, open }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const acts = useRef({ brushed, open });
  acts.current = { brushed, open };
  const dark = useDark();
  useEffect(() => {
    const element = box.current!;
    const known = traces
      .filter((trace) => trace.durationNs !== null)
      .map((trace) => ({ trace, at: ms(trace.startTime) / 1000, took: Math.max(trace.durationNs! / 1e6, 0.01) }))
      .sort((a, b) => a.at - b.at);
    const bad = (failed: boolean): (number | null)[] => known.map((k) => ((k.trace.status === "error") === failed ? k.took : null));
    const points = (stroke: string, filled: boolean): uPlot.Series => ({
      stroke,
      paths: () => null,
      points: { show: true, size: filled ? 8 : 6, fill: filled ? stroke : colour("--ground"), width: 2 },
    });
    const plot = new uPlot(
      {
        width: element.clientWidth || 600,
        height: 160,
        scales: { y: { distr: 3, log: 10 } },
        legend: { show: false },
        ...zone(),
        axes: [timeAxis(), { ...axis(), size: 64, values: (_, ticks) => ticks.map((t) => (t === null ? "" : duration(t))) }],
        series: [{}, points(colour("--accent"), false), points(colour("--bad"), true)],
        cursor: { drag: { x: true, y: false, setScale: false } },
        hooks: {
          setSelect: [
            (u) => {
              if (u.select.width < 4) return;
              acts.current.brushed(u.posToVal(u.select.left, "x") * 1000, u.posToVal(u.select.left + u.select.width, "x") * 1000);
            },
          ],
        },
      },
      [known.map((k) => k.at), bad(false), bad(true)],
      element,
    );
    plot.over.addEventListener("click", () => {
      const index = plot.cursor.idx;
      const hit = index === null || index === undefined ? undefined : known[index];
      if (hit && plot.select.width < 4) acts.current.open(hit.trace);
    });
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 160 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [traces, dark, showUtc()]);
  return (
    <figure class="plot">
      <figcaption>
        <span>Duration</span>
        <span class="legend">
          <span>
            <svg viewBox="0 0 10 10" aria-hidden="true">
              <circle cx="5" cy="5" r="3.5" fill="none" stroke="var(--accent)" stroke-width="2" />
            </svg>{" "}
            ok
          </span>
          <span>
            <svg viewBox="0 0 10 10" aria-hidden="true">
              <circle cx="5" cy="5" r="4.5" fill="var(--bad)" />
            </svg>{" "}
            failed
          </span>
        </span>
        <small>a dot opens its trace; drag to choose a time</small>
      </figcaption>
      <div role="img" aria-label={`duration of ${traces.length} traces over time; the table below has the same`} ref={box} />
    </figure>
  );
}
