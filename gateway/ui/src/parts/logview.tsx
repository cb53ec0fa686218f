/**
 * Log lines: a list that draws only what is seen, follows what comes, searches and links to a line.
 * A million lines are a million small objects and forty elements.
 */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { ansi } from "../ansi";
import { clock, full, visible } from "../format";
import { choose, here, href, usePlace } from "../place";
import { scroll } from "../scroll";

export interface Shown {
  id: string;
  at: string;
  level: string;
  from: string;
  text: string;
  traceId?: string | undefined;
  /** A word of the page between the lines: lines dropped, a step that begins. */
  told?: boolean | undefined;
}

const HEIGHT = 20;
const SPARE = 12;

interface Props {
  /** Grows at its end; the same array all the time. */
  lines: Shown[];
  /** Changes when lines came. */
  version: number;
  name: string;
  project?: string | undefined;
  live: boolean;
  empty: string;
}

export function LogView({ lines, version, name, project, live, empty }: Props): JSX.Element {
  const { query } = usePlace();
  const [follow, setFollow] = useState(!query.get("line"));
  const [search, setSearch] = useState(query.get("find") ?? "");
  const [view, setView] = useState({ top: 0, height: 400 });
  const [missed, setMissed] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const seen = useRef(0);
  const linked = query.get("line");

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
  const scale = scroll(total * HEIGHT, view.height);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    if (follow) {
      element.scrollTop = element.scrollHeight;
      seen.current = total;
      setMissed(0);
    } else {
      setMissed(total - seen.current);
    }
  }, [version, total, follow]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);

  const jumped = useRef("");
  useEffect(() => {
    if (!linked || jumped.current === linked || found) return;
    const index = lines.findIndex((line) => line.id === linked);
    if (index < 0 || !box.current) return;
    jumped.current = linked;
    setFollow(false);
    box.current.scrollTop = scale.top(Math.max(0, index * HEIGHT - box.current.clientHeight / 2));
  }, [version, linked]);

  const scrolled = (): void => {
    const element = box.current;
    if (!element) return; // the room was left while the word of it was on its way
    setView({ top: element.scrollTop, height: element.clientHeight });
    const end = element.scrollTop + element.clientHeight >= element.scrollHeight - HEIGHT;
    if (end !== follow && live) {
      setFollow(end);
      if (!end) seen.current = total;
    }
  };

  const place = scale.place(view.top);
  const first = Math.max(0, Math.floor(place / HEIGHT) - SPARE);
  const last = Math.min(total, Math.ceil((place + view.height) / HEIGHT) + SPARE);
  const rows: JSX.Element[] = [];
  for (let i = first; i < last; i++) {
    const line = lines[found ? found[i]! : i]!;
    rows.push(
      <LogRow key={line.id} line={line} top={i * HEIGHT - place + view.top} at={line.id === linked} search={search} project={project} />,
    );
  }

  const download = (): void => {
    const text = lines.map((line) => `${line.at} ${line.level} ${line.from} ${line.text}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(text, { type: "text/plain" }));
    link.download = `${name}.log`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const nextError = (): void => {
    const from = Math.floor((place + 2) / HEIGHT) + 1; // places of a very long list are exact to 2 pixels
    for (let i = from; i < total; i++) {
      const line = lines[found ? found[i]! : i]!;
      if (line.level === "error" || line.level === "fatal") {
        setFollow(false);
        box.current!.scrollTop = scale.top(i * HEIGHT);
        return;
      }
    }
  };
  const keys = (event: KeyboardEvent): void => {
    if ((event.target as Element).matches("input")) return;
    if (event.key === "f" && live) setFollow(!follow);
    else if (event.key === "e") nextError();
    else return;
    event.preventDefault();
  };

  return (
    <section class="log" aria-label={`log of ${name}`} onKeyDown={keys}>
      <div class="log-tools">
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
        <span class="soft small" role="status">
          {search ? `${total.toLocaleString("en")} of ${lines.length.toLocaleString("en")} lines` : `${total.toLocaleString("en")} lines`}
        </span>
        <span style={{ flex: 1 }} />
        <button onClick={nextError} title="e">
          Next error
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

function LogRow({ line, top, at, search, project }: { line: Shown; top: number; at: boolean; search: string; project?: string | undefined }): JSX.Element {
  if (line.told)
    return (
      <div class={`log-row told ${line.level}`} style={{ top: `${top}px` }}>
        {line.text}
      </div>
    );
  return (
    <div class={`log-row ${line.level}${at ? " at" : ""}`} style={{ top: `${top}px` }}>
      <a href={href(here().path, { ...Object.fromEntries(new URLSearchParams(location.search)), line: line.id })} title={full(line.at)}>
        <time dateTime={line.at}>{clock(line.at)}</time>
      </a>
      <span class="level">{line.level}</span>
      {line.from && <span class="from hide-narrow">{line.from}</span>}
      <span>{marked(line.text, search)}</span>
      {line.traceId && project && (
        <a href={href(["traces", project, line.traceId])} title="open the trace">
          trace
        </a>
      )}
    </div>
  );
}

/** Characters of a line that are drawn: a line may have a million, and each hit is an element. */
const DRAWN = 5_000;

function marked(whole: string, search: string): JSX.Element[] {
  const pieces: JSX.Element[] = [];
  const text = whole.slice(0, DRAWN);
  const wanted = search.toLowerCase();
  for (const piece of ansi(text)) {
    const shown = visible(piece.text);
    const style = piece.style;
    if (!wanted) {
      pieces.push(<span style={style}>{shown}</span>);
      continue;
    }
    let at = 0;
    const lower = shown.toLowerCase();
    for (let hit = lower.indexOf(wanted); hit >= 0; hit = lower.indexOf(wanted, at)) {
      pieces.push(<span style={style}>{shown.slice(at, hit)}</span>, <mark>{shown.slice(hit, hit + wanted.length)}</mark>);
      at = hit + wanted.length;
    }
    pieces.push(<span style={style}>{shown.slice(at)}</span>);
  }
  if (whole.length > DRAWN) pieces.push(<span class="soft"> … {(whole.length - DRAWN).toLocaleString("en")} more characters; Download has them</span>);
  return pieces;
}
