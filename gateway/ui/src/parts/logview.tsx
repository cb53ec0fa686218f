/**
 * Log lines: a list that draws only what is seen, follows what comes, searches, folds and links to a line.
 * A million lines are a million small objects and forty elements.
 */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { walked } from "../focus";
import { useFolds } from "../folds";
import { Heights } from "../heights";
import { useRoomKeys } from "../keys";
import { choose, usePlace } from "../place";
import { type Group, Rows } from "../rows";
import { scroll } from "../scroll";
import { type About, headId, LogHead, ofHead } from "./loghead";
import { LogRow } from "./logrow";
import { LogTools } from "./logtools";
import "./logview.css";

export interface Shown {
  id: string;
  at: string;
  level: string;
  from: string;
  text: string;
  traceId?: string | undefined;
  spanId?: string | undefined;
  /** The record itself, for who opens the line. */
  about?: Record<string, unknown> | undefined;
  /** A word of the page between the lines: lines dropped. */
  told?: boolean | undefined;
  /** The step that printed it. */
  group?: string | undefined;
}

/** Lines stand under the heads of their groups. */
export interface Grouped {
  about: (name: string) => About | undefined;
  /** Keys of those that are folded at first. */
  folded: readonly string[];
}

const HEIGHT = 20;
const HEAD = 24;
const SPARE = 12;
/** Of an opened line, until it was measured. */
const OPENED = 160;
/** Rows to the first one, from which on older ones are asked for. */
const NEAR = 100;
/** Most characters of a line that count for its height; `DRAWN` ones are drawn. */
const TALL = 5_000;

interface Props {
  /** Grows at its end, and, where older ones are loaded, at its beginning; the same array all the time. */
  lines: Shown[];
  /** Changes when lines came. */
  version: number;
  name: string;
  project?: string | undefined;
  live: boolean;
  empty: JSX.Element | string;
  /** So many were put at the beginning. */
  before?: number;
  older?: (() => void) | undefined;
  loading?: boolean;
  /** It is what the room is about: the keys are its own. */
  whole?: boolean;
  around?: (line: Shown) => string;
  /** It is searched by something else. */
  searched?: boolean;
  grouped?: Grouped | undefined;
  /** Changes when the line of the address is to be shown once more. */
  jump?: number;
  /** All of it as a text, where that is more than the lines here. */
  everything?: (() => Promise<string>) | undefined;
}

export function LogView({ lines, version, name, project, live, empty, before = 0, older, loading, whole, around, searched, grouped, jump, everything }: Props): JSX.Element {
  const { query } = usePlace();
  const linked = query.get("line");
  const [follow, setFollow] = useState(!linked);
  const [search, setSearch] = useState(searched ? "" : query.get("find") ?? "");
  const narrow = matchMedia("(max-width: 720px)").matches; // there a line that is not wrapped is hardly one
  const [wrap, setWrap] = useState(query.has("wrap") ? query.get("wrap") === "1" : narrow);
  const [view, setView] = useState({ top: 0, left: 0, height: 400, width: 800 });
  const [missed, setMissed] = useState(0);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const [measured, setMeasured] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const seen = useRef(0);

  const words = search.toLowerCase();
  const { folded, fold } = useFolds(grouped?.folded ?? [], words);
  const { current: rows } = useRef(new Rows());
  rows.update(lines, { words, grouped: Boolean(grouped), folded });
  const total = rows.length;
  const line = (row: number): Shown => lines[rows.line(row)]!;
  const idOf = (row: number): string => {
    const group = rows.head(row);
    return group ? headId(group) : line(row).id;
  };
  const hiding = (index: number): Group | undefined => {
    const group = index < 0 ? undefined : rows.groupOf(index);
    return group && folded.has(group.key) ? group : undefined;
  };
  const indexOf = (id: string): number => lines.findIndex((one) => one.id === id);
  const rowOf = (id: string | null): number => {
    if (!id) return -1;
    const group = ofHead(id, rows.groups);
    return group ? rows.rowOfHead(group) : rows.row(indexOf(id));
  };
  const lastGroup = rows.groups.at(-1);
  const lastFolded = Boolean(lastGroup && folded.has(lastGroup.key));

  // Heights are kept; they begin anew when the rows are others, and then the same line stays in its place.
  const columns = wrap ? Math.max(20, Math.floor((view.width - (view.width > 720 ? 320 : 150)) / 7.6)) : 0;
  const shape = useRef({ key: "", heights: new Heights(), anew: false });
  const { heights } = shape.current;
  const known = useRef(new Map<string, number>());
  const anchor = useRef<{ id: string; rest: number } | null>(null);
  /** Where what is looked at is, now that rows above it were measured. */
  const settled = useRef<number | null>(null);
  /** Where the list was last scrolled to by itself: that alone begins no following. */
  const placed = useRef(-1);
  const tallness = (row: number): number => {
    if (rows.head(row)) return HEAD;
    if (!columns && !opened.size) return HEIGHT;
    const { id, text } = line(row);
    if (opened.has(id)) return known.current.get(id) ?? HEIGHT + OPENED;
    return columns ? HEIGHT * Math.max(1, Math.ceil(Math.min(text.length, TALL) / columns)) : HEIGHT;
  };
  const key = `${columns} ${rows.turn}`;
  const reset = shape.current.key !== key || heights.length > total;
  if (reset) heights.reset(total, tallness);
  else if (heights.length < total) heights.grow(total, tallness);
  shape.current.key = key;
  shape.current.anew ||= reset;
  const { anew } = shape.current; // also when it is drawn twice before it is seen
  const scale = scroll(heights.whole, view.height);

  const put = (there: number): void => {
    const element = box.current!;
    const wanted = scale.top(Math.max(0, there));
    if (Math.abs(element.scrollTop - wanted) >= 1) element.scrollTop = wanted;
    placed.current = element.scrollTop;
    settled.current = null; // of what was looked at before
  };
  const leave = (): void => {
    setFollow(false);
    seen.current = rows.lines - before;
  };
  useLayoutEffect(() => {
    seen.current = rows.lines - before;
  }, [words]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    if (follow) {
      element.scrollTop = element.scrollHeight;
      seen.current = rows.lines - before;
      setMissed(0);
      if (Math.abs(element.scrollTop - view.top) >= 1) measure(); // its rows are there before it is painted
    } else {
      setMissed(Math.max(0, rows.lines - before - seen.current));
    }
  }, [version, total, follow, wrap, words]);
  useLayoutEffect(() => {
    const element = box.current;
    const held = anchor.current;
    if (!anew || follow || !held || !element) return;
    const row = rowOf(held.id);
    const group = row < 0 ? hiding(indexOf(held.id)) : undefined;
    if (row < 0 && !group) return;
    // Where it was measured it may have been taller than it is thought to be now.
    put(group ? heights.top(rows.rowOfHead(group)) : heights.top(row) + Math.min(held.rest, heights.get(row) - 1));
    setView((old) => ({ ...old, top: element.scrollTop }));
  }, [key]);
  useLayoutEffect(() => {
    const element = box.current;
    const there = anew ? null : settled.current;
    settled.current = null;
    if (!element) return;
    if (follow) element.scrollTop = element.scrollHeight;
    else if (there !== null) put(there);
    if (Math.abs(element.scrollTop - view.top) >= 1) measure();
  }, [measured]);
  useLayoutEffect(() => {
    shape.current.anew = false;
  });
  // Who follows sees what is printed: the step that runs is open.
  useEffect(() => {
    if (follow && live && lastGroup && lastFolded) fold(without(folded, lastGroup.key));
  }, [follow, live, lastGroup?.key, lastFolded]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  const measure = (): void => {
    const element = box.current;
    // The room may have been left while the word of it was on its way.
    if (element) setView({ top: element.scrollTop, left: element.scrollLeft, height: element.clientHeight, width: element.clientWidth });
  };

  const jumped = useRef("");
  useEffect(() => {
    jumped.current = "";
  }, [jump]);
  useEffect(() => {
    if (!linked || jumped.current === linked || !box.current) return;
    const group = ofHead(linked, rows.groups) ?? hiding(indexOf(linked));
    if (group && folded.has(group.key)) return fold(without(folded, group.key)); // and then, anew
    const row = rowOf(linked);
    if (row < 0) return;
    jumped.current = linked;
    leave();
    const rest = rows.head(row) ? 0 : -box.current.clientHeight / 2;
    put(heights.top(row) + rest);
    // The width may just have become known: with it the heights of all rows before this one.
    anchor.current = { id: linked, rest };
  }, [version, linked, rows.turn, jump]);

  const scrolled = (): void => {
    measure();
    const element = box.current;
    if (!element) return;
    const end = element.scrollTop + element.clientHeight >= element.scrollHeight - HEIGHT && !(live && lastFolded);
    const own = Math.abs(element.scrollTop - placed.current) < 1;
    if (!own) placed.current = -1;
    if (end === follow || (end && own)) return;
    if (end) setFollow(true);
    else leave();
  };

  const place = scale.place(view.top);
  const top = heights.at(place);
  const first = Math.max(0, top - SPARE);
  const last = total ? Math.min(total, heights.at(place + view.height) + 1 + SPARE) : 0;
  anchor.current = total && !anew ? { id: idOf(top), rest: place - heights.top(top) } : anchor.current;
  const upper = total && grouped ? rows.groupOf(rows.line(top)) : undefined;

  const foldGroup = (group: Group): void => {
    const row = rows.rowOfHead(group);
    anchor.current = { id: headId(group), rest: Math.min(0, place - heights.top(row)) };
    if (!live || group === lastGroup) leave();
    fold(folded.has(group.key) ? without(folded, group.key) : new Set([...folded, group.key]));
  };
  const allFolded = rows.groups.every((group) => folded.has(group.key));
  const foldAll = (): void => {
    if (upper) anchor.current = { id: headId(upper), rest: 0 };
    leave();
    fold(new Set(allFolded ? [] : rows.groups.map((group) => group.key)));
  };
  const toggle = (one: Shown): void => {
    if (one.told) return;
    const next = new Set(opened);
    if (!next.delete(one.id)) next.add(one.id);
    setOpened(next);
    leave();
    const row = rowOf(one.id);
    if (row >= 0) heights.set(row, next.has(one.id) ? known.current.get(one.id) ?? HEIGHT + OPENED : HEIGHT);
  };

  const inView = (row: number, from = place): boolean => row >= 0 && heights.top(row) >= from && heights.top(row) <= from + view.height - 2 * HEIGHT;
  const chosen = rowOf(linked);
  const drawn: JSX.Element[] = [];
  for (let i = first; i < last; i++) {
    const id = idOf(i);
    const at = heights.top(i) - place + view.top;
    const group = rows.head(i);
    drawn.push(
      group ? (
        <LogHead key={id} group={group} about={grouped?.about(group.name)} folded={folded.has(group.key)} row={i} top={at} left={view.left} at={id === linked} fold={foldGroup} />
      ) : (
        <LogRow key={id} line={line(i)} row={i} top={at} at={id === linked} open={opened.has(id)} wrap={wrap} search={search} project={project} around={around} pick={toggle} />
      ),
    );
  }
  // Wrapped and opened rows are as tall as they turn out to be; what is looked at stays in its place.
  useLayoutEffect(() => {
    if (!box.current || (!wrap && !opened.size)) return;
    const now = scale.place(box.current.scrollTop); // it may have been moved since these were drawn
    const held = inView(chosen, now) ? chosen : heights.at(now);
    const before = heights.top(held);
    let changed = false;
    for (const element of box.current.querySelectorAll<HTMLElement>(".log-row.wrap")) {
      const row = Number(element.dataset["row"]);
      const tall = element.offsetHeight;
      if (row >= total || !tall || Math.abs(heights.get(row) - tall) < 1) continue;
      heights.set(row, tall);
      if (opened.has(line(row).id)) known.current.set(line(row).id, tall);
      changed = true;
    }
    if (!changed) return;
    settled.current = now + heights.top(held) - before;
    setMeasured((n) => n + 1);
  });
  const begins = first < NEAR && !(upper && folded.has(upper.key));
  useEffect(() => {
    // A list that was just begun stands at its beginning before it follows.
    if (older && begins && (!follow || lines.length * HEIGHT < view.height + NEAR * HEIGHT)) older();
  }, [older, begins, follow, total]);

  const show = (row: number): void => {
    jumped.current = idOf(row);
    choose({ line: idOf(row) });
    leave();
    if (inView(row)) return;
    anchor.current = { id: idOf(row), rest: -view.height / 2 };
    put(heights.top(row) - view.height / 2);
  };
  const step = (by: number): void => {
    const from = rowOf(linked);
    let row = from < 0 ? (by > 0 ? top : Math.min(total - 1, heights.at(place + view.height - 1))) : from + by;
    while (row >= 0 && row < total && !rows.head(row) && line(row).told) row += by;
    if (row >= 0 && row < total) show(row);
  };
  const nextError = (): void => {
    const from = rowOf(linked);
    const after = inView(from) && !rows.head(from);
    for (let i = total ? rows.line(after ? from : top) + (after ? 1 : 0) : 0; i < lines.length; i++) {
      const { level, id } = lines[i]!;
      if (level !== "error" && level !== "fatal") continue;
      const row = rows.row(i);
      if (row >= 0) return show(row);
      const group = hiding(i);
      if (!group || words) continue;
      jumped.current = ""; // as if by a link: its group is opened first
      return choose({ line: id });
    }
  };
  const download = async (): Promise<void> => {
    const text = everything ? [await everything()] : lines.map((one) => `${one.at} ${one.level} ${one.group ?? one.from} ${one.text}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(text, { type: "text/plain" }));
    link.download = `${name}.log`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const wrapped = (): void => {
    setWrap(!wrap);
    choose({ wrap: wrap !== narrow ? undefined : wrap ? "0" : "1" });
  };
  const followed = (): void => (follow ? leave() : setFollow(true));
  const mine = chosen >= 0 && inView(chosen) ? rows.groupOf(rows.line(chosen)) : upper;
  const acts: Record<string, () => void> = { e: nextError, w: wrapped };
  if (live) acts["f"] = followed;
  // A list that is wider than the view is moved by the same keys.
  if (mine && !folded.has(mine.key) && !view.left)
    acts["ArrowLeft"] = () => {
      jumped.current = headId(mine);
      choose({ line: headId(mine) });
      foldGroup(mine);
    };
  if (mine && folded.has(mine.key)) acts["ArrowRight"] = () => foldGroup(mine);
  if (whole) {
    acts["j"] = walked(box, () => step(1));
    acts["k"] = walked(box, () => step(-1));
    acts["e"] = walked(box, nextError);
    acts["Enter"] = () => {
      const group = chosen < 0 ? undefined : rows.head(chosen);
      if (group) foldGroup(group);
      else if (chosen >= 0) toggle(line(chosen));
    };
  }
  useRoomKeys(whole ? acts : {});
  const keys = (event: KeyboardEvent): void => {
    if (whole || event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).matches("input")) return;
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };

  const counted = rows.lines.toLocaleString("en");
  return (
    <section class="log" aria-label={`log of ${name}`} onKeyDown={keys}>
      <LogTools
        search={searched ? undefined : search}
        find={(text) => {
          setSearch(text);
          choose({ find: text });
        }}
        told={(search ? `${counted} of ${lines.length.toLocaleString("en")} lines` : `${counted} lines`) + (loading ? ", older ones are loading …" : "")}
        foldAll={rows.groups.length ? foldAll : undefined}
        allFolded={allFolded}
        older={grouped && older}
        nextError={nextError}
        wrap={wrap}
        wrapped={wrapped}
        follow={follow}
        followed={live ? followed : undefined}
        download={lines.length ? download : undefined}
      />
      <div class="log-lines" ref={box} onScroll={scrolled} tabIndex={0} role="log" aria-live="off" aria-label="lines">
        <div style={{ height: `${scale.tall}px`, position: "relative" }}>
          {upper && !folded.has(upper.key) && heights.top(rows.rowOfHead(upper)) < place && <LogHead group={upper} about={grouped?.about(upper.name)} folded={false} left={view.left} fold={foldGroup} />}
          {drawn}
        </div>
        {total === 0 && <div class="empty" style={{ border: 0 }}>{search ? "No line has this text." : empty}</div>}
      </div>
      {!follow && live && missed > 0 && (
        <button class="pill" onClick={() => setFollow(true)}>
          {missed.toLocaleString("en")} new
        </button>
      )}
    </section>
  );
}

function without(keys: ReadonlySet<string>, key: string): ReadonlySet<string> {
  const left = new Set(keys);
  left.delete(key);
  return left;
}
