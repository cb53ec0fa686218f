/** What did it think, where did the time go? Tree and waterfall, and what one span holds. */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Page, Score, Span, Trace, TraceOutline } from "../api";
import { part } from "../api";
import { useAsked, useAwaited } from "../asking";
import { useFound } from "../finding";
import { walked } from "../focus";
import { cost, count, duration, ms, visible } from "../format";
import { useRoomKeys } from "../keys";
import { live, type SpanItem } from "../live";
import { Empty, Mark, Ready, Time } from "../parts/bits";
import { FindBar } from "../parts/findbar";
import { Detail } from "../parts/spandetail";
import { Kinds, showRow, Waterfall } from "../parts/waterfall";
import { choose, href, listed, usePlace } from "../place";
import { isBehind, type Node, rows, stateOf, tree, withLive } from "../spans";

export function TraceRoom({ project, id }: { project: string; id: string }): JSX.Element {
  // Asked for first: a trace that only begins is no error, and is no 404 in the browser's console.
  const there = useAsked<Page<Span>>(`projects/${part(project)}/spans`, { traceId: id, limit: 1 });
  const known = Boolean(there.data?.items.length);
  const found = useAsked<TraceOutline>(known ? `traces/${part(id)}/outline` : "", { project });
  const about = useAsked<Page<Trace>>(known ? `projects/${part(project)}/traces` : "", { traceId: id, limit: 1 });
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
  // A stream's history comes from the collectors' memory too, before the database has it.
  const answered = known ? !found.loading : !there.loading;
  const behind = useMemo(() => answered && !found.data?.truncated && isBehind(found.data?.spans ?? [], fresh), [answered, found.data, fresh]);
  useAwaited(behind, again.current);
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
        <div class="head">
          <h1>Trace {id.slice(0, 12)}</h1>
        </div>
        <Ready of={there}>
          {() =>
            !known && (
              <Empty>
                No span of trace <code>{id}</code> has come in {project}. One that has just begun appears here by itself; of another project, or older than what is kept, none will: <a href={listed("traces")}>all traces</a>.
              </Empty>
            )
          }
        </Ready>
        {known && <Ready of={found}>{() => null}</Ready>}
      </>
    );
  return <Shown project={project} id={id} spans={spans} detail={found.data} now={open ? now : 0} of={about.data?.items[0]} />;
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
const OPEN: ReadonlySet<string> = new Set();

interface ShownProps {
  project: string;
  id: string;
  spans: readonly Span[];
  detail: TraceOutline | undefined;
  /** Until when spans that run are drawn. */
  now: number;
  of: Trace | undefined;
}

function Shown({ project, id, spans, detail, now, of }: ShownProps): JSX.Element {
  const { query } = usePlace();
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const whole = useMemo(() => tree(spans, now), [spans, now]);
  const nodes = useMemo(() => rows(whole, folded), [whole, folded]);
  const { start } = whole;
  const end = Math.max(whole.end, start + 0.001);
  const wanted = query.get("span");
  const at = useMemo(() => Math.max(0, nodes.findIndex((n) => n.span.id === wanted)), [nodes, wanted]);
  const chosen = nodes[at]!;
  const sums = useMemo(() => summed(spans), [spans]);
  const box = useRef<HTMLDivElement>(null);
  const body = useRef<HTMLDivElement>(null);
  const words = query.get("find") ?? "";
  const found = useFound(project, id, spans, words);
  const fold = (node: Node, shut: boolean): void => {
    const next = new Set(folded);
    if (shut) next.add(node.span.id);
    else next.delete(node.span.id);
    setFolded(next);
  };
  const pick = (index: number): void => {
    const row = Math.max(0, Math.min(nodes.length - 1, index));
    choose({ span: nodes[row]!.span.id });
    showRow(box.current!, row);
  };
  const all = useMemo(() => (found.ids.size ? rows(whole, OPEN) : []), [whole, found.ids]);
  const hits = useMemo(() => all.filter((node) => found.ids.has(node.span.id)), [all, found.ids]);
  const nth = hits.findIndex((node) => node.span.id === chosen.span.id) + 1;
  /** Which way, for who pressed Enter before the gateway had answered. */
  const due = useRef(0);
  /** The next of what was found after the chosen one, round and round; what hides it is unfolded. */
  const seek = (by: number): void => {
    if (!hits.length) {
      due.current = found.waiting ? by : 0;
      return;
    }
    const from = all.findIndex((node) => node.span.id === chosen.span.id);
    const order = by > 0 ? hits : [...hits].reverse();
    const place = new Map(all.map((node, i) => [node, i]));
    const next = order.find((node) => (place.get(node)! - from) * by > 0) ?? order[0]!;
    const open = new Set(folded);
    for (let i = place.get(next)!, depth = next.depth; i >= 0 && depth > 0; i--) {
      if (all[i]!.depth >= depth) continue;
      depth = all[i]!.depth;
      open.delete(all[i]!.span.id);
    }
    if (open.size < folded.size) setFolded(open);
    choose({ span: next.span.id });
    showRow(box.current!, (open.size < folded.size ? rows(whole, open) : nodes).findIndex((node) => node.span.id === next.span.id));
  };
  useLayoutEffect(() => {
    due.current = 0;
  }, [words]);
  useEffect(() => {
    const by = due.current;
    if (found.waiting || !by) return;
    due.current = 0;
    seek(by);
  }, [found.waiting]);
  const sideways = (left: boolean): void => {
    const shut = folded.has(chosen.span.id) || chosen.below.length === 0;
    if (left && shut) pick(parentOf(nodes, at));
    else if (!left && !folded.has(chosen.span.id)) pick(at + (chosen.below.length ? 1 : 0));
    else fold(chosen, left);
  };
  const acts: Record<string, () => void> = {
    j: walked(box, () => pick(at + 1)),
    k: walked(box, () => pick(at - 1)),
    ArrowLeft: () => sideways(true),
    ArrowRight: () => sideways(false),
    e: () => {
      const next = nodes.findIndex((n, i) => i > at && n.span.status === "error");
      if (next >= 0) pick(next);
    },
    n: () => seek(1),
    N: () => seek(-1),
    Enter: () => body.current?.querySelector<HTMLElement>("[role=tabpanel]")?.focus(),
  };
  useRoomKeys(acts);
  const keys = (event: KeyboardEvent): void => {
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!by) return;
    event.preventDefault();
    pick(at + by);
  };
  // A link shows the span that it names.
  const there = useRef(false);
  useEffect(() => {
    if (there.current || !wanted || chosen.span.id !== wanted) return;
    there.current = true;
    showRow(box.current!, at);
  }, [wanted, at]);
  return (
    <>
      <Head project={project} id={id} root={nodes[0]!.span} took={end - start} many={spans.length} sums={sums} of={of} />
      {detail?.truncated && <p class="soft">The trace has more spans than are shown.</p>}
      <div class="trace-tools">
        <FindBar wanted={words} find={(text) => choose({ find: text })} found={found} nth={nth} step={seek} />
        <Kinds nodes={nodes} />
      </div>
      <Waterfall box={box} nodes={nodes} chosen={chosen} folded={folded} hits={found.ids} start={start} end={end} fold={fold} pick={(node) => choose({ span: node.span.id })} onKeyDown={keys} />
      <div class="detail-place" ref={body}>
        <Detail key={chosen.span.id} node={chosen} spans={spans} project={project} trace={id} scores={detail?.scores ?? NONE} find={words} />
      </div>
    </>
  );
}

interface HeadProps {
  project: string;
  id: string;
  root: Span;
  /** In ms. */
  took: number;
  many: number;
  sums: Sums;
  of: Trace | undefined;
}

/** What it is, how it ended, when it was, what it cost, and what ran it. */
function Head({ project, id, root, took, many, sums: { open, failed, tokens, spent }, of }: HeadProps): JSX.Element {
  const server = of?.deployment && `${project.slice(0, project.indexOf("."))}.${of.deployment}`;
  return (
    <div class="head">
      <h1>{visible(of?.name || root.name)}</h1>
      <Mark state={open.length ? ["lost", "hung", "running"].find((state) => open.includes(state))! : failed ? "error" : "ok"} />
      <span>{duration(took)}</span>
      <span class="soft">
        <Time at={root.startTime} />, {many === 1 ? "1 span" : `${count(many)} spans`}
        {failed ? `, ${failed} failed` : ""}
        {tokens ? `, ${count(tokens)} tokens` : ""}
        {spent ? `, ${cost(spent)}` : ""}
      </span>
      {server && <a href={href(["deployments", server], { project })}>{server}</a>}
      <code class="soft">{id}</code>
    </div>
  );
}
