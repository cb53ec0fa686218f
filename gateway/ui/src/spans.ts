/** A trace as a tree: order, depth, kinds of spans, the critical path. Pure. */
import type { Span } from "./api";
import { ms } from "./format";

export type Kind = "agent" | "workflow" | "model" | "tool" | "http" | "db" | "other";

export interface Node {
  span: Span;
  depth: number;
  /** In order of their starts. */
  below: Node[];
  start: number;
  end: number;
  critical: boolean;
}

export interface Tree {
  roots: Node[];
  /** Of all spans, in ms. */
  start: number;
  end: number;
}

export const LETTER: Record<Kind, string> = { agent: "A", workflow: "W", model: "M", tool: "T", http: "H", db: "D", other: "·" };
export const KINDS: readonly Kind[] = ["agent", "workflow", "model", "tool", "http", "db", "other"];
export const WORD: Record<Kind, string> = {
  agent: "agent",
  workflow: "workflow",
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
  if (operation === "execute_tool" || mastra.includes("tool")) return "tool";
  if (/workflow/.test(operation) || /workflow/.test(mastra)) return "workflow";
  if (/agent/.test(operation) || /agent/.test(mastra)) return "agent";
  if (["chat", "generate_content", "text_completion", "embeddings"].includes(operation) || span.model || mastra.includes("model")) return "model";
  if (operation === "retrieval" || "db.system" in at || "db.system.name" in at || "db.operation.name" in at) return "db";
  if ("http.request.method" in at || "http.method" in at) return "http";
  return "other";
}

/** Parents before their children, siblings by time; a span whose parent is missing stands at the root. */
export function tree(spans: readonly Span[], now: number): Tree {
  const known = new Map<string, Node>();
  let start = Infinity;
  let end = -Infinity;
  for (const span of spans) {
    const began = ms(span.startTime);
    const node = { span, depth: 0, below: [], start: began, end: span.endTime ? ms(span.endTime) : now, critical: false };
    known.set(span.id, node);
    if (began < start) start = began;
    if (node.end > end) end = node.end;
  }
  const roots: Node[] = [];
  for (const node of known.values()) {
    const parent = known.get(node.span.parentSpanId ?? "");
    (parent === undefined || parent === node ? roots : parent.below).push(node);
  }
  adopt(known, roots);
  for (const node of known.values()) inOrder(node.below);
  inOrder(roots);
  markPath(roots);
  return { roots, start, end };
}

/** They come from the gateway in order of their starts: most often nothing is to do. */
function inOrder(nodes: Node[]): void {
  for (let i = 1; i < nodes.length; i++) {
    if (nodes[i - 1]!.start <= nodes[i]!.start) continue;
    nodes.sort((a, b) => a.start - b.start);
    return;
  }
}

/** The rows of a tree from above to below, each with its depth; nothing below those that are folded. */
export function rows({ roots }: Tree, folded: ReadonlySet<string>): Node[] {
  const found: Node[] = [];
  const stack: Node[] = [];
  const open = (nodes: Node[], depth: number): void => {
    for (let i = nodes.length - 1; i >= 0; i--) {
      nodes[i]!.depth = depth;
      stack.push(nodes[i]!);
    }
  };
  open(roots, 0);
  while (stack.length) {
    const node = stack.pop()!;
    found.push(node);
    if (node.below.length && !folded.has(node.span.id)) open(node.below, node.depth + 1);
  }
  return found;
}

/** When it ran and nothing below it did, where that is told apart: it has children. */
export function gaps(node: Node): [number, number][] {
  const { start, end, below } = node;
  const found: [number, number][] = [];
  if (!below.length) return found;
  let covered = start;
  for (const child of below) {
    if (child.start > covered) found.push([covered, Math.min(child.start, end)]);
    covered = Math.max(covered, child.end);
    if (covered >= end) break;
  }
  if (covered < end) found.push([covered, end]);
  return found.filter(([a, b]) => b > a);
}

/** Spans that are each other's ancestors hang on nothing: the first of such a ring stands at the root. */
function adopt(known: ReadonlyMap<string, Node>, roots: Node[]): void {
  const reached = new Set<Node>();
  const reach = (from: Node[]): void => {
    const stack = [...from];
    while (stack.length) {
      const node = stack.pop()!;
      if (reached.has(node)) continue;
      reached.add(node);
      for (const child of node.below) stack.push(child);
    }
  };
  reach(roots);
  if (reached.size === known.size) return;
  for (const node of known.values()) {
    if (reached.has(node)) continue;
    const { below } = known.get(node.span.parentSpanId ?? "")!;
    below.splice(below.indexOf(node), 1);
    roots.push(node);
    reach([node]);
  }
}

/**
 * What the whole waited for: of the root that ended last, back from its end, the child that ended last,
 * then what ended last before that one began, and so on; of each of them the same.
 */
function markPath(roots: readonly Node[]): void {
  const latest = (nodes: readonly Node[]): Node[] => [...nodes].sort((a, b) => b.end - a.end);
  const waiting = latest(roots).slice(0, 1);
  while (waiting.length) {
    const node = waiting.pop()!;
    node.critical = true;
    let until = node.end;
    for (const child of latest(node.below)) {
      if (child.start > until || Math.min(child.end, node.end) > until) continue;
      waiting.push(child);
      until = child.start;
    }
  }
}

/** Stored spans and what was heard of them since; the same list where that says nothing new. */
export function withLive(stored: readonly Span[], heard: ReadonlyMap<string, Span>): readonly Span[] {
  if (!heard.size) return stored;
  const all = new Map(stored.map((span) => [span.id, span]));
  let news = false;
  for (const [id, span] of heard) {
    const known = all.get(id);
    if (known?.endTime) continue;
    news = true;
    all.set(id, !known || span.endTime ? span : { ...known, attributes: { ...known.attributes, ...span.attributes } });
  }
  return news ? [...all.values()] : stored;
}

/** Whether something that ended is not stored as ended yet: what it cost and why it failed is still to come. */
export function isBehind(stored: readonly Span[], heard: ReadonlyMap<string, Span>): boolean {
  let missing = 0;
  for (const span of heard.values()) if (span.endTime) missing++;
  for (const span of stored) if (missing && span.endTime && heard.get(span.id)?.endTime) missing--;
  return missing > 0;
}

export const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "");

const STEPS = [1, 2, 5, 10];

/** Times of an axis, in ms from its begin: three to six, round ones, the last within it. */
export function ticks(whole: number): number[] {
  let step = 10 ** Math.floor(Math.log10(whole / 3));
  for (const by of STEPS) if (whole / (step * by) <= 5.5) { step *= by; break; }
  return Array.from({ length: Math.floor(whole / step + 1e-9) + 1 }, (_, i) => i * step);
}
