/** What did it think, where did the time go? Tree and waterfall, and what one span holds. */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LogLine, Page, Span, TraceDetail } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { clock, cost, count, duration, full, ms, visible } from "../format";
import { live, type SpanItem } from "../live";
import { Empty, Mark, Ready } from "../parts/bits";
import { choose, usePlace } from "../place";
import { LETTER, messages, text, tree, WORD, type Node, type Said } from "../spans";

const HEIGHT = 26;

export function TraceRoom({ project, id }: { project: string; id: string }): JSX.Element {
  // Asked for first: a trace that only begins is no error, and is no 404 in the browser's console.
  const there = useAsked<Page<Span>>(`projects/${part(project)}/spans`, { traceId: id, limit: 1 });
  const known = Boolean(there.data?.items.length);
  const found = useAsked<TraceDetail>(known ? `traces/${part(id)}` : "", { project });
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
  const spans = useMemo(() => {
    const all = new Map((found.data?.spans ?? []).map((span) => [span.id, span]));
    for (const [key, span] of fresh) {
      const known = all.get(key);
      if (!known || (!known.endTime && span.endTime)) all.set(key, span);
    }
    return [...all.values()];
  }, [found.data, fresh]);
  const open = spans.some((span) => !span.endTime);
  useEffect(() => {
    if (!open) return;
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [open]);
  if (!spans.length)
    return (
      <>
        <h1>Trace {id.slice(0, 12)}</h1>
        <Ready of={there}>{() => !known && <Empty>No span of this trace has come yet; those that come appear here.</Empty>}</Ready>
        {known && <Ready of={found}>{() => null}</Ready>}
      </>
    );
  return <Shown project={project} id={id} spans={spans} detail={found.data} now={now} />;
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
  };
}

function Shown({ project, id, spans, detail, now }: { project: string; id: string; spans: Span[]; detail: TraceDetail | undefined; now: number }): JSX.Element {
  const { query } = usePlace();
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const nodes = useMemo(() => tree(spans, folded, now), [spans, folded, now]);
  const start = Math.min(...nodes.map((n) => n.start));
  const end = Math.max(...nodes.map((n) => n.end), start + 0.001);
  const chosen = nodes.find((n) => n.span.id === query.get("span")) ?? nodes[0]!;
  const failed = spans.filter((s) => s.status === "error").length;
  const tokens = spans.reduce((sum, s) => sum + (s.inputTokens ?? 0) + (s.outputTokens ?? 0), 0);
  const spent = spans.reduce((sum, s) => sum + (s.cost ?? 0), 0);
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
    const node = nodes[Math.max(0, Math.min(nodes.length - 1, index))]!;
    choose({ span: node.span.id });
    const top = nodes.indexOf(node) * HEIGHT;
    const element = box.current!;
    if (top < element.scrollTop || top > element.scrollTop + element.clientHeight - HEIGHT) element.scrollTop = top - element.clientHeight / 2;
  };
  const keys = (event: KeyboardEvent): void => {
    const at = nodes.indexOf(chosen);
    if (event.key === "j" || event.key === "ArrowDown") pick(at + 1);
    else if (event.key === "k" || event.key === "ArrowUp") pick(at - 1);
    else if (event.key === "ArrowLeft") fold(chosen, true);
    else if (event.key === "ArrowRight") fold(chosen, false);
    else if (event.key === "e") {
      const next = nodes.findIndex((n, i) => i > at && n.span.status === "error");
      if (next >= 0) pick(next);
    } else return;
    event.preventDefault();
  };
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - 8);
  const last = Math.min(nodes.length, Math.ceil((view.top + view.height) / HEIGHT) + 8);
  return (
    <>
      <div class="head">
        <h1>{nodes[0]!.span.name}</h1>
        <Mark state={spans.some((s) => !s.endTime) ? "running" : failed ? "error" : "ok"} />
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
      <Detail key={chosen.span.id} node={chosen} project={project} detail={detail} />
    </>
  );
}

function FallRow({ node, top, start, whole, at, folded, fold }: { node: Node; top: number; start: number; whole: number; at: boolean; folded: boolean; fold: (node: Node, shut: boolean) => void }): JSX.Element {
  const { span, kind } = node;
  const left = ((node.start - start) / whole) * 100;
  const width = ((node.end - node.start) / whole) * 100;
  const took = span.endTime ? duration(node.end - node.start) : "running";
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
        {node.children === 0 ? (
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
        <div class={`span ${kind}${span.endTime ? "" : " open"}${span.status === "error" ? " error" : ""}`} style={{ left: `${left}%`, width: `${width}%` }} />
        <span class="took" style={right ? { right: `${100 - left}%`, paddingRight: "6px" } : { left: `${left + width}%` }}>
          {took}
        </span>
      </div>
    </div>
  );
}

type Tab = "Conversation" | "Input/Output" | "Attributes" | "Logs" | "Scores" | "Raw";

function Detail({ node, project, detail }: { node: Node; project: string; detail: TraceDetail | undefined }): JSX.Element {
  const { query } = usePlace();
  const { span } = node;
  const at = span.attributes ?? {};
  const input = messages(at["gen_ai.input.messages"] ?? at["gen_ai.prompt"] ?? at["input"]);
  const output = messages(at["gen_ai.output.messages"] ?? at["gen_ai.completion"] ?? at["output"]);
  const tool = at["gen_ai.tool.call.arguments"] !== undefined || at["gen_ai.tool.call.result"] !== undefined;
  const scores = (detail?.scores ?? []).filter((score) => !score.spanId || score.spanId === span.id);
  const tabs: Tab[] = [...(input.length || output.length ? (["Conversation"] as Tab[]) : []), ...(tool ? (["Input/Output"] as Tab[]) : []), "Attributes", "Logs", "Scores", "Raw"];
  const wanted = query.get("tab") as Tab | null;
  const tab = wanted && tabs.includes(wanted) ? wanted : tabs[0]!;
  return (
    <section class="detail" aria-label={`span ${span.name}`}>
      <div class="tabs" role="tablist">
        {tabs.map((name) => (
          <button key={name} role="tab" aria-selected={name === tab} onClick={() => choose({ tab: name })}>
            {name}
            {name === "Scores" && scores.length ? ` ${scores.length}` : ""}
          </button>
        ))}
      </div>
      <div class="detail-body" role="tabpanel">
        <p class="soft">
          <strong>{visible(span.name)}</strong> · {WORD[node.kind]} · {span.endTime ? duration(node.end - node.start) : "running"}
          {span.model ? ` · ${span.model}` : ""}
          {span.inputTokens || span.outputTokens ? ` · ${count(span.inputTokens ?? 0)} in, ${count(span.outputTokens ?? 0)} out` : ""}
          {span.cost ? ` · ${cost(span.cost)}` : ""}
        </p>
        {span.statusMessage && <p class="mark bad">{visible(span.statusMessage)}</p>}
        {tab === "Conversation" && (
          <>
            <Talk said={input} />
            <Talk said={output} />
          </>
        )}
        {tab === "Input/Output" && (
          <>
            <h2>Arguments</h2>
            <pre>{visible(text(at["gen_ai.tool.call.arguments"] ?? ""))}</pre>
            <h2>Result</h2>
            <pre>{visible(text(at["gen_ai.tool.call.result"] ?? ""))}</pre>
          </>
        )}
        {tab === "Attributes" && <Attributes of={at} />}
        {tab === "Logs" && <SpanLogs project={project} span={span} />}
        {tab === "Scores" &&
          (scores.length ? (
            <dl class="facts">
              {scores.map((score) => (
                <>
                  <dt key={score.id}>{score.name}</dt>
                  <dd>
                    {typeof score.value === "number" ? Number(score.value.toFixed(4)) : score.value} <span class="soft">{score.comment}</span>
                  </dd>
                </>
              ))}
            </dl>
          ) : (
            <p class="soft">Nobody has scored this span.</p>
          ))}
        {tab === "Raw" && <pre>{visible(JSON.stringify(span, null, 2))}</pre>}
      </div>
    </section>
  );
}

function Talk({ said }: { said: Said[] }): JSX.Element {
  const old = said.length > 4 ? said.slice(0, -3) : [];
  const fresh = said.slice(old.length);
  return (
    <>
      {old.length > 0 && (
        <details>
          <summary>{old.length} earlier messages</summary>
          {old.map((m, i) => (
            <Message key={i} said={m} />
          ))}
        </details>
      )}
      {fresh.map((m, i) => (
        <Message key={i} said={m} />
      ))}
    </>
  );
}

function Message({ said }: { said: Said }): JSX.Element {
  return (
    <div class={`said ${said.role === "tool" ? "tool-said" : said.role}`}>
      <div class="who">{said.role || "message"}</div>
      {said.text && <pre>{visible(said.text)}</pre>}
      {said.calls.map((call, i) => (
        <details key={i} open>
          <summary>calls {visible(call.name)}</summary>
          <pre>{visible(call.arguments)}</pre>
        </details>
      ))}
    </div>
  );
}

function Attributes({ of }: { of: Record<string, unknown> }): JSX.Element {
  const entries = Object.entries(of);
  if (!entries.length) return <p class="soft">It has none.</p>;
  return (
    <dl class="facts">
      {entries.map(([name, value]) => (
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
  );
}

function SpanLogs({ project, span }: { project: string; span: Span }): JSX.Element {
  const logs = useAsked<Page<LogLine>>(`projects/${part(project)}/logs`, { traceId: span.traceId, order: "asc", limit: 500 });
  return (
    <Ready of={logs}>
      {(page) => {
        const own = page.items.filter((line) => !line.spanId || line.spanId === span.id);
        return own.length === 0 ? (
          <p class="soft">No line has this trace's id.</p>
        ) : (
          <table>
            <tbody>
              {own.map((line) => (
                <tr key={line.id}>
                  <td class="mono nowrap soft" title={full(line.timestamp)}>
                    {clock(line.timestamp)}
                  </td>
                  <td class="mono">{line.level}</td>
                  <td class="mono">{visible(line.message)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        );
      }}
    </Ready>
  );
}
