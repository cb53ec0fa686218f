// A server of node:http alone. It prints JSON lines and sends a span for each request.
//
//   GET /health      {"status":"ok"}
//   GET /roll?dice=2 throws dice; dice=0 is an error
//   GET /emitted     how many lines it printed and spans it sent

import { createServer } from "node:http";
import { counts, endSpan, flush, startSpan } from "./otlp.mjs";

const port = Number(process.env.PORT ?? 8080);
const host = process.env.HOST ?? "127.0.0.1";
let lines = 0;

function log(level, message, fields = {}) {
  lines += 1;
  const line = JSON.stringify({ level, message, ...fields });
  (level === "error" ? process.stderr : process.stdout).write(line + "\n");
}

function roll(span, dice) {
  if (!Number.isInteger(dice) || dice < 1 || dice > 100) {
    throw new RangeError(`dice is ${dice}; it is a whole number from 1 to 100`);
  }
  const thrown = [];
  for (let n = 0; n < dice; n += 1) {
    const one = startSpan("throw", { parent: span, attributes: { "die.number": n + 1 } });
    thrown.push(1 + Math.floor(Math.random() * 6));
    one.attributes["die.value"] = thrown[n];
    endSpan(one);
  }
  return thrown;
}

function answer(response, status, body) {
  const data = JSON.stringify(body) + "\n";
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(data),
  });
  response.end(data);
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://server");
  if (url.pathname === "/health") return answer(response, 200, { status: "ok" });
  if (url.pathname === "/emitted") return answer(response, 200, { lines, ...counts });
  if (url.pathname !== "/roll") {
    return answer(response, 404, { error: `there is nothing at ${url.pathname}` });
  }
  const span = startSpan("GET /roll", {
    attributes: { "http.request.method": "GET", "url.path": url.pathname },
  });
  const ids = { traceId: span.traceId, spanId: span.spanId };
  try {
    const thrown = roll(span, Number(url.searchParams.get("dice") ?? 1));
    span.attributes["http.response.status_code"] = 200;
    endSpan(span);
    log("info", `threw ${thrown.join(", ")}`, { ...ids, dice: thrown.length });
    return answer(response, 200, { thrown, traceId: span.traceId });
  } catch (error) {
    span.attributes["http.response.status_code"] = 400;
    endSpan(span, error);
    log("error", error.message, ids);
    return answer(response, 400, { error: error.message, traceId: span.traceId });
  }
});

server.on("error", (error) => {
  log("fatal", `cannot listen on ${host}:${port}: ${error.code}`);
  process.exit(1);
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    log("info", "stops: open requests are answered, spans are sent");
    server.close(async () => {
      await flush();
      process.exit(0);
    });
    server.closeIdleConnections();
  });
}

server.listen(port, host, () => log("info", `listens on port ${port}`));
