/** What was said in a model call: messages, what is new in them, and how to ask the same again. Pure. */
import type { Span } from "./api";
import { ms } from "./format";
import { kindOf, text } from "./spans";

export interface Said {
  role: string;
  text: string;
  thinking: string;
  calls: { id: string; name: string; arguments: string }[];
  /** Of a tool: which call it answers. */
  answers: string;
  /** Pictures and files: a link where there is one, else what is known of them. */
  files: { link: string; about: string }[];
}

const said = (role: string, text = ""): Said => ({ role, text, thinking: "", calls: [], answers: "", files: [] });

/** The messages of a model call's attribute: OpenTelemetry's form, or plain role and content. */
export function messages(value: unknown): Said[] {
  let parsed: unknown = value;
  if (typeof value === "string") {
    try {
      parsed = JSON.parse(value);
    } catch {
      return value ? [said("", value)] : [];
    }
  }
  if (!Array.isArray(parsed)) return [];
  return parsed.map((message: unknown) => (typeof message === "object" && message !== null ? one(message as Record<string, unknown>) : said("", text(message))));
}

function one(message: Record<string, unknown>): Said {
  const found = said(String(message["role"] ?? ""));
  const parts = message["parts"] ?? message["content"];
  if (typeof parts === "string") found.text = parts;
  else if (Array.isArray(parts)) for (const part of parts as unknown[]) take(found, (typeof part === "object" && part !== null ? part : { text: part }) as Record<string, unknown>);
  if (Array.isArray(message["tool_calls"])) for (const call of message["tool_calls"] as Record<string, unknown>[]) take(found, { ...call, ...(call["function"] as object | undefined), type: "tool_call" });
  if (message["tool_call_id"]) found.answers = String(message["tool_call_id"]);
  return found;
}

function take(found: Said, part: Record<string, unknown>): void {
  const type = String(part["type"] ?? "");
  if (/^tool[-_](call|use)$/.test(type)) {
    found.calls.push({ id: String(part["id"] ?? part["toolCallId"] ?? ""), name: String(part["name"] ?? part["toolName"] ?? "tool"), arguments: text(part["arguments"] ?? part["args"] ?? part["input"] ?? "") });
    return;
  }
  if (/reasoning|thinking/.test(type)) {
    found.thinking += (found.thinking ? "\n" : "") + text(part["content"] ?? part["thinking"] ?? part["text"] ?? "");
    return;
  }
  if (/image|audio|video|blob|file|uri/.test(type)) {
    found.files.push(file(part, type));
    return;
  }
  if (part["id"] && /tool/.test(type)) found.answers = String(part["id"]);
  found.text += (found.text ? "\n" : "") + text(part["content"] ?? part["text"] ?? part["response"] ?? part["result"] ?? "");
}

function file(part: Record<string, unknown>, type: string): Said["files"][number] {
  const nested = part["image_url"] ?? part["uri"] ?? part["url"] ?? part["image"] ?? part["source"] ?? "";
  const link = typeof nested === "object" && nested !== null ? String((nested as Record<string, unknown>)["url"] ?? "") : String(nested);
  const data = String(part["content"] ?? part["data"] ?? (link.startsWith("data:") ? link : ""));
  const kind = String(part["mime_type"] ?? part["mimeType"] ?? part["modality"] ?? (/^data:([^;,]+)/.exec(link)?.[1] ?? type));
  return { link: /^https?:\/\//i.test(link) ? link : "", about: data ? `${kind}, ${Math.ceil((data.length * 3) / 4000).toLocaleString("en")} kB in the record` : `${kind} ${/^https?:/i.test(link) ? "" : link.slice(0, 200)}`.trim() };
}

const attribute = (span: Span, ...names: string[]): unknown => names.map((name) => span.attributes?.[name]).find((value) => value !== undefined);

export const inputOf = (span: Span): Said[] => messages(attribute(span, "gen_ai.input.messages", "gen_ai.prompt", "input"));
export const outputOf = (span: Span): Said[] => messages(attribute(span, "gen_ai.output.messages", "gen_ai.completion", "output"));

const MOST_EARLIER = 20;

/** The model calls before this one, the latest first: those among which the one is that it goes on from. */
export function earlier(span: Span, spans: readonly Span[]): Span[] {
  const start = ms(span.startTime);
  const found = spans.filter((other) => other.id !== span.id && kindOf(other) === "model" && ms(other.startTime) < start);
  return found.sort((a, b) => ms(b.startTime) - ms(a.startTime)).slice(0, MOST_EARLIER);
}

/** How many of a call's messages were said before: those of the latest earlier call that it begins with. */
export function told(span: Span, spans: readonly Span[]): number {
  const now = inputOf(span).map((m) => JSON.stringify(m));
  if (now.length < 2) return 0;
  for (const other of earlier(span, spans)) {
    const before = [...inputOf(other), ...outputOf(other)].map((m) => JSON.stringify(m));
    let same = 0;
    while (same < before.length && same < now.length - 1 && before[same] === now[same]) same++;
    if (same >= Math.min(before.length, inputOf(other).length) && same > 0) return same;
  }
  return 0;
}

/** The call as JSON in the form that most providers take. */
export function asJson(span: Span): Record<string, unknown> {
  const body: Record<string, unknown> = { model: attribute(span, "gen_ai.request.model", "gen_ai.response.model") ?? span.model ?? "" };
  const system = attribute(span, "gen_ai.system_instructions");
  const instructions = messages(Array.isArray(system) ? [{ role: "system", parts: system }] : system);
  body["messages"] = [...instructions, ...inputOf(span)].map((m) => ({
    role: m.role || "user",
    content: m.text,
    ...(m.calls.length ? { tool_calls: m.calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } })) } : {}),
    ...(m.answers ? { tool_call_id: m.answers } : {}),
  }));
  for (const [name, told] of [["temperature", "gen_ai.request.temperature"], ["top_p", "gen_ai.request.top_p"], ["max_tokens", "gen_ai.request.max_tokens"]] as const) {
    const value = Number(attribute(span, told) ?? NaN);
    if (!Number.isNaN(value)) body[name] = value;
  }
  const tools = attribute(span, "gen_ai.tool.definitions");
  if (tools !== undefined) {
    try {
      body["tools"] = typeof tools === "string" ? JSON.parse(tools) : tools;
    } catch {
      // tools that are no JSON cannot be sent again
    }
  }
  return body;
}

const quoted = (text: string): string => `'${text.replace(/'/g, "'\\''")}'`;

/** A command that asks the model the same again; address and key are the reader's. */
export function asCurl(span: Span): string {
  const provider = String(attribute(span, "gen_ai.provider.name", "gen_ai.system") ?? "");
  const anthropic = provider === "anthropic";
  const url = anthropic ? "https://api.anthropic.com/v1/messages" : provider === "openai" ? "https://api.openai.com/v1/chat/completions" : "$MODEL_URL/v1/chat/completions";
  const body = asJson(span);
  if (anthropic) {
    const all = body["messages"] as { role: string; content: string }[];
    const system = all.filter((m) => m.role === "system").map((m) => m.content);
    if (system.length) body["system"] = system.join("\n");
    body["messages"] = all.filter((m) => m.role !== "system");
    body["max_tokens"] ??= 1024;
  }
  const key = anthropic ? `-H "x-api-key: $API_KEY" -H "anthropic-version: 2023-06-01"` : `-H "Authorization: Bearer $API_KEY"`;
  return `curl "${url}" ${key} -H "Content-Type: application/json" -d ${quoted(JSON.stringify(body))}`;
}
