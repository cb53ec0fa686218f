import { describe, expect, it } from "vitest";
import type { Gap, WriterProof } from "./api";
import { extent, ofBacklog, ofGap, ofOpen } from "./causes";

const NOW = Date.parse("2026-11-22T10:10:00Z");
const gap = (more: Partial<Gap>): Gap => ({ writer: "w", projectId: "p", signal: "logs", cause: "rotated-away", message: "", afterSeq: 0, lines: null, bytes: null, fromTime: "", toTime: "", timestamp: "", ...more });
const open = (more: Partial<WriterProof>): WriterProof => ({ state: "open", pod: "a-0", ...more }) as WriterProof;

describe("a loss", () => {
  it("says what its cause means and what to do, also one that is not known here", () => {
    expect(ofGap(gap({})).todo).toContain("containerLogMaxSize");
    expect(ofGap(gap({ cause: "constructor" })).means).toBe("The collector told of a loss.");
  });
  it("is as large as is known", () => {
    expect([{}, { lines: 1 }, { lines: 3, bytes: 2_000 }, { bytes: 10 }, { lines: 0, bytes: 0 }].map((more) => extent(gap(more)))).toEqual(["unknown", "1 line", "3 lines, 2.00 kB", "10 B", "nothing"]);
  });
});

describe("a source without an end", () => {
  it("may still run; it says why it began anew", () => {
    expect(ofOpen(open({}), NOW).means).toContain("still runs");
    expect(ofOpen(open({ cause: "resumed" }), NOW).means).toContain("the collector was stopped");
  });
  it("is late when its objects wait for longer than loading takes", () => {
    expect(ofOpen(open({ waitingSince: "2026-11-22T10:09:50.000000000Z" }), NOW).means).toContain("still runs");
    expect(ofOpen(open({ waitingSince: "2026-11-22T10:00:00.000000000Z" }), NOW)).toMatchObject({ means: expect.stringContaining("10 min 0 s"), todo: expect.stringContaining("ingester") });
  });
});

describe("what waits to be loaded", () => {
  const backlog = { objects: 2, bytes: 3_000, oldestAt: "2026-11-22T10:00:00.000000000Z", listedAll: true };
  it("is late after a minute", () => {
    expect(ofBacklog(backlog, NOW)).toMatchObject({ told: "2 objects wait (3.00 kB) to be loaded, the oldest for 10 min 0 s.", late: true });
    expect(ofBacklog(backlog, NOW - 590_000)).toMatchObject({ late: false, todo: "" });
    expect(ofBacklog({ ...backlog, listedAll: false }, NOW).told).toContain("At least 2");
    expect(ofBacklog({ ...backlog, objects: 0, oldestAt: "" }, NOW).told).toBe("No object waits to be loaded.");
  });
  it("is not of the future when storage's clock goes before ours", () => expect(ofBacklog(backlog, NOW - 3_600_000).told).toContain("less than a second"));
});
