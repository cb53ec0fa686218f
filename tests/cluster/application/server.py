"""What tests deploy: it answers, says what it is told to say, and ends when it is told to.

With the standard library and Spanyard's SDK alone; the SDK lies beside it, its one dependency is
installed by the build.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import spanyard

requests = spanyard.metrics.counter("requests", unit="{request}")
speaking = threading.Lock()


def work(query: dict[str, str]) -> str:
    """One request as an agent would serve it: a trace with a span, a line, a metric."""
    with (
        spanyard.trace("request", input=query["id"]),
        spanyard.span("work", attributes={"id": query["id"]}),
    ):
        spanyard.log.info(f"logged {query['id']}")
        print(f"printed {query['id']}", flush=True)
        requests.add(1, {"id": query["id"]})
    return "done"


def ask(query: dict[str, str]) -> str:
    """A question to a model that takes `ms`, costs `tokens`, is judged by `score`, may `fail`."""
    about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "small"}
    tokens = {"gen_ai.usage.input_tokens": int(query["tokens"]), "gen_ai.usage.output_tokens": 7}
    with (
        contextlib.suppress(LookupError),
        spanyard.trace("ask", input=query["id"]),
        spanyard.span("chat", attributes=about) as span,
    ):
        time.sleep(int(query["ms"]) / 1000)
        span.set(tokens)
        spanyard.score("helpful", float(query["score"]))
        if query["fail"] == "yes":
            spanyard.log.error(f"no answer to {query['id']}")
            raise LookupError("the model refused")
    return "done"


def flood(query: dict[str, str]) -> str:
    """Numbered lines, as fast as the pipe takes them."""
    mark, filler = query["mark"], "x" * int(query.get("size", "80"))
    with speaking:
        for number in range(int(query["from"]), int(query["to"])):
            sys.stdout.write(f"{mark} {number} {filler}\n")
        sys.stdout.flush()
    return "done"


def leave(query: dict[str, str]) -> str:
    """End at once, after some last lines."""
    for number in range(int(query.get("lines", "0"))):
        sys.stdout.write(f"last words {number}\n")
    sys.stdout.flush()
    os._exit(int(query["code"]))


ACTIONS = {"/work": work, "/ask": ask, "/flood": flood, "/leave": leave, "/health": lambda _: "ok"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        action = ACTIONS.get(parts.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        body = action(query).encode() if action else b"no such thing"
        self.send_response(200 if action else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    server = ThreadingHTTPServer(address, Handler)

    def end(*_: object) -> None:
        print("told to end", flush=True)
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    print(f"serving on {address[0]}:{address[1]}", flush=True)
    server.serve_forever()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
