/** The axes of plots: times as everywhere in the page, of 24 hours, local or UTC. */
import uPlot from "uplot";
import { clock, day, showUtc } from "../format";

const DAY = 86_400;

export const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `ticks` in seconds, `step` apart: the time, and where a day begins, or the axis does, its date below. */
export function timeTicks(ticks: readonly number[], step: number): string[] {
  let before = "";
  return ticks.map((tick) => {
    const at = new Date(tick * 1000).toISOString();
    const date = day(at);
    const first = date !== before;
    before = date;
    if (step >= DAY) return date;
    return clock(at).slice(0, step < 60 ? 8 : 5) + (first ? `\n${date}` : "");
  });
}

/** What both axes have in common. */
export function axis(): uPlot.Axis {
  return { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
}

export function timeAxis(): uPlot.Axis {
  return { ...axis(), space: 64, values: (_, ticks, __, ___, step) => timeTicks(ticks, step) };
}

/** Where days begin, when times are those of UTC. */
export const zone = (): Pick<uPlot.Options, "tzDate"> => (showUtc() ? { tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC") } : {});
