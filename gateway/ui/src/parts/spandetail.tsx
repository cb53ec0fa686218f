/** What one span holds: what was said, what went in and out, attributes, lines, scores. */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { plain } from "../ansi";
import type { LogLine, Page, Score, Span } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { inputOf, outputOf } from "../conversation";
import { wordsOf } from "../finding";
import { clock, cost, count, duration, full, visible } from "../format";
import { choose, usePlace } from "../place";
import { gaps, kindOf, stateOf, text, WORD, type Node } from "../spans";
import { useWhole } from "../whole";
import { Copyable, Ready } from "./bits";
import { Conversation } from "./conversation";
import { Marked } from "./marked";

type Tab = "Conversation" | "Input/Output" | "Attributes" | "Logs" | "Scores" | "Raw";

interface Props {
  node: Node;
  spans: readonly Span[];
  project: string;
  trace: string;
  scores: readonly Score[];
  /** What is looked for in the trace. */
  find: string;
}

export function Detail({ node, spans, project, trace, scores: all, find }: Props): JSX.Element {
  const { query } = usePlace();
  const { span, before, asked, waiting } = useWhole(project, trace, node.span, spans);
  const at = span.attributes ?? {};
  const talks = inputOf(span).length > 0 || outputOf(span).length > 0;
  const given = at["gen_ai.tool.call.arguments"] ?? at["gen_ai.input.messages"] ?? at["input"];
  const got = at["gen_ai.tool.call.result"] ?? at["gen_ai.output.messages"] ?? at["output"];
  const own = gaps(node).reduce((sum, [a, b]) => sum + b - a, 0);
  const scores = all.filter((score) => !score.spanId || score.spanId === span.id);
  const tabs: Tab[] = [...(talks ? (["Conversation"] as Tab[]) : []), ...(given !== undefined || got !== undefined ? (["Input/Output"] as Tab[]) : []), "Attributes", "Logs", "Scores", "Raw"];
  const wanted = query.get("tab") as Tab | null;
  const tab = wanted && tabs.includes(wanted) ? wanted : tabs[0]!;
  const words = useMemo(() => wordsOf(find), [find]);
  const box = useRef<HTMLElement>(null);
  useEffect(() => box.current?.querySelector("mark")?.scrollIntoView({ block: "nearest" }), [find, tab, waiting]);
  return (
    <section class="detail" ref={box} aria-label={`span ${span.name}`}>
      {waiting ? (
        <div class="tabs waiting" />
      ) : (
        <div class="tabs" role="tablist">
          {tabs.map((name) => (
            <button key={name} role="tab" aria-selected={name === tab} onClick={() => choose({ tab: name })}>
              {name}
              {name === "Scores" && scores.length ? ` ${scores.length}` : ""}
            </button>
          ))}
        </div>
      )}
      <div class="detail-body" role={waiting ? "status" : "tabpanel"} tabIndex={0} aria-label={waiting ? "loading" : tab} aria-busy={waiting}>
        <p class="soft">
          <strong>{visible(span.name)}</strong> · {WORD[kindOf(span)]} · {span.endTime ? duration(node.end - node.start) : stateOf(span)}
          {own > 0 && node.below.length > 0 ? `, ${duration(own)} of it without any span below` : ""}
          {span.model ? ` · ${span.model}` : ""}
          {span.inputTokens || span.outputTokens ? ` · ${count(span.inputTokens ?? 0)} in, ${count(span.outputTokens ?? 0)} out` : ""}
          {span.cost ? ` · ${cost(span.cost)}` : ""}
        </p>
        {!span.endTime && (span.hung || span.lost) && <p class="mark warn">{span.lost ? "The process that began it has ended: it can no longer end." : "Nothing was heard of it, nor of any span below it, for a long time."}</p>}
        {span.statusMessage && <p class="mark bad">{visible(span.statusMessage)}</p>}
        {(waiting || asked.error) && <Ready of={asked}>{() => null}</Ready>}
        {!waiting && (
          <>
            {tab === "Conversation" && <Conversation span={span} spans={before} words={words} />}
            {tab === "Input/Output" && (
              <>
                <h2>{at["gen_ai.tool.call.arguments"] !== undefined ? "Arguments" : "Input"}</h2>
                <pre>
                  <Marked text={readable(given)} words={words} />
                </pre>
                <h2>{at["gen_ai.tool.call.result"] !== undefined ? "Result" : "Output"}</h2>
                <pre>
                  <Marked text={readable(got)} words={words} />
                </pre>
              </>
            )}
            {tab === "Attributes" && <Attributes of={at} words={words} />}
            {tab === "Logs" && <SpanLogs project={project} trace={trace} span={span} />}
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
            {tab === "Raw" && (
              <>
                <Copyable text={JSON.stringify(span, null, 2)} shown="Copy" />
                <pre>{visible(JSON.stringify(span, null, 2))}</pre>
              </>
            )}
          </>
        )}
      </div>
    </section>
  );
}

/** JSON with its lines and indents, whatever it came as. */
function readable(value: unknown): string {
  if (typeof value !== "string") return text(value ?? "");
  try {
    const parsed: unknown = JSON.parse(value);
    return typeof parsed === "object" && parsed !== null ? JSON.stringify(parsed, null, 2) : value;
  } catch {
    return value;
  }
}

function Attributes({ of, words }: { of: Record<string, unknown>; words: readonly string[] }): JSX.Element {
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
            <pre>
              <Marked text={text(value)} words={words} />
            </pre>
          </dd>
        </>
      ))}
    </dl>
  );
}

function SpanLogs({ project, trace, span }: { project: string; trace: string; span: Span }): JSX.Element {
  const logs = useAsked<Page<LogLine>>(`projects/${part(project)}/logs`, { traceId: trace, order: "asc", limit: 500 });
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
                  <td class="mono">{visible(plain(line.message))}</td>
                </tr>
              ))}
            </tbody>
          </table>
        );
      }}
    </Ready>
  );
}
