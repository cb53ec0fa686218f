import { describe, expect, it, vi } from "vitest";
import type { Point } from "./figures";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { change, earlier, line, measured, metricLines, nameOf, seconds, UNITS, unitOf } = await import("./figures");
const { strokes } = await import("./parts/spark");

const point = (time: string, more: Partial<Point> = {}): Point => ({ time, traces: 0, errors: 0, p50Ns: null, p95Ns: null, p99Ns: null, inputTokens: 0, outputTokens: 0, cost: 0, ...more });
const span = { from: "2026-11-21T10:00:30Z", to: "2026-11-21T10:02:15Z", stepSeconds: 60 };
const times = ["2026-11-21T10:00:00Z", "2026-11-21T10:01:00Z", "2026-11-21T10:02:00Z"];

describe("rates", () => {
  it("are of the part of a piece that was asked for", () => {
    expect(seconds(span, times)).toEqual([30, 60, 15]);
    const series = { deployment: null, revision: null, other: false, total: point(""), points: times.map((t) => point(t, { traces: 30, inputTokens: 60, cost: 1 })) };
    expect(line("requests", series, span)).toEqual([1, 0.5, 2]);
    expect(line("input", series, span)).toEqual([2, 1, 4]);
    expect(line("cost", series, span)).toEqual([120, 60, 240]);
  });
  it("of nothing are nothing, not zero", () => {
    expect(measured("errors", point(""), 60)).toBeNull();
    expect(measured("p95", point(""), 60)).toBeNull();
    expect(measured("requests", point(""), 60)).toBe(0);
    expect(measured("requests", point("", { traces: 3 }), 0)).toBeNull();
    expect(measured("errors", point("", { traces: 8, errors: 2 }), 60)).toBe(25);
    expect(measured("p95", point("", { p95Ns: 2_500_000 }), 60)).toBe(2.5);
  });
  it("have units", () => {
    expect([UNITS.perSecond(0.00042), UNITS.perSecond(12.345), UNITS.percent(2.5), UNITS.percent(0), UNITS.duration(1240), UNITS.tokens(18_300), UNITS.costPerHour(0.0042)]).toEqual(["4.2e-4/s", "12/s", "2.5 %", "0 %", "1.24 s", "18.3k tokens/s", "$0.0042/h"]);
  });
});

describe("a change against yesterday", () => {
  const told = (now: number | null, was: number | null): unknown => change(now, was, "yesterday");
  it("is told in words, with its way", () => {
    expect([told(112, 100), told(75, 100), told(250, 100), told(101, 100), told(3, 0), told(0, 0)]).toEqual([
      { text: "12 % more", than: "than yesterday", way: "up" },
      { text: "25 % less", than: "than yesterday", way: "down" },
      { text: "2.5 ×", than: "yesterday", way: "up" },
      { text: "same", than: "as yesterday", way: "same" },
      { text: "none", than: "yesterday", way: "up" },
      { text: "same", than: "as yesterday", way: "same" },
    ]);
  });
  it("is not told where one of the two is not known", () => expect([told(null, 1), told(1, null)]).toEqual([undefined, undefined]));
  it("is against the same time a day before, or the time before of a longer one", () => {
    expect(earlier({ from: "1h", to: undefined })).toEqual({ from: "90000s", to: "86400s", name: "yesterday" });
    expect(earlier({ from: "7d", to: undefined })).toEqual({ from: "1209600s", to: "604800s", name: "before" });
    expect(earlier({ from: "2026-11-21T10:00:00Z", to: "2026-11-21T11:00:00Z" })).toMatchObject({ from: "2026-11-20T10:00:00.000Z", to: "2026-11-20T11:00:00.000Z" });
  });
});

describe("a small line", () => {
  it("is broken where nothing is known, and shows one value alone", () => {
    expect(strokes([0, 4, null, 2], 30, 12)).toEqual(["0.0,11.0 10.0,1.0", "30.0,6.0 31.5,6.0"]);
    expect(strokes([null, null])).toEqual([]);
    expect(strokes([0, 0], 30, 12)).toEqual(["0.0,11.0 30.0,11.0"]);
  });
  it("of a series is named after what it is of", () => {
    expect([nameOf({ deployment: null, revision: null }), nameOf({ deployment: "a", revision: "3" }), nameOf({ deployment: "a", revision: "" }), nameOf({ deployment: "", revision: null }), nameOf({ deployment: null, revision: null, other: true })]).toEqual(["all", "a, revision 3", "a, no revision", "(no deployment)", "all others"]);
  });
});

describe("a metric of a program", () => {
  const at = (more: object): object => ({ time: "t", rate: null, mean: null, min: null, max: null, p50: null, p95: null, p99: null, ...more });
  const metric = (kind: string, ...series: object[]): Parameters<typeof metricLines>[0] => ({ ...span, kind, unit: "s", more: false, series: series.map((p, i) => ({ deployment: null, revision: null, value: series.length > 1 ? `v${i}` : null, points: [at(p)] })) }) as Parameters<typeof metricLines>[0];
  const drawn = (of: Parameters<typeof metricLines>[0]): unknown => metricLines(of, 6).map((p) => [p.title, ...p.lines.map((l) => [l.name, l.values[0]])]);
  it("is plotted as what it is", () => {
    expect(drawn(metric("counter", { rate: 2 }))).toEqual([["Rate", ["all", 2]]]);
    expect(drawn(metric("gauge", { mean: 2, min: 1, max: 3 }))).toEqual([["Level", ["mean", 2], ["min", 1], ["max", 3]]]);
    expect(drawn(metric("histogram", { p50: 1, p95: 2, p99: 3, rate: 4 }))).toEqual([["Values", ["p50", 1], ["p95", 2], ["p99", 3]], ["How many", ["all", 4]]]);
    expect(drawn(metric("histogram", { p95: 2, rate: 4 }, { p95: 5, rate: 6 }))).toEqual([["Values, p95", ["v0", 2], ["v1", 5]], ["How many", ["v0", 4], ["v1", 6]]]);
  });
  it("has the unit that it tells", () => {
    expect([unitOf("s")(1.5), unitOf("ms")(1500), unitOf("By")(14_200), unitOf("{question}")(3), unitOf("")(0.5), unitOf("1")(2)]).toEqual(["1.50 s", "1.50 s", "14.2 kB", "3 question", "0.5", "2"]);
  });
});
