import { describe, expect, it, vi } from "vitest";
import type { Figures, ScoreSeriesOf } from "./figures";
import { isBad, kindsOf, KINDS, merged, ofLines, type Entry } from "./timeline";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { compared, comparedScores, pair } = await import("./compare");

const figures = (traces: number, errors: number, p95Ms: number | null, tokens = 0, cost = 0): Figures => ({
  traces, errors, p50Ns: p95Ms === null ? null : p95Ms * 5e5, p95Ns: p95Ms === null ? null : p95Ms * 1e6, p99Ns: null,
  inputTokens: tokens, outputTokens: 0, cost,
});
const score = (name: string, revision: string, mean: number, count: number): ScoreSeriesOf => ({
  name, deployment: "a", revision, kind: "number", total: { count, mean, p5: null, p50: null, p95: null }, points: [], histogram: [], values: [],
});

describe("two revisions side by side", () => {
  const of = (a: Figures | undefined, b: Figures | undefined): Record<string, ReturnType<typeof compared>[number]> =>
    Object.fromEntries(compared(a, b).map((row) => [row.name, row]));
  it("says how they differ, and judges where more is worse", () => {
    const rows = of(figures(100, 2, 400, 1000, 1), figures(50, 3, 300, 1000, 1));
    expect([rows["failed"]!.difference, rows["failed"]!.verdict]).toEqual(["+4.0 points", "worse"]);
    expect([rows["p95"]!.difference, rows["p95"]!.verdict]).toEqual(["−25 %", "better"]);
    expect([rows["tokens per request"]!.a, rows["tokens per request"]!.b, rows["tokens per request"]!.verdict]).toEqual(["10", "20", ""]);
    expect([rows["cost per request"]!.b, rows["cost per request"]!.difference, rows["cost per request"]!.verdict]).toEqual(["$0.02", "+100 %", "worse"]);
  });
  it("judges nothing by a few", () => {
    const rows = of(figures(100, 0, 400), figures(19, 19, 900));
    expect([rows["failed"]!.few, rows["failed"]!.verdict, rows["failed"]!.difference]).toEqual([true, "", "+100.0 points"]);
    expect(of(figures(20, 0, 1), figures(20, 1, 1))["failed"]!.few).toBe(false);
  });
  it("tells nothing of what is not there", () => {
    const rows = of(undefined, figures(30, 0, null));
    expect(Object.values(rows).map((row) => [row.a, row.difference])).toEqual(Array(5).fill(["–", "–"]));
    expect(rows["p95"]!.b).toBe("–");
    expect(of(figures(30, 0, 400), figures(30, 0, 401))["p95"]!.difference).toBe("the same");
  });
  it("has scores by name, of either", () => {
    const series = [score("helpful", "1", 0.5, 30), score("helpful", "2", 0.75, 40), score("new", "2", 1, 3)];
    const rows = comparedScores(series, (r) => r === "1", (r) => r === "2");
    expect(rows.map((row) => [row.name, row.a, row.b, row.difference, row.few])).toEqual([
      ["helpful", "0.5", "0.75", "+50 %", false],
      ["new", "–", "1", "–", true],
    ]);
  });
  it("is named by the address, the older one first", () => {
    expect(["3,4", "4,3", "3,3", "3", "a,b", null].map(pair)).toEqual([[3, 4], [3, 4], undefined, undefined, undefined, undefined]);
  });
});

describe("a timeline", () => {
  const entry = (id: string, time: string, more: Partial<Entry> = {}): Entry => ({ id, time: `2026-11-22T10:00:${time}Z`, kind: "event", title: id, ...more });
  it("has each entry once, by time and then by cause", () => {
    const old = [entry("b", "02.000000001"), entry("a", "01.000000000", { status: "running" })];
    const found = merged(old, [entry("s", "02.000000001", { kind: "score" }), entry("c", "02.000000001", { kind: "commit" }), entry("a", "01.000000000", { status: "ok" })], 10);
    expect(found.map((one) => one.id)).toEqual(["a", "c", "b", "s"]);
    expect(found[0]!.status).toBe("ok");
    expect(merged(old, [entry("c", "03.000000000")], 2).map((one) => one.id)).toEqual(["b", "c"]);
  });
  it("takes lines as they come under the ids that storage gives them", () => {
    const item = (seq: number, level: string) => ({ seq, line: `line ${seq}`, timestamp: "2026-11-22T10:00:01.5Z", level, pod: "p" });
    const [line, ...rest] = ofLines("w/server/0@e", [item(7, "error"), item(8, "info")], false);
    expect(rest).toEqual([]);
    expect([line!.id, line!.recordId, line!.time]).toEqual(["server:log/w/server/0@e#7", "w/server/0@e#7", "2026-11-22T10:00:01.500000000Z"]);
    expect(isBad(line!)).toBe(true);
    expect(ofLines("w", [item(8, "info")], true)).toHaveLength(1);
  });
  it("reads kinds from an address, and all where it names none that there is", () => {
    expect(kindsOf("span,commit")).toEqual(["commit", "span"]);
    expect(kindsOf("nothing")).toHaveLength(KINDS.length);
    expect(kindsOf(null)).toHaveLength(KINDS.length);
  });
});
