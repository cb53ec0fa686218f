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
  const critical = path(below, now);
  const nodes: Node[] = [];
  const seen = new Set<string>();
  const stack = [...(below.get("") ?? [])].reverse().map((span) => ({ span, depth: 0 }));
  while (stack.length) {
    const { span, depth } = stack.pop()!;
    if (seen.has(span.id)) continue;
    seen.add(span.id);
    const children = below.get(span.id) ?? [];
    nodes.push({
      span,
      depth,
      children: children.length,
      start: times.get(span.id)!,
      end: span.endTime ? ms(span.endTime) : now,
      kind: kindOf(span),
      critical: critical.has(span.id),
    });
    if (!folded.has(span.id)) for (let i = children.length - 1; i >= 0; i--) stack.push({ span: children[i]!, depth: depth + 1 });
  }
  return nodes;
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

/** From the root down, always the child that ended last: what the whole waited for. */
function path(below: Map<string, Span[]>, now: number): Set<string> {
  const found = new Set<string>();
  const end = (span: Span): number => (span.endTime ? ms(span.endTime) : now);
  let level = below.get("") ?? [];
  while (level.length) {
    const last = level.reduce((a, b) => (end(b) > end(a) ? b : a));
    if (found.has(last.id)) break;
    found.add(last.id);
    level = below.get(last.id) ?? [];
  }
  return found;
}

export interface Said {
  role: string;
  text: string;
  calls: { name: string; arguments: string }[];
}

/** The messages of a model call's attribute: OpenTelemetry's form, or plain role and content. */
export function messages(value: unknown): Said[] {
  let parsed: unknown = value;
  if (typeof value === "string") {
    try {
      parsed = JSON.parse(value);
    } catch {
      return value ? [{ role: "", text: value, calls: [] }] : [];
    }
  }
  if (!Array.isArray(parsed)) return [];
  return parsed.map((message: unknown) =>
    typeof message === "object" && message !== null ? said(message as Record<string, unknown>) : { role: "", text: text(message), calls: [] },
  );
}

function said(message: Record<string, unknown>): Said {
  const found: Said = { role: String(message["role"] ?? ""), text: "", calls: [] };
  const parts = message["parts"] ?? message["content"];
  if (typeof parts === "string") found.text = parts;
  else if (Array.isArray(parts)) {
    for (const part of parts as unknown[]) {
      const raw = (typeof part === "object" && part !== null ? part : { text: part }) as Record<string, unknown>;
      if (raw["type"] === "tool_call" || raw["type"] === "tool-call")
        found.calls.push({ name: String(raw["name"] ?? raw["toolName"] ?? "tool"), arguments: text(raw["arguments"] ?? raw["args"]) });
      else found.text += (found.text ? "\n" : "") + text(raw["content"] ?? raw["text"] ?? raw["response"] ?? raw["result"] ?? "");
    }
  }
  return found;
}

export const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "");
