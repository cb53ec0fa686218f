// Spans by OTLP/JSON over HTTP: what OpenTelemetry's SDK sends, in fifty lines and with nothing
// installed. The endpoint and whose spans these are stand in variables that Spanyard sets.

import { randomBytes } from "node:crypto";

const endpoint = process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
const INTERNAL = 1;
const SERVER = 2;
const OK = 1;
const ERROR = 2;

let waiting = [];
let timer = null;
let sending = Promise.resolve();
export const counts = { sent: 0, dropped: 0 };

export function startSpan(name, { parent = null, attributes = {} } = {}) {
  return {
    traceId: parent ? parent.traceId : randomBytes(16).toString("hex"),
    spanId: randomBytes(8).toString("hex"),
    parentSpanId: parent ? parent.spanId : "",
    name,
    kind: parent ? INTERNAL : SERVER,
    startTimeUnixNano: now(),
    attributes: { ...attributes },
  };
}

export function endSpan(span, error = null) {
  const { attributes, ...rest } = span;
  waiting.push({
    ...rest,
    endTimeUnixNano: now(),
    attributes: keyValues(attributes),
    status: error ? { code: ERROR, message: String(error.message ?? error) } : { code: OK },
  });
  if (waiting.length >= 200) flush();
  else timer ??= setTimeout(flush, 500);
}

// Sends what waits; resolves when all that was handed over is stored by the collector.
export function flush() {
  clearTimeout(timer);
  timer = null;
  const spans = waiting;
  waiting = [];
  if (spans.length > 0) sending = sending.then(() => send(spans));
  return sending;
}

async function send(spans) {
  if (!endpoint) return; // run by hand: nobody listens
  const body = JSON.stringify({
    resourceSpans: [{ resource: { attributes: resource() }, scopeSpans: [{ spans }] }],
  });
  for (const delay of [0, 200, 1000, 3000]) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    try {
      const response = await fetch(`${endpoint}/v1/traces`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
        signal: AbortSignal.timeout(10_000),
      });
      await response.arrayBuffer();
      if (response.ok) {
        counts.sent += spans.length;
        return;
      }
      if (response.status < 500 && response.status !== 429) break; // it will not like it later either
    } catch {
      // The collector is being started again: the next try.
    }
  }
  counts.dropped += spans.length;
  console.error(JSON.stringify({ level: "warn", message: "spans dropped", spans: spans.length }));
}

function resource() {
  const pairs = (process.env.OTEL_RESOURCE_ATTRIBUTES ?? "").split(",").filter(Boolean);
  const named = Object.fromEntries(pairs.map((pair) => pair.split("=", 2)));
  return keyValues({ ...named, "service.name": process.env.OTEL_SERVICE_NAME ?? "node-server" });
}

function keyValues(attributes) {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value: Number.isInteger(value) ? { intValue: String(value) } : { stringValue: String(value) },
  }));
}

function now() {
  return String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n);
}
