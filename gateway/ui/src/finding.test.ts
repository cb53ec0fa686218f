/** Looking for words in a trace, and the axes that it and plots are read by. */
import { describe, expect, it, vi } from "vitest";
import type { Span } from "./api";
import { showUtc, spaced } from "./format";
import { kindOf, ticks } from "./spans";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
const { hitsIn, isWhole, wordsOf } = await import("./finding");
const { hits } = await import("./parts/marked");
const { timeTicks } = await import("./parts/axis");

const span = (id: string, name: string, more: Partial<Span> = {}): Span => ({ id, name, startTime: "2026-11-22T10:00:00Z", endTime: null, durationNs: null, status: "ok", ...more });

describe("words that are looked for in a trace", () => {
  it("are found in names, kinds, models and errors, and in what came live", () => {
    const spans = [
      span("a", "invoke_agent Support", { attributes: { "gen_ai.operation.name": "invoke_agent" } }),
      span("b", "chat", { model: "gpt-Support" }),
      span("c", "GET /x", { statusMessage: "no support here" }),
      span("d", "live", { whole: true, attributes: { "gen_ai.input.messages": [{ role: "user", text: "SUPPORT me" }] } }),
      span("e", "stored", { attributes: { "gen_ai.input.messages": "support" } }),
    ];
    expect([...hitsIn(spans, "support ")]).toEqual(["a", "b", "c", "d"]);
    expect([...hitsIn(spans, "model call")]).toEqual(["b"]);
    expect(hitsIn(spans, "  ").size).toBe(0);
  });
  it("are those of a query, without what must not be there", () => {
    expect(wordsOf('refund "time out" -health tool:web_search (a OR b*) input:"two words"')).toEqual(["refund", "time out", "web_search", "a", "b", "two words"]);
    expect(wordsOf("")).toEqual([]);
  });
  it("are asked for when the query is whole", () => expect(['a "b c"', "tool:x", 'a "b', "tool:", "a -"].map(isWhole)).toEqual([true, true, false, false, false]));
  it("are marked once each, the longest first, whatever else is there", () => {
    expect(hits("Refunds and refund", ["refund", "refunds"])).toEqual([[0, 7], [12, 18]]);
    expect(hits("aaa", ["", "aa"])).toEqual([[0, 2]]);
    // One letter that becomes two in lower case: no place would be right.
    expect(hits("\u0130stanbul x", ["x"])).toEqual([]);
  });
});

describe("axes", () => {
  it("have three to six round times, the last within", () => {
    expect([42, 1000, 0.9, 61_000].map(ticks)).toEqual([[0, 10, 20, 30, 40], [0, 200, 400, 600, 800, 1000], [0, 0.2, 0.4, 0.6, 0.8].map((n) => expect.closeTo(n, 9)), [0, 20_000, 40_000, 60_000]]);
    for (let whole = 0.001; whole < 1e8; whole *= 1.37) {
      const found = ticks(whole);
      expect(found.length).toBeGreaterThanOrEqual(3);
      expect(found.length).toBeLessThanOrEqual(6);
      expect(found.at(-1)!).toBeLessThanOrEqual(whole * (1 + 1e-9));
    }
  });
  it("tell times of 24 hours, and the day where one begins", () => {
    showUtc(true);
    const at = Date.UTC(2026, 10, 22, 23, 30) / 1000;
    expect(timeTicks([at, at + 1800, at + 3600], 1800)).toEqual(["23:30\n2026-11-22", "00:00\n2026-11-23", "00:30"]);
    expect(timeTicks([at, at + 5], 5)).toEqual(["23:30:00\n2026-11-22", "23:30:05"]);
    expect(timeTicks([at, at + 86_400], 86_400)).toEqual(["2026-11-22", "2026-11-23"]);
    showUtc(false);
  });
});

it("tells agents and workflows apart, and durations of resources as all others", () => {
  const kind = (attributes: Record<string, unknown>): string => kindOf(span("s", "s", { attributes }));
  expect([{ "gen_ai.operation.name": "invoke_workflow" }, { "mastra.span.type": "workflow_step" }, { "mastra.span.type": "agent_run" }, { "mastra.span.type": "mcp_tool_call" }].map(kind)).toEqual(["workflow", "workflow", "agent", "tool"]);
  expect(["4s", "1m4s", "1h2m", "300ms"].map(spaced)).toEqual(["4 s", "1 min 4 s", "1 h 2 min", "300 ms"]);
});
