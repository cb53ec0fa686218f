/** What did it think, where did the time go? Tree and waterfall, and what one span holds. */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Page, Score, Span, TraceOutline } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { cost, count, duration, full, ms, visible } from "../format";
import { useRoomKeys } from "../keys";
import { live, type SpanItem } from "../live";
import { Empty, Mark, Ready } from "../parts/bits";
import { Detail } from "../parts/spandetail";
import { choose, usePlace } from "../place";
import { gaps, kindOf, LETTER, rows, stateOf, tree, withLive, WORD, type Node } from "../spans";

const HEIGHT = 26;

export function TraceRoom({ project, id }: { project: string; id: string }): JSX.Element {
  // Asked for first: a trace that only begins is no error, and is no 404 in the browser's console.
  const there = useAsked<Page<Span>>(`projects/${part(project)}/spans`, { traceId: id, limit: 1 });
  const known = Boolean(there.data?.items.length);
  const found = useAsked<TraceOutline>(known ? `traces/${part(id)}/outline` : "", { project });
  const [fresh, setFresh] = useState<ReadonlyMap<string, Span>>(new Map());
  const [now, setNow] = useState(Date.now());
  const again = useRef(there.again);
  again.current = known ? found.again : there.again;
  useEffect(() => {
    setFresh(new Map());
    let later: ReturnType<typeof setTimeout> | undefined;
    const end = live.subscribe({ channel: `trace:${project}/${id}`, history: 1000 }, (message) => {
      if (!message.type.startsWith("span:")) return;
      const { items } = message as { items: SpanItem[] };
      setFresh((old) => {
        const next = new Map(old);
        for (const item of items) if (item.endTime || !next.get(item.id)?.endTime) next.set(item.id, ofLive(item));
        return next;
      });
      if (message.type !== "span:ended" || message.history) return;
      // Scores, tokens and cost come from the database, a moment later.
      later ??= setTimeout(() => {
        later = undefined;
        again.current();
      }, 3_000);
    });
    return () => {
      end();
      clearTimeout(later);
    };
  }, [project, id]);
  const spans = useMemo(() => withLive(found.data?.spans ?? [], fresh), [found.data, fresh]);
  const open = useMemo(() => spans.some((span) => !span.endTime), [spans]);
  useEffect(() => {
    if (!open) return;
    const timer = setInterval(() => setNow(Date.now()), 250);
    // Whether one hangs the gateway says.
    const marks = setInterval(() => again.current(), 20_000);
    return () => {
      clearInterval(timer);
      clearInterval(marks);
    };
  }, [open]);
  if (!spans.length)
    return (
      <>
        <h1>Trace {id.slice(0, 12)}</h1>
        <Ready of={there}>{() => !known && <Empty>No span of this trace has come yet; those that come appear here.</Empty>}</Ready>
        {known && <Ready of={found}>{() => null}</Ready>}
      </>
    );
  return <Shown project={project} id={id} spans={spans} detail={found.data} now={open ? now : 0} />;
}

/** The row of a row's parent. */
function parentOf(nodes: Node[], at: number): number {
  for (let i = at - 1; i >= 0; i--) if (nodes[i]!.depth < nodes[at]!.depth) return i;
  return at;
}

function ofLive(item: SpanItem): Span {
  return {
    id: item.id,
    traceId: item.traceId,
    parentSpanId: item.parentSpanId ?? "",
    name: item.name,
    startTime: item.startTime,
    endTime: item.endTime ?? null,
    durationNs: item.endTime ? (ms(item.endTime) - ms(item.startTime)) * 1e6 : null,
    status: (item.status as Span["status"]) ?? "unset",
    spanKind: item.spanKind ?? "internal",
    service: item.service ?? "",
    attributes: item.attributes ?? {},
    whole: true,
  };
}

interface Sums {
  open: string[];
  failed: number;
  tokens: number;
  spent: number;
}

function summed(spans: readonly Span[]): Sums {
  const found: Sums = { open: [], failed: 0, tokens: 0, spent: 0 };
  for (const span of spans) {
    if (!span.endTime) found.open.push(stateOf(span));
    if (span.status === "error") found.failed++;
    found.tokens += (span.inputTokens ?? 0) + (span.outputTokens ?? 0);
    found.spent += span.cost ?? 0;
  }
  return found;
}

const NONE: readonly Score[] = [];

/** `now`: until when spans that run are drawn. */
function Shown({ project, id, spans, detail, now }: { project: string; id: string; spans: readonly Span[]; detail: TraceOutline | undefined; now: number }): JSX.Element {
  const { query } = usePlace();
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const whole = useMemo(() => tree(spans, now), [spans, now]);
  const nodes = useMemo(() => rows(whole, folded), [whole, folded]);
  const { start } = whole;
  const end = Math.max(whole.end, start + 0.001);
  const wanted = query.get("span");
  const at = useMemo(() => Math.max(0, nodes.findIndex((n) => n.span.id === wanted)), [nodes, wanted]);
  const chosen = nodes[at]!;
  const { open, failed, tokens, spent } = useMemo(() => summed(spans), [spans]);
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 400 });
  useEffect(() => {
    const element = box.current!;
    const measure = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  const fold = (node: Node, shut: boolean): void => {
    const next = new Set(folded);
    if (shut) next.add(node.span.id);
    else next.delete(node.span.id);
    setFolded(next);
  };
  const pick = (index: number): void => {
    const row = Math.max(0, Math.min(nodes.length - 1, index));
    choose({ span: nodes[row]!.span.id });
    const top = row * HEIGHT;
    const element = box.current!;
    if (top < element.scrollTop || top > element.scrollTop + element.clientHeight - HEIGHT) element.scrollTop = top - element.clientHeight / 2;
  };
  const sideways = (left: boolean): void => {
    const shut = folded.has(chosen.span.id) || chosen.below.length === 0;
    if (left && shut) pick(parentOf(nodes, at));
    else if (!left && !folded.has(chosen.span.id)) pick(at + (chosen.below.length ? 1 : 0));
    else fold(chosen, left);
  };
  const body = useRef<HTMLDivElement>(null);
  const acts: Record<string, () => void> = {
    j: () => pick(at + 1),
    k: () => pick(at - 1),
    ArrowLeft: () => sideways(true),
    ArrowRight: () => sideways(false),
    e: () => {
      const next = nodes.findIndex((n, i) => i > at && n.span.status === "error");
      if (next >= 0) pick(next);
    },
    Enter: () => body.current?.querySelector<HTMLElement>("[role=tabpanel]")?.focus(),
  };
  useRoomKeys(acts);
  const keys = (event: KeyboardEvent): void => {
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!by) return;
    event.preventDefault();
    pick(at + by);
  };
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - 8);
  const last = Math.min(nodes.length, Math.ceil((view.top + view.height) / HEIGHT) + 8);
  return (
    <>
      <div class="head">
        <h1>{nodes[0]!.span.name}</h1>
        <Mark state={open.length ? ["lost", "hung", "running"].find((state) => open.includes(state))! : failed ? "error" : "ok"} />
        <span title={full(nodes[0]!.span.startTime)}>{duration(end - start)}</span>
        <span class="soft">
          {count(spans.length)} spans{failed ? `, ${failed} failed` : ""}, {count(tokens)} tokens, {cost(spent)}
        </span>
        <code class="soft">{id}</code>
      </div>
      {detail?.truncated && <p class="soft">The trace has more spans than are shown.</p>}
      <div class="fall" ref={box} tabIndex={0} onKeyDown={keys} onScroll={(e) => setView({ top: e.currentTarget.scrollTop, height: e.currentTarget.clientHeight })} role="tree" aria-label="spans of the trace" aria-activedescendant={`span-${chosen.span.id}`}>
        <div style={{ height: `${nodes.length * HEIGHT}px` }}>
          {nodes.slice(first, last).map((node, i) => (
            <FallRow key={node.span.id} node={node} top={(first + i) * HEIGHT} start={start} whole={end - start} at={node === chosen} folded={folded.has(node.span.id)} fold={fold} />
          ))}
        </div>
      </div>
      <div class="detail-place" ref={body}>
        <Detail key={chosen.span.id} node={chosen} spans={spans} project={project} trace={id} scores={detail?.scores ?? NONE} />
      </div>
    </>
  );
}

function FallRow({ node, top, start, whole, at, folded, fold }: { node: Node; top: number; start: number; whole: number; at: boolean; folded: boolean; fold: (node: Node, shut: boolean) => void }): JSX.Element {
  const { span } = node;
  const kind = kindOf(span);
  const left = ((node.start - start) / whole) * 100;
  const width = ((node.end - node.start) / whole) * 100;
  const took = span.endTime ? duration(node.end - node.start) : stateOf(span);
  const right = left + width > 80;
  return (
    <div
      id={`span-${span.id}`}
      class={`fall-row${at ? " at" : ""}`}
      style={{ top: `${top}px` }}
      role="treeitem"
      aria-selected={at}
      aria-level={node.depth + 1}
      onClick={() => choose({ span: span.id })}
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
        <span title={span.name} style={node.critical ? { fontWeight: 600 } : {}}>
          {visible(span.name)}
        </span>
        {(span.status === "error" || node.critical) && (
          <span class="only-heard">{[span.status === "error" ? "failed" : "", node.critical ? "on the critical path" : ""].join(" ")}</span>
        )}
      </div>
      <div class="track">
        <div class={`span ${kind}${node.critical ? " critical" : ""}${span.endTime ? "" : ` open ${stateOf(span)}`}${span.status === "error" ? " error" : ""}`} style={{ left: `${left}%`, width: `${width}%` }} />
        {gaps(node).map(([a, b]) =>
          (b - a) / whole < 0.004 ? null : <div key={a} class="gap" title={`${duration(b - a)} without any span below`} style={{ left: `${((a - start) / whole) * 100}%`, width: `${((b - a) / whole) * 100}%` }} />,
        )}
        <span class="took" style={right ? { right: `${100 - left}%`, paddingRight: "6px" } : { left: `${left + width}%` }}>
          {took}
        </span>
      </div>
    </div>
  );
}
