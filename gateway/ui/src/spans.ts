/** A trace as a tree: order, depth, kinds of spans, the critical path. Pure. */
import type { Span } from "./api";
import { ms } from "./format";

export type Kind = "agent" | "model" | "tool" | "http" | "db" | "other";

export interface Node {
  span: Span;
  depth: number;
  children: number;
  start: number;
  end: number;
  kind: Kind;
  critical: boolean;
  /** When it ran and nothing below it did, where that is told apart: it has children. */
  gaps: [number, number][];
}

export const LETTER: Record<Kind, string> = { agent: "A", model: "M", tool: "T", http: "H", db: "D", other: "·" };
export const WORD: Record<Kind, string> = {
  agent: "agent or workflow",
  model: "model call",
  tool: "tool",
  http: "HTTP",
  db: "database or retrieval",
  other: "span",
};

/** What is to be said of a span that has not ended. */
export const stateOf = (span: Span): string => (span.endTime ? span.status : span.lost ? "lost" : span.hung ? "hung" : "running");

/** By OpenTelemetry's names for generative AI, else by those for HTTP and databases. */
export function kindOf(span: Span): Kind {
  const at = span.attributes ?? {};
  const operation = String(at["gen_ai.operation.name"] ?? "");
  const mastra = String(at["mastra.span.type"] ?? "");
  if (/agent|workflow/.test(operation) || /agent|workflow/.test(mastra)) return "agent";
  if (operation === "execute_tool" || mastra.includes("tool")) return "tool";
  if (["chat", "generate_content", "text_completion", "embeddings"].includes(operation) || span.model || mastra.includes("model")) return "model";
  if (operation === "retrieval" || "db.system" in at || "db.system.name" in at || "db.operation.name" in at) return "db";
  if ("http.request.method" in at || "http.method" in at) return "http";
  return "other";
}

/** Parents before their children, siblings by time; a span whose parent is missing stands at the root. */
export function tree(spans: Span[], folded: ReadonlySet<string>, now: number): Node[] {
  const known = new Set(spans.map((span) => span.id));
  const below = new Map<string, Span[]>();
  for (const span of spans) {
    const parent = known.has(span.parentSpanId) && span.parentSpanId !== span.id ? span.parentSpanId : "";
    const siblings = below.get(parent);
    if (siblings) siblings.push(span);
    else below.set(parent, [span]);
  }
  const times = new Map(spans.map((span) => [span.id, ms(span.startTime)] as const));
  adopt(spans, below);
  for (const siblings of below.values()) siblings.sort((a, b) => times.get(a.id)! - times.get(b.id)!);
  const critical = path(below, times, now);
  const nodes: Node[] = [];
  const seen = new Set<string>();
  const stack = [...(below.get("") ?? [])].reverse().map((span) => ({ span, depth: 0 }));
  while (stack.length) {
    const { span, depth } = stack.pop()!;
    if (seen.has(span.id)) continue;
    seen.add(span.id);
    const children = below.get(span.id) ?? [];
    const start = times.get(span.id)!;
    const end = span.endTime ? ms(span.endTime) : now;
    nodes.push({
      span,
      depth,
      children: children.length,
      start,
      end,
      gaps: between(start, end, children, times, now),
      kind: kindOf(span),
      critical: critical.has(span.id),
    });
    if (!folded.has(span.id)) for (let i = children.length - 1; i >= 0; i--) stack.push({ span: children[i]!, depth: depth + 1 });
  }
  return nodes;
}

/** Where no child covers the time of its parent; children are in order of their starts. */
function between(start: number, end: number, children: Span[], times: Map<string, number>, now: number): [number, number][] {
  const gaps: [number, number][] = [];
  if (!children.length) return gaps;
  let covered = start;
  for (const child of children) {
    const from = times.get(child.id)!;
    if (from > covered) gaps.push([covered, Math.min(from, end)]);
    covered = Math.max(covered, child.endTime ? ms(child.endTime) : now);
    if (covered >= end) break;
  }
  if (covered < end) gaps.push([covered, end]);
  return gaps.filter(([a, b]) => b > a);
}

/** Spans that are each other's ancestors hang on nothing: the first of such a ring stands at the root. */
function adopt(spans: Span[], below: Map<string, Span[]>): void {
  const reached = new Set<string>();
  const reach = (from: Span[]): void => {
    const stack = [...from];
    while (stack.length) {
      const { id } = stack.pop()!;
      if (reached.has(id)) continue;
      reached.add(id);
      for (const child of below.get(id) ?? []) stack.push(child);
    }
  };
  const roots = below.get("") ?? [];
  reach(roots);
  for (const span of spans) {
    if (reached.has(span.id)) continue;
    roots.push(span);
    reach([span]);
  }
  below.set("", roots);
}

/**
 * What the whole waited for: of the root that ended last, back from its end, the child that ended last,
 * then what ended last before that one began, and so on; of each of them the same.
 */
function path(below: Map<string, Span[]>, times: Map<string, number>, now: number): Set<string> {
  const found = new Set<string>();
  const end = (span: Span): number => (span.endTime ? ms(span.endTime) : now);
  const latest = (spans: Span[]): Span[] => [...spans].sort((a, b) => end(b) - end(a));
  const waiting = latest(below.get("") ?? []).slice(0, 1);
  while (waiting.length) {
    const span = waiting.pop()!;
    if (found.has(span.id)) continue;
    found.add(span.id);
    let until = end(span);
    for (const child of latest(below.get(span.id) ?? [])) {
      const from = times.get(child.id)!;
      if (from > until || Math.min(end(child), end(span)) > until) continue;
      waiting.push(child);
      until = from;
    }
  }
  return found;
}

export const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "");
