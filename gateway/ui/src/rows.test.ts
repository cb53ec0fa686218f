import { describe, expect, it, vi } from "vitest";
import { type Listed, Rows } from "./rows";

vi.stubGlobal("document", { baseURI: "http://gateway.example/ui/" });
const { parsed, said } = await import("./folds");

const one = (id: string, group?: string, text = id): Listed => ({ id, text, group });
const NOTHING: ReadonlySet<string> = new Set();
/** What stands in each row: `install 2` for a head with its number of lines. */
const told = (rows: Rows, lines: readonly Listed[]): string[] =>
  Array.from({ length: rows.length }, (_, row) => {
    const group = rows.head(row);
    return group ? `${group.key} ${group.lines}` : lines[rows.line(row)]!.id;
  });

describe("rows of a log", () => {
  const lines = [one("a", "fetch"), one("b", "install", "ERROR b"), { id: "t", text: "3 lines are left out here", told: true }, one("c", "install"), one("d", "build", "error d"), one("e", "install")];

  it("are the lines, where there are no groups", () => {
    const rows = new Rows();
    rows.update(lines, { words: "", grouped: false, folded: NOTHING });
    expect([rows.length, rows.lines, rows.line(3), rows.row(3), rows.row(9)]).toEqual([6, 5, 3, 3, -1]);
  });
  it("stand under the heads of their groups, those of a folded one do not", () => {
    const rows = new Rows();
    rows.update(lines, { words: "", grouped: true, folded: new Set(["install"]) });
    expect(told(rows, lines)).toEqual(["fetch 1", "a", "install 2", "build 1", "d", "install:2 1", "e"]);
    expect([rows.row(0), rows.row(1), rows.row(4), rows.row(5)]).toEqual([1, -1, 4, 6]);
    expect(rows.groups.map((group) => rows.rowOfHead(group))).toEqual([0, 2, 3, 5]);
    expect([0, 1, 2, 3, 4, 5].map((line) => rows.groupOf(line)!.key)).toEqual(["fetch", "install", "install", "install", "build", "install:2"]);
  });
  it("are those with the words, under the heads of groups that have some", () => {
    const rows = new Rows();
    rows.update(lines, { words: "error", grouped: true, folded: NOTHING });
    expect(told(rows, lines)).toEqual(["install 1", "b", "build 1", "d"]);
    expect([rows.lines, rows.row(1), rows.row(3)]).toEqual([2, 1, -1]);
    expect(rows.rowOfHead(rows.groups[0]!)).toBe(-1);
    rows.update(lines, { words: "left out", grouped: true, folded: NOTHING });
    expect(rows.length).toBe(0);
  });
  it("go on where they were when lines come, and begin anew when they are others", () => {
    const rows = new Rows();
    const list = [...lines];
    const wanted = { words: "", grouped: true, folded: new Set(["install:2"]) };
    rows.update(list, wanted);
    const { turn } = rows;
    list.push(one("f", "install"), one("g", "publish"));
    rows.update(list, wanted);
    expect(rows.turn).toBe(turn);
    expect(told(rows, list).slice(-3)).toEqual(["install:2 2", "publish 1", "g"]);
    list.unshift(one("z", "fetch"));
    rows.update(list, wanted);
    expect(rows.turn).toBe(turn + 1);
    expect(told(rows, list).slice(0, 3)).toEqual(["fetch 2", "z", "a"]);
  });
  it("of a million lines fold at once", () => {
    const many = Array.from({ length: 1_000_000 }, (_, n) => one(String(n), n < 900_000 ? "build" : "publish"));
    const rows = new Rows();
    rows.update(many, { words: "", grouped: true, folded: NOTHING });
    // The best of three: one takes 20 ms, and a second when another program has the machine.
    const took = [["build"], ["publish"], ["build"]].map((folded) => {
      const before = performance.now();
      rows.update(many, { words: "", grouped: true, folded: new Set(folded) });
      return performance.now() - before;
    });
    expect(Math.min(...took)).toBeLessThan(1_000);
    expect([rows.length, rows.line(2), rows.row(900_000), rows.row(5)]).toEqual([100_002, 900_000, 2, -1]);
  });
});

describe("what is folded", () => {
  it("stands in the address when it is not what it would be anyway", () => {
    expect([parsed(null, ["fetch"]), parsed("-", ["fetch"]), parsed("a,b:2", [])]).toEqual([["fetch"], [], ["a", "b:2"]]);
    expect([said(new Set(["fetch"]), ["fetch"]), said(new Set(), ["fetch"]), said(new Set(["b", "a"]), [])]).toEqual([undefined, "-", "b,a"]);
  });
});
