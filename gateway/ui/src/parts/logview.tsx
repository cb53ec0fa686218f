/**
 * Log lines: a list that draws only what is seen, follows what comes, searches and links to a line.
 * A million lines are a million small objects and forty elements.
 */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Heights } from "../heights";
import { useRoomKeys } from "../keys";
import { choose, usePlace } from "../place";
import { scroll } from "../scroll";
import { LogRow } from "./logrow";

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
  /** A word of the page between the lines: lines dropped, a step that begins. */
  told?: boolean | undefined;
}

const HEIGHT = 20;
const SPARE = 12;
/** Of an opened line, until it was measured. */
const OPENED = 160;
/** Rows to the first one, from which on older ones are asked for. */
const NEAR = 100;

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
}

export function LogView({ lines, version, name, project, live, empty, before = 0, older, loading, whole, around, searched }: Props): JSX.Element {
  const { query } = usePlace();
  const linked = query.get("line");
  const [follow, setFollow] = useState(!linked);
  const [search, setSearch] = useState(searched ? "" : query.get("find") ?? "");
  const [wrap, setWrap] = useState(query.get("wrap") === "1");
  const [view, setView] = useState({ top: 0, height: 400, width: 800 });
  const [missed, setMissed] = useState(0);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const [, measured] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const seen = useRef(0);

  // What was looked through is not again with every line that comes: that is a million of them.
  const looked = useRef<{ wanted: string; first: string | undefined; upTo: number; at: number[] }>({ wanted: "", first: undefined, upTo: 0, at: [] });
  const found = useMemo(() => {
    const wanted = search.toLowerCase();
    if (!wanted) return null;
    const old = looked.current;
    const same = old.wanted === wanted && old.first === lines[0]?.id && old.upTo <= lines.length;
    const at = same ? old.at : [];
    for (let i = same ? old.upTo : 0; i < lines.length; i++) if (lines[i]!.text.toLowerCase().includes(wanted)) at.push(i);
    looked.current = { wanted, first: lines[0]?.id, upTo: lines.length, at };
    return at;
  }, [search, version, lines]);
  const total = found ? found.length : lines.length;
  const line = (row: number): Shown => lines[found ? found[row]! : row]!;

  // Heights are kept; they begin anew when the rows are others, and then the same line stays in its place.
  const columns = wrap ? Math.max(20, Math.floor((view.width - (view.width > 720 ? 320 : 150)) / 7.6)) : 0;
  const shape = useRef({ key: "", heights: new Heights() });
  const { heights } = shape.current;
  const known = useRef(new Map<string, number>());
  const anchor = useRef<{ id: string; rest: number } | null>(null);
  const tallness = (row: number): number => {
    const { id, text } = line(row);
    if (opened.has(id)) return known.current.get(id) ?? HEIGHT + OPENED;
    return columns ? HEIGHT * Math.max(1, Math.ceil(Math.min(text.length, 5_000) / columns)) : HEIGHT;
  };
  const key = `${columns} ${search} ${lines[0]?.id}`;
  const anew = shape.current.key !== key || heights.length > total;
  if (anew) heights.reset(total, tallness);
  else if (heights.length < total) heights.grow(total, tallness);
  shape.current.key = key;
  const scale = scroll(heights.whole, view.height);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    if (follow) {
      element.scrollTop = element.scrollHeight;
      seen.current = total - before;
      setMissed(0);
    } else {
      setMissed(Math.max(0, total - before - seen.current));
    }
  }, [version, total, follow, wrap]);
  useLayoutEffect(() => {
    const element = box.current;
    const held = anchor.current;
    if (!anew || follow || !held || !element) return;
    const index = lines.findIndex((one) => one.id === held.id);
    const row = found ? found.indexOf(index) : index;
    if (row < 0) return;
    element.scrollTop = scale.top(heights.top(row) + held.rest);
    setView((old) => ({ ...old, top: element.scrollTop }));
  }, [key]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = (): void => setView({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);

  const jumped = useRef("");
  useEffect(() => {
    if (!linked || jumped.current === linked || found) return;
    const index = lines.findIndex((one) => one.id === linked);
    if (index < 0 || !box.current) return;
    jumped.current = linked;
    setFollow(false);
    box.current.scrollTop = scale.top(Math.max(0, heights.top(index) - box.current.clientHeight / 2));
  }, [version, linked]);

  const scrolled = (): void => {
    const element = box.current;
    if (!element) return; // the room was left while the word of it was on its way
    setView({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth });
    const end = element.scrollTop + element.clientHeight >= element.scrollHeight - HEIGHT;
    if (end !== follow) {
      setFollow(end);
      if (!end) seen.current = total - before;
    }
  };

  const place = scale.place(view.top);
  const top = heights.at(place);
  const first = Math.max(0, top - SPARE);
  const last = total ? Math.min(total, heights.at(place + view.height) + 1 + SPARE) : 0;
  anchor.current = total && !anew ? { id: line(top).id, rest: place - heights.top(top) } : anchor.current;
  const rows: JSX.Element[] = [];
  for (let i = first; i < last; i++) {
    const one = line(i);
    rows.push(
      <LogRow
        key={one.id}
        line={one}
        row={i}
        top={heights.top(i) - place + view.top}
        at={one.id === linked}
        open={opened.has(one.id)}
        wrap={wrap}
        search={search}
        project={project}
        around={around}
        pick={(picked) => toggle(picked)}
      />,
    );
  }
  // Wrapped and opened rows are as tall as they turn out to be.
  useLayoutEffect(() => {
    if (!wrap && !opened.size) return;
    let changed = false;
    for (const element of box.current?.querySelectorAll<HTMLElement>(".log-row.wrap") ?? []) {
      const row = Number(element.dataset["row"]);
      const tall = element.offsetHeight;
      if (row >= total || !tall || Math.abs(heights.get(row) - tall) < 1) continue;
      heights.set(row, tall);
      if (opened.has(line(row).id)) known.current.set(line(row).id, tall);
      changed = true;
    }
    if (changed) measured((n) => n + 1);
  });
  useEffect(() => {
    // A list that was just begun stands at its beginning before it follows.
    if (older && first < NEAR && (!follow || total * HEIGHT < view.height + NEAR * HEIGHT)) older();
  }, [older, first < NEAR, follow, total]);

  const toggle = (one: Shown): void => {
    if (one.told) return;
    const next = new Set(opened);
    if (!next.delete(one.id)) next.add(one.id);
    setOpened(next);
    setFollow(false);
    seen.current = total - before;
    const index = lines.findIndex((other) => other.id === one.id);
    const row = found ? found.indexOf(index) : index;
    if (row >= 0) heights.set(row, next.has(one.id) ? known.current.get(one.id) ?? HEIGHT + OPENED : HEIGHT);
  };
  const show = (row: number): void => {
    setFollow(false);
    seen.current = total - before;
    const at = heights.top(row);
    if (at < place || at > place + view.height - 2 * HEIGHT) box.current!.scrollTop = scale.top(Math.max(0, at - view.height / 2));
  };
  const rowOf = (id: string | null): number => {
    const index = id ? lines.findIndex((one) => one.id === id) : -1;
    return found ? found.indexOf(index) : index;
  };
  const step = (by: number): void => {
    const from = rowOf(linked);
    let row = from < 0 ? (by > 0 ? top : Math.min(total - 1, heights.at(place + view.height - 1))) : from + by;
    while (row >= 0 && row < total && line(row).told) row += by;
    if (row < 0 || row >= total) return;
    jumped.current = line(row).id;
    choose({ line: line(row).id });
    show(row);
  };
  const download = (): void => {
    const text = lines.map((one) => `${one.at} ${one.level} ${one.from} ${one.text}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(text, { type: "text/plain" }));
    link.download = `${name}.log`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const nextError = (): void => {
    // Places of a very long list are exact to 2 pixels.
    for (let i = heights.at(place + 2) + 1; i < total; i++) {
      const { level } = line(i);
      if (level === "error" || level === "fatal") {
        setFollow(false);
        box.current!.scrollTop = scale.top(heights.top(i));
        return;
      }
    }
  };
  const wrapped = (): void => {
    setWrap(!wrap);
    choose({ wrap: wrap ? undefined : "1" });
  };
  const acts: Record<string, () => void> = { e: nextError, w: wrapped };
  if (live) acts["f"] = () => setFollow(!follow);
  if (whole) {
    acts["j"] = () => step(1);
    acts["k"] = () => step(-1);
    acts["Enter"] = () => {
      const row = rowOf(linked);
      if (row >= 0) toggle(line(row));
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

  return (
    <section class="log" aria-label={`log of ${name}`} onKeyDown={keys}>
      <div class="log-tools">
        {!searched && (
          <input
            type="search"
            placeholder="Search in these lines"
            aria-label="Search in these lines"
            value={search}
            onInput={(event) => {
              setSearch(event.currentTarget.value);
              choose({ find: event.currentTarget.value });
            }}
          />
        )}
        <span class="soft small" role="status">
          {search ? `${total.toLocaleString("en")} of ${lines.length.toLocaleString("en")} lines` : `${total.toLocaleString("en")} lines`}
          {loading ? ", older ones are loading …" : ""}
        </span>
        <span style={{ flex: 1 }} />
        <button onClick={nextError} title="e">
          Next error
        </button>
        <button class={wrap ? "on" : ""} aria-pressed={wrap} onClick={wrapped} title="w">
          Wrap
        </button>
        {live && (
          <button class={follow ? "on" : ""} aria-pressed={follow} onClick={() => setFollow(!follow)} title="f">
            {follow ? "Following" : "Follow"}
          </button>
        )}
        <button onClick={download} disabled={!lines.length}>
          Download
        </button>
      </div>
      <div class="log-lines" ref={box} onScroll={scrolled} tabIndex={0} role="log" aria-live="off" aria-label="lines">
        <div style={{ height: `${scale.tall}px`, position: "relative" }}>{rows}</div>
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
