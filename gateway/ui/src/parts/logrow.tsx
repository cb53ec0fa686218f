/** One line of a log, and what it holds when it is opened. */
import type { JSX } from "preact";
import { ansi } from "../ansi";
import { clock, full, visible } from "../format";
import { here, href } from "../place";
import { text } from "../spans";
import { Copyable } from "./bits";
import type { Shown } from "./logview";

interface Props {
  line: Shown;
  row: number;
  top: number;
  at: boolean;
  open: boolean;
  wrap: boolean;
  search: string;
  project: string | undefined;
  /** Leads to the lines around one. */
  around?: ((line: Shown) => string) | undefined;
  pick: (line: Shown) => void;
}

export function LogRow({ line, row, top, at, open, wrap, search, project, around, pick }: Props): JSX.Element {
  if (line.told)
    return (
      <div class={`log-row told ${line.level}`} style={{ top: `${top}px` }} data-row={row}>
        {line.text}
      </div>
    );
  const toggled = (event: MouseEvent): void => {
    if ((event.target as Element).closest("a, button, input") || getSelection()?.toString()) return;
    pick(line);
  };
  return (
    <div class={`log-row ${line.level}${at ? " at" : ""}${wrap || open ? " wrap" : ""}`} style={{ top: `${top}px` }} data-row={row}>
      <div class="log-line" onClick={toggled}>
        <a href={linkTo(line)} title={full(line.at)}>
          <time dateTime={line.at}>{clock(line.at)}</time>
        </a>
        <span class="level">{line.level}</span>
        {line.from && <span class="from hide-narrow">{line.from}</span>}
        <span class="said-line">{marked(line.text, search)}</span>
        {line.traceId && project && (
          <a href={href(["traces", project, line.traceId], { span: line.spanId })} title="open the trace">
            trace
          </a>
        )}
      </div>
      {open && <Opened line={line} project={project} around={around} />}
    </div>
  );
}

const linkTo = (line: Shown): string => href(here().path, { ...Object.fromEntries(new URLSearchParams(location.search)), line: line.id });

function Opened({ line, project, around }: { line: Shown; project: string | undefined; around: Props["around"] }): JSX.Element {
  const about = line.about ?? {};
  const attributes = Object.entries((about["attributes"] as Record<string, unknown> | undefined) ?? {});
  const facts = ["deployment", "build", "pod", "container", "stream", "service"].filter((name) => about[name]);
  return (
    <div class="opened">
      <dl class="facts">
        <dt>time</dt>
        <dd>{full(line.at)}</dd>
        {facts.map((name) => (
          <>
            <dt key={name}>{name}</dt>
            <dd>{visible(String(about[name]))}</dd>
          </>
        ))}
        <dt>record</dt>
        <dd class="mono">{line.id}</dd>
        {attributes.map(([name, value]) => (
          <>
            <dt key={name}>
              <code>{visible(name)}</code>
            </dt>
            <dd>
              <pre>{visible(text(value))}</pre>
            </dd>
          </>
        ))}
      </dl>
      <p class="acts">
        <Copyable text={line.text} shown="Copy line" />
        <Copyable text={new URL(linkTo(line), location.href).href} shown="Copy link" />
        {around && (
          <a class="button" href={around(line)}>
            100 lines before and after
          </a>
        )}
        {line.traceId && project && (
          <a class="button" href={href(["traces", project, line.traceId], { span: line.spanId })}>
            Open the trace
          </a>
        )}
      </p>
    </div>
  );
}

/** Characters of a line that are drawn: a line may have a million, and each hit is an element. */
export const DRAWN = 5_000;

function marked(whole: string, search: string): JSX.Element[] {
  const pieces: JSX.Element[] = [];
  const wanted = search.toLowerCase();
  for (const piece of ansi(whole.slice(0, DRAWN))) {
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
  if (whole.length > DRAWN) pieces.push(<span class="soft"> … {(whole.length - DRAWN).toLocaleString("en")} more characters; Copy line and Download have them</span>);
  return pieces;
}
