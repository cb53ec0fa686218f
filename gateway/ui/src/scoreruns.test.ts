import { describe, expect, it } from "vitest";
import { names, storyRows, sums } from "./scoreruns";
import type { Entry } from "./timeline";

const entry = (id: string, more: Partial<Entry> = {}): Entry => ({ id, time: "2026-11-22T10:00:00.000000000Z", kind: "score", title: "helpful", value: 1, revision: "1", ...more });
const ids = (entries: Entry[], open: string[] = [], chosen: string | null = null): string[] => storyRows(entries, new Set(open), chosen).map((row) => row.id);

describe("scores that follow each other", () => {
  const three = [entry("a"), entry("b"), entry("c")];
  it("are one row, from three on, and up to what is no score", () => {
    expect(ids(three)).toEqual(["run:a"]);
    expect(ids(three.slice(1))).toEqual(["b", "c"]);
    expect(ids([...three, entry("line", { kind: "server:log" }), entry("d"), entry("e")])).toEqual(["run:a", "line", "d", "e"]);
    expect(ids([])).toEqual([]);
  });
  it("of another revision or another day are another row", () => {
    const later = ["d", "e", "f"].map((id) => entry(id, { revision: "2" }));
    const next = ["g", "h", "i"].map((id) => entry(id, { revision: "2", time: "2026-11-24T10:00:00.000000000Z" }));
    expect(ids([...three, ...later, ...next])).toEqual(["run:a", "run:d", "run:g"]);
  });
  it("stay open when others join them, and open for the one that the address names", () => {
    expect(ids(three, ["b"])).toEqual(["run:a", "a", "b", "c"]);
    expect(ids([entry("0"), ...three, entry("z")], ["a"])).toEqual(["run:0", "0", "a", "b", "c", "z"]);
    expect(ids(three, [], "c")).toEqual(["run:a", "a", "b", "c"]);
    expect(ids(three, [], "run:a")).toEqual(["run:a"]);
  });
  it("are found again by whichever named them", () => {
    const run = { id: "run:0", entries: [entry("0"), ...three] };
    expect([names(run, "run:a"), names(run, "run:other"), names(run, "a"), names(run, null)]).toEqual([true, false, false, false]);
  });
  it("are summed by name: mean and worst of those that are numbers", () => {
    const run = { id: "run:a", entries: [entry("a", { value: 0.5 }), entry("b", { value: 0.25 }), entry("c", { value: 0.25 }), entry("t", { title: "tone", value: "NaN" })] };
    const [helpful, tone] = sums(run);
    expect([helpful!.name, helpful!.count, helpful!.mean, helpful!.worst?.id]).toEqual(["helpful", 3, 1 / 3, "b"]);
    expect(tone).toEqual({ name: "tone", count: 1, mean: null, worst: null });
  });
});
