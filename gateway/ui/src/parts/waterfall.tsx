/** The rows of a trace: a tree on the left, when each span ran on the right. Only those that are seen are drawn. */
import type { JSX, RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import { duration, visible } from "../format";
import { gaps, KINDS, kindOf, LETTER, type Node, stateOf, ticks, WORD } from "../spans";
import "./waterfall.css";

const HEIGHT = 26;
const AXIS = 22;
const SPARE = 8;

interface Props {
  box: RefObject<HTMLDivElement | null>;
  nodes: readonly Node[];
  chosen: Node;
  folded: ReadonlySet<string>;
  hits: ReadonlySet<string>;
  /** Of the trace, in ms. */
  start: number;
  end: number;
  fold: (node: Node, shut: boolean) => void;
  pick: (node: Node) => void;
  onKeyDown: (event: KeyboardEvent) => void;
}

/** Have the row in view. */
export function showRow(box: HTMLElement, row: number): void {
  const top = row * HEIGHT;
  const height = box.clientHeight - AXIS - HEIGHT;
  if (top < box.scrollTop || top > box.scrollTop + height) box.scrollTop = top - height / 2;
}

export function Waterfall({ box, nodes, chosen, folded, hits, start, end, fold, pick, onKeyDown }: Props): JSX.Element {
  const [view, setView] = useState({ top: 0, height: 400 });
  useEffect(() => {
    const element = box.current!;
    const measure = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  const whole = end - start;
  const times = ticks(whole);
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - SPARE);
  const last = Math.min(nodes.length, Math.ceil((view.top + view.height) / HEIGHT) + SPARE);
  return (
    <div
      class="fall"
      ref={box}
      tabIndex={0}
      onKeyDown={onKeyDown}
      onScroll={(e) => setView({ top: e.currentTarget.scrollTop, height: e.currentTarget.clientHeight })}
      role="tree"
      aria-label="spans of the trace"
      aria-activedescendant={`span-${chosen.span.id}`}
    >
      <div class="fall-axis" aria-hidden="true">
        <span class="name">Span</span>
        <div class="track">
          {times.map((time) => (
            <span key={time} style={{ left: `${(time / whole) * 100}%` }}>
              {time ? duration(time) : "0"}
            </span>
          ))}
        </div>
      </div>
      <div style={{ height: `${nodes.length * HEIGHT}px`, position: "relative" }}>
        <div class="fall-lines" aria-hidden="true">
          <span />
          <div class="track">
            {times.slice(1).map((time) => (
              <i key={time} style={{ left: `${(time / whole) * 100}%` }} />
            ))}
          </div>
        </div>
        {nodes.slice(first, last).map((node, i) => (
          <FallRow key={node.span.id} node={node} top={(first + i) * HEIGHT} start={start} whole={whole} at={node === chosen} hit={hits.has(node.span.id)} folded={folded.has(node.span.id)} fold={fold} pick={pick} />
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  node: Node;
  top: number;
  start: number;
  whole: number;
  at: boolean;
  hit: boolean;
  folded: boolean;
  fold: Props["fold"];
  pick: Props["pick"];
}

function FallRow({ node, top, start, whole, at, hit, folded, fold, pick }: RowProps): JSX.Element {
  const { span } = node;
  const kind = kindOf(span);
  const left = ((node.start - start) / whole) * 100;
  const width = ((node.end - node.start) / whole) * 100;
  const failed = span.status === "error";
  const heard = [failed ? "failed" : "", node.critical ? "on the critical path" : "", hit ? "found" : ""].filter(Boolean).join(", ");
  return (
    <div
      id={`span-${span.id}`}
      class={`fall-row${at ? " at" : ""}${hit ? " hit" : ""}`}
      style={{ top: `${top}px` }}
      role="treeitem"
      aria-selected={at}
      aria-level={node.depth + 1}
      aria-expanded={node.below.length ? !folded : undefined}
      onClick={() => pick(node)}
    >
      <div class="name" style={{ paddingLeft: `${8 + Math.min(node.depth, 20) * 14}px` }}>
        {node.below.length === 0 ? (
          <span style={{ width: "20px", flex: "none" }} />
        ) : (
          <button
            aria-label={folded ? "unfold" : "fold"}
            tabIndex={-1}
            onClick={(event) => {
              event.stopPropagation();
              fold(node, !folded);
            }}
          >
            {folded ? "▸" : "▾"}
          </button>
        )}
        <span class={`kind ${kind}`} title={WORD[kind]} aria-hidden="true">
          {LETTER[kind]}
        </span>
        <span class="only-heard">{WORD[kind]}</span>
        <span class="called" title={visible(span.name)} style={node.critical ? { fontWeight: 600 } : {}}>
          {visible(span.name)}
        </span>
        {heard && <span class="only-heard">{heard}</span>}
      </div>
      <div class="track">
        <div class={`span ${kind}${node.critical ? " critical" : ""}${span.endTime ? "" : ` open ${stateOf(span)}`}${failed ? " error" : ""}`} style={{ left: `${left}%`, width: `${width}%` }} />
        {gaps(node).map(([a, b]) =>
          (b - a) / whole < 0.004 ? null : <div key={a} class="gap" title={`${duration(b - a)} without any span below`} style={{ left: `${((a - start) / whole) * 100}%`, width: `${((b - a) / whole) * 100}%` }} />,
        )}
        <span class={`took${failed ? " error" : ""}`} style={{ left: `${left + width}%` }}>
          {span.endTime ? duration(node.end - node.start) : stateOf(span)}
          {failed && <span aria-hidden="true"> ✕</span>}
        </span>
      </div>
    </div>
  );
}

/** What the signs of the rows mean: of those kinds that there are. */
export function Kinds({ nodes }: { nodes: readonly Node[] }): JSX.Element {
  const there = new Set(nodes.map((node) => kindOf(node.span)));
  return (
    <ul class="kinds" aria-label="kinds of spans">
      {KINDS.filter((kind) => there.has(kind)).map((kind) => (
        <li key={kind}>
          <span class={`kind ${kind}`} aria-hidden="true">
            {LETTER[kind]}
          </span>
          {WORD[kind]}
        </li>
      ))}
    </ul>
  );
}
