import { describe, expect, it, vi } from "vitest";
import { ranked, score } from "./fuzzy";
import { staleNow, tellAway, tellBack } from "./stale";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8080/ui/" });
const { between, bounds, fromTyped, typed, when } = await import("./when");
const at = (text: string): ReturnType<typeof when> => when(new URLSearchParams(text));

describe("the time of a view", () => {
  it("is the last hour, live, when the address says nothing or nonsense", () => {
    for (const text of ["", "range=soon", "from=yesterday", "to=2026-11-21T10:00:00Z"]) expect(at(text)).toMatchObject({ from: "1h", to: undefined, live: true });
  });
  it("is from one moment to another, and then nothing new belongs to it", () => {
    const found = at("from=2026-11-21T10:00:00Z&to=2026-11-21T11:00:00Z");
    expect(found).toMatchObject({ from: "2026-11-21T10:00:00Z", to: "2026-11-21T11:00:00Z", live: false });
    expect(bounds(found)).toEqual([Date.parse("2026-11-21T10:00:00Z"), Date.parse("2026-11-21T11:00:00Z")]);
    expect(bounds(at("range=15m"), 1e9)).toEqual([1e9 - 9e5, 1e9]);
    expect(at("range=1d&live=0").live).toBe(false);
  });
  it("takes the whole of what was brushed", () => {
    expect(between(1.7, 2.1)).toEqual({ from: "1970-01-01T00:00:00.001Z", to: "1970-01-01T00:00:00.003Z", range: undefined });
  });
  it("is typed in UTC or local time, and read as it was typed", () => {
    const moment = Date.parse("2026-11-21T10:20:30Z");
    expect(typed(moment, true)).toBe("2026-11-21T10:20:30");
    for (const utc of [true, false]) expect(fromTyped(typed(moment, utc), utc)).toBe("2026-11-21T10:20:30.000Z");
    expect(fromTyped("", true)).toBeUndefined();
  });
});

describe("a few letters of a name", () => {
  it("find it where they stand in this order", () => {
    expect(score("zz", "local.support-agent")).toBeUndefined();
    expect(ranked("lsa", ["local.support-agent", "false alarm"], (n) => n, 9)[0]).toBe("local.support-agent");
  });
  it("rank what has them in one piece, at the beginning of a word, first", () => {
    expect(ranked("log", ["catalogue", "room Logs", "l o g"], (n) => n, 9)).toEqual(["room Logs", "catalogue", "l o g"]);
  });
  it("leave the order as it was where nothing is typed, and cut", () => expect(ranked("", ["b", "a", "c"], (n) => n, 2)).toEqual(["b", "a"]));
});

describe("what is stale", () => {
  it("is told until the same is answered, or nobody asks for it any more", () => {
    tellAway("/a", "ClickHouse does not answer.");
    tellAway("/b", "It is still away.");
    tellBack("/b");
    expect(staleNow()).toEqual({ told: "ClickHouse does not answer.", parts: ["some figures"] });
    expect(staleNow(Date.now() + 31_000)).toBeUndefined();
  });
  it("says which parts, each once, and lasts where it is said when it is over", () => {
    tellAway("/projects/a.b/logs", "Away.");
    tellAway("/projects/a.b/logs/histogram", "Away.");
    tellAway("live:server:a.b", "Away for long.", true);
    tellAway("live:server:a.c", "Away for long.", true);
    expect(staleNow()).toEqual({ told: "Away for long.", parts: ["bars over time", "lines from before now", "stored lines"] });
    expect(staleNow(Date.now() + 31_000)!.parts).toEqual(["lines from before now"]);
    tellBack("live:server:a.b");
    tellBack("live:server:a.c");
    expect(staleNow(Date.now() + 31_000)).toBeUndefined();
  });
});
