import { describe, expect, it, vi } from "vitest";
import type { Span } from "./api";
import { ansi, plain } from "./ansi";
import { short } from "./commits";
import { bytes, cost, count, duration, ms, visible } from "./format";
import { scroll, TALLEST } from "./scroll";
import { messages } from "./conversation";
import { isBehind, kindOf, rows, tree, withLive } from "./spans";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { decoded } = await import("./place");
const { levelFilter } = await import("./streaming");
const { joined } = await import("./whole");

const span = (id: string, parent: string, start: number, end: number | null, attributes: Record<string, unknown> = {}): Span => ({
  id, traceId: "t", parentSpanId: parent, name: id, spanKind: "internal", status: "ok", attributes,
  startTime: new Date(start).toISOString(), endTime: end === null ? null : new Date(end).toISOString(),
  durationNs: end === null ? null : (end - start) * 1e6,
});

describe("numbers and times", () => {
  it("keeps nanoseconds as fractions", () => expect(ms("1970-01-01T00:00:01.000500000Z")).toBeCloseTo(1000.5, 6));
  it("is short, with units", () => {
    expect([0.137, 58.13, 1240, 75_000, 7_300_000].map(duration)).toEqual(["137 µs", "58.1 ms", "1.24 s", "1 min 15 s", "2 h 1 min"]);
    expect([999, 18_300, 2_500_000].map(count)).toEqual(["999", "18.3k", "2.50M"]);
    expect([14_200, 999].map(bytes)).toEqual(["14.2 kB", "999 B"]);
    expect([0.0042, 0, 1.5].map(cost)).toEqual(["$0.0042", "–", "$1.50"]);
  });
  it("shows control characters, and never obeys them", () => expect(visible("a\u0007b\u202ec\td")).toBe("a\u2407b\ufffdc\td"));
});

describe("ANSI", () => {
  it("colours, and leaves every other sequence out", () => {
    expect(ansi("plain")).toEqual([{ text: "plain", style: {} }]);
    const pieces = ansi("\u001b[31mred\u001b[0m \u001b[2Kafter \u001b[38;5;200;1mbold");
    expect(pieces.map((p) => p.text).join("")).toBe("red after bold");
    expect(plain("\u001b[31mred\u001b[0m \u001b[2Kafter")).toBe("red after");
    expect(pieces[0]!.style["color"]).toBeTruthy();
    expect(pieces.at(-1)!.style).toEqual({ "font-weight": "700" });
  });
});

const drawn = (spans: Span[], folded: string[], now: number) => rows(tree(spans, now), new Set(folded));

describe("a trace as a tree", () => {
  it("has parents before children, siblings by time, orphans and rings at the root", () => {
    const nodes = drawn([span("c", "a", 30, 40), span("a", "", 0, 50), span("b", "a", 10, 20), span("o", "gone", 5, 6), span("x", "y", 1, 2), span("y", "x", 1, 2)], [], 99);
    expect(nodes.map((n) => [n.span.id, n.depth])).toEqual([["a", 0], ["b", 1], ["c", 1], ["x", 0], ["y", 1], ["o", 0]]);
    expect(nodes.filter((n) => n.critical).map((n) => n.span.id)).toEqual(["a", "b", "c"]);
  });
  it("waited for what ended last, before that for what ended before it began, and for nothing beside them", () => {
    const nodes = drawn([span("a", "", 0, 50), span("b", "a", 10, 20), span("b1", "b", 12, 15), span("c", "a", 30, 60), span("beside", "a", 12, 35)], [], 99);
    expect(nodes.filter((n) => n.critical).map((n) => n.span.id)).toEqual(["a", "b", "b1", "c"]);
  });
  it("folds", () => expect(drawn([span("a", "", 0, 5), span("b", "a", 1, 2)], ["a"], 9)).toHaveLength(1));
  it("lets open spans grow until now", () => expect(drawn([span("a", "", 10, null)], [], 500)[0]!.end).toBe(500));
  it("draws 10,000 spans at once", () => {
    const many = Array.from({ length: 10_000 }, (_, i) => span(`s${i}`, i ? `s${Math.floor((i - 1) / 3)}` : "", i, i + 10));
    const before = performance.now();
    expect(drawn(many, [], 0)).toHaveLength(10_000);
    expect(performance.now() - before).toBeLessThan(2_000);
  });
  it("takes in what was heard since it was asked for, and stays the same list while that is nothing new", () => {
    const stored = [span("a", "", 0, null, { model: "m" }), span("b", "a", 1, 2)];
    const heard = (...spans: Span[]) => withLive(stored, new Map(spans.map((one) => [one.id, one])));
    expect(heard()).toBe(stored);
    expect(heard(span("b", "a", 1, null), span("b", "a", 1, 3))).toBe(stored);
    expect(heard(span("a", "", 0, null, { step: 2 }))[0]).toMatchObject({ endTime: null, attributes: { model: "m", step: 2 } });
    expect(heard(span("a", "", 0, 9), span("c", "a", 4, null)).map((one) => [one.id, one.endTime !== null])).toEqual([["a", true], ["b", true], ["c", false]]);
  });
  it("is behind while something that ended is not stored as ended", () => {
    const stored = [span("a", "", 0, null), span("b", "a", 1, 2)];
    const behind = (...spans: Span[]) => isBehind(stored, new Map(spans.map((one) => [one.id, one])));
    expect([behind(), behind(span("a", "", 0, null), span("c", "a", 1, null)), behind(span("b", "a", 1, 2))]).toEqual([false, false, false]);
    expect([behind(span("a", "", 0, 9)), behind(span("c", "a", 1, 2)), behind(span("b", "a", 1, 2), span("c", "a", 1, 2))]).toEqual([true, true, true]);
    expect(isBehind([], new Map())).toBe(false);
  });
  it("tells agents, models, tools, HTTP and databases apart", () => {
    const kinds = [{ "gen_ai.operation.name": "invoke_agent" }, { "gen_ai.operation.name": "chat" }, { "gen_ai.operation.name": "execute_tool" }, { "http.request.method": "GET" }, { "db.system.name": "x" }, {}];
    expect(kinds.map((at) => kindOf(span("s", "", 0, 1, at)))).toEqual(["agent", "model", "tool", "http", "db", "other"]);
  });
});

describe("a span that is looked at", () => {
  const begun = { ...span("a", "", 0, null, { model: "m", step: 1 }), spanKind: "client" };
  it("is what is stored of it, and what was heard since", () => {
    const outline = span("a", "", 0, null, { step: 2 });
    expect(joined(outline, undefined)).toBe(outline);
    expect(joined(outline, begun)).toMatchObject({ spanKind: "client", endTime: null, attributes: { model: "m", step: 2 } });
  });
  it("has ended when its outline says so, also while its end is being asked for", () => {
    const ended = span("a", "", 0, 9);
    expect(joined(ended, begun)).toMatchObject({ endTime: ended.endTime, attributes: { model: "m" } });
    const whole = { ...begun, endTime: ended.endTime };
    expect(joined(ended, whole)).toBe(whole);
  });
});

describe("conversations", () => {
  it("reads OpenTelemetry's messages with tool calls, plain ones, and text", () => {
    const parts = [{ role: "assistant", parts: [{ type: "text", content: "hm" }, { type: "tool_call", name: "look", arguments: { q: 1 } }] }];
    expect(messages(JSON.stringify(parts))).toMatchObject([{ role: "assistant", text: "hm", calls: [{ name: "look", arguments: '{\n  "q": 1\n}' }] }]);
    expect(messages([{ role: "user", content: "hi" }])).toMatchObject([{ role: "user", text: "hi", calls: [] }]);
    expect(messages("no JSON")).toMatchObject([{ role: "", text: "no JSON", calls: [] }]);
    expect(messages(undefined)).toEqual([]);
  });
  it("shows what is no message as it is", () => {
    const plain = (text: string): unknown => ({ role: "", text, calls: [] });
    expect(messages('[null, "hi", 7]')).toMatchObject([plain("null"), plain("hi"), plain("7")]);
    expect(messages([{ role: "user", parts: [null, "hi"] }])).toMatchObject([{ role: "user", text: "hi", calls: [] }]);
  });
});

describe("addresses", () => {
  it("are never a reason to fail", () => {
    expect(decoded("a%2Fb")).toBe("a/b");
    expect(decoded("%E0%A4%A")).toBe("%E0%A4%A");
    expect(levelFilter("error,loud,fatal")).toEqual({ level: ["error", "fatal"] });
    expect(levelFilter("loud")).toEqual({});
  });
});

describe("a list of a million lines", () => {
  it("is no taller than browsers make it, and reaches its last line", () => {
    const whole = 1_000_000 * 20;
    const { tall, place, top } = scroll(whole, 600);
    expect(tall).toBe(TALLEST);
    expect(place(0)).toBe(0);
    expect(place(tall - 600)).toBeCloseTo(whole - 600, 3);
    expect(place(top(12_345_678))).toBeCloseTo(12_345_678, 3);
  });
  it("is drawn as it is while it fits", () => {
    const { tall, place, top } = scroll(20_000, 600);
    expect([tall, place(777), top(777)]).toEqual([20_000, 777, 777]);
  });
});

describe("ids of commits", () => {
  const id = "0123456789abcdef".repeat(4);
  it("are cut, and still say that the folder differed", () =>
    expect([id.slice(0, 40), id, `${id.slice(0, 40)}-dirty`].map(short)).toEqual(["0123456789ab", "0123456789ab", "0123456789ab-dirty"]));
  it("leaves a branch or folder its name", () => expect(["main", "/a/b", "abc1234"].map(short)).toEqual(["main", "/a/b", "abc1234"]));
});
