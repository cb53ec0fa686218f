import { describe, expect, it, vi } from "vitest";
import type { Span } from "./api";
import { asCurl, asJson, messages, told } from "./conversation";
import { Heights } from "./heights";
import { fromFilters, has, offers, quoted, terms, toggled, toggledTerm } from "./query";
import { gaps, rows, tree } from "./spans";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { justAfter } = await import("./older");

const span = (id: string, parent: string, start: number, end: number | null, attributes: Record<string, unknown> = {}): Span => ({
  id, traceId: "t", parentSpanId: parent, name: id, spanKind: "internal", status: "ok", attributes,
  startTime: new Date(start).toISOString(), endTime: end === null ? null : new Date(end).toISOString(), durationNs: null,
});

describe("heights of rows", () => {
  it("add up like a plain list, whatever is set, grows and begins anew", () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const heights = new Heights();
    let plain: number[] = [];
    for (let round = 0; round < 300; round++) {
      if (random(20) === 0) plain = plain.slice(0, random(plain.length + 1));
      else if (random(2)) plain.push(...Array.from({ length: random(40) }, () => 10 + random(50)));
      if (plain.length < heights.length || random(9) === 0) heights.reset(plain.length, (row) => plain[row]!);
      else heights.grow(plain.length, (row) => plain[row]!);
      if (plain.length) {
        const row = random(plain.length);
        heights.set(row, (plain[row] = 1 + random(300)));
      }
      const whole = plain.reduce((a, b) => a + b, 0);
      expect(heights.whole).toBe(whole);
      if (!plain.length) continue;
      const place = random(whole + 50);
      let row = 0;
      let top = 0;
      while (row < plain.length - 1 && top + plain[row]! <= place) top += plain[row++]!;
      expect([heights.at(place), heights.top(row)]).toEqual([row, top]);
    }
  });
  it("of a million rows are there at once", () => {
    const heights = new Heights();
    const before = performance.now();
    heights.reset(1_000_000, () => 20);
    heights.set(500_000, 400);
    expect([heights.whole, heights.at(10_000_100), heights.top(500_001)]).toEqual([20_000_380, 500_000, 10_000_400]);
    expect(performance.now() - before).toBeLessThan(2_000);
  });
});

describe("a query while it is written", () => {
  it("has pieces between spaces, what is quoted of one", () => {
    expect(terms('a  level:"x y" (b OR "c \\" d")').map((one) => one.text)).toEqual(["a", 'level:"x y"', "b", "OR", '"c \\" d"']);
    expect(terms('"open to the end')).toEqual([{ start: 0, end: 16, text: '"open to the end' }]);
  });
  it("quotes what would be read otherwise", () => {
    expect(["agent-1", "a b", 'say "x"', "OR", "-x", "a,b", "stra\u00dfe", ">5"].map(quoted)).toEqual(["agent-1", '"a b"', '"say \\"x\\""', '"OR"', '"-x"', '"a,b"', "stra\u00dfe", '">5"']);
  });
  it("takes a value in, and out again", () => {
    const with_ = toggled("timeout", "pod", "a b");
    expect(with_).toBe('timeout pod:"a b"');
    expect([has(with_, "pod", "a b"), has(with_, "pod", "a")]).toEqual([true, false]);
    expect(toggled(with_, "pod", "a b")).toBe("timeout");
    expect(toggledTerm(toggledTerm("", "duration:>=1s"), "duration:>=1s")).toBe("");
  });
  it("offers fields, then values of the field, at the caret", () => {
    const fields = [["level", ""], ["service", ""], ["span", ""]] as const;
    const values = new Map([["level", [{ value: "error", count: 3 }, { value: "warn", count: 9 }]], ["service", [{ value: "my agent", count: 1 }]]]);
    expect(offers("s", 1, fields, values).map((one) => one.text)).toEqual(["service:", "span:"]);
    expect(offers("-le x", 3, fields, values)[0]).toMatchObject({ query: "-level: x", caret: 7 });
    expect(offers("level:error,w", 13, fields, values)[0]).toMatchObject({ query: "level:error,warn ", caret: 17 });
    expect(offers("service:", 8, fields, values)[0]!.query).toBe('service:"my agent" ');
    expect(offers("free", 4, fields, values)).toEqual([]);
  });
  it("says what older links said", () => expect(fromFilters("warn,error", 'a "b"')).toBe('level:warn,error text:"a \\"b\\""'));
});

describe("the next page of older lines", () => {
  it("begins a nanosecond after the oldest, so that none of the same moment is missed", () => {
    expect(justAfter("2026-11-21T10:00:00.123456789Z")).toBe("2026-11-21T10:00:00.123456790Z");
    expect(justAfter("2026-11-21T10:00:00Z")).toBe("2026-11-21T10:00:00.000000001Z");
    expect(justAfter("2026-11-21T10:00:59.999999999Z")).toBe("2026-11-21T10:01:00.000Z");
  });
});

describe("gaps of a span", () => {
  it("are where nothing below it ran", () => {
    const nodes = rows(tree([span("a", "", 0, 100), span("b", "a", 10, 40), span("c", "a", 30, 60), span("d", "a", 80, 140)], 0), new Set());
    expect(gaps(nodes[0]!)).toEqual([[0, 10], [60, 80]]);
    expect(gaps(nodes[1]!)).toEqual([]);
  });
});

describe("a model call", () => {
  const chat = (id: string, at: number, input: unknown[], output: unknown[]): Span => span(id, "", at, at + 5, { "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.provider.name": "openai", "gen_ai.input.messages": input, "gen_ai.output.messages": output });
  const user = { role: "user", parts: [{ type: "text", content: "it's late" }] };
  const calls = { role: "assistant", parts: [{ type: "reasoning", content: "hm" }, { type: "tool_call", id: "c1", name: "look", arguments: { q: 1 } }] };
  const result = { role: "tool", parts: [{ type: "tool_call_response", id: "c1", response: "found" }] };
  const first = chat("1", 0, [user], [calls]);
  const second = chat("2", 10, [user, calls, result], []);
  it("tells what was said in the call before from what is new", () => {
    expect(told(second, [first, second])).toBe(2);
    expect(told(first, [first, second])).toBe(0);
    expect(told(second, [chat("0", 0, [{ role: "user", content: "else" }], []), second])).toBe(0);
  });
  it("has thinking, calls, answers and files apart, and follows no link that is none", () => {
    const [assistant, tool] = messages([calls, result]);
    expect([assistant!.thinking, assistant!.calls[0]!.name, tool!.answers, tool!.text]).toEqual(["hm", "look", "c1", "found"]);
    const [pictures] = messages([{ role: "user", content: [{ type: "image_url", image_url: { url: "https://x.example/a.png" } }, { type: "image", uri: "javascript:alert(1)" }, { type: "blob", mime_type: "image/png", content: "AAAA".repeat(1000) }] }]);
    expect(pictures!.files.map((file) => file.link)).toEqual(["https://x.example/a.png", "", ""]);
    expect(pictures!.files[2]!.about).toBe("image/png, 3 kB in the record");
  });
  it("is asked again by JSON and by a command that the shell reads as one text", () => {
    expect(asJson(second)["messages"]).toEqual([
      { role: "user", content: "it's late" },
      { role: "assistant", content: "", tool_calls: [{ id: "c1", type: "function", function: { name: "look", arguments: '{\n  "q": 1\n}' } }] },
      { role: "tool", content: "found", tool_call_id: "c1" },
    ]);
    const command = asCurl(first);
    expect(command).toContain("https://api.openai.com/v1/chat/completions");
    expect(command).toContain("it'\\''s late");
    expect(command.replace(/'\\''/g, "").split("'")).toHaveLength(3);
  });
});
