"""The HTTP server: `/ask`, `/burst`, `/emitted`, `/health`; ends orderly on SIGTERM."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import spanyard
from support_agent.agent import Agent
from support_agent.lines import Lines
from support_agent.model import Model, ModelError
from support_agent.orders import Orders, Telemetry, order_server, telemetry
from support_agent.tools import Tools

Number = TypeVar("Number", int, float)

MAX_BODY = 1 << 20
MAX_BURST = 1_000_000
MAX_LONG = 64 << 20


class BadRequestError(Exception):
    """What the client sent cannot be served; the text says why."""


class SupportAgent:
    """Everything behind the HTTP server."""

    def __init__(self, *, seed: int, pace: float) -> None:
        self.lines = Lines()
        self._instruments: Telemetry = telemetry()
        self._orders = order_server(Orders(seed), self._instruments)
        self._thread = threading.Thread(target=self._orders.serve_forever, name="order service")
        self._thread.start()
        model = Model(seed, pace)
        tools = Tools(model, f"http://127.0.0.1:{self._orders.server_port}")
        self._agent = Agent(model, tools, self.lines)

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """`{"question": …, "conversation": …, "long_line": bytes}` → the answer."""
        question = body.get("question")
        if not isinstance(question, str) or not question.strip():
            raise BadRequestError('say {"question": "…"}')
        answer = self._agent.ask(
            question,
            str(body.get("conversation") or uuid.uuid4().hex[:12]),
            long_bytes=_number(body, "long_line", 0, MAX_LONG),
        )
        return {
            "answer": answer.text,
            "traceId": answer.trace_id,
            "tools": answer.tools,
            "failed": answer.failed,
        }

    def burst(self, body: dict[str, Any]) -> dict[str, Any]:
        """`{"lines": n}`: print n lines as fast as possible, a third of them JSON."""
        count = _number(body, "lines", 1000, MAX_BURST)
        for start in range(0, count, 1000):
            self.lines.raw(
                json.dumps({"level": "debug", "msg": "burst", "n": n})
                if n % 3 == 0
                else f"burst line {n} of {count}"
                for n in range(start, min(start + 1000, count))
            )
        return {"lines": count}

    def emitted(self, *, flush: bool) -> dict[str, Any]:
        """Exact counts of everything emitted so far. With `flush`, OTLP is sent first."""
        if flush:
            self._instruments.flush()
        stats = spanyard.stats()
        return {
            "lines": self.lines.counts(),
            "spanFiles": {"enabled": stats.enabled, **stats.written},
            "dropped": stats.dropped,
            "otlp": self._instruments.emitted(),
        }

    def close(self) -> None:
        """End the order service, send what waits."""
        self._orders.shutdown()
        self._thread.join()
        self._orders.server_close()
        self._instruments.close()
        spanyard.shutdown()
        report = os.environ.get("SUPPORT_AGENT_EMITTED")
        if report:
            Path(report).write_text(json.dumps(self.emitted(flush=False)) + "\n", "utf-8")


def _number(body: dict[str, Any], name: str, default: int, most: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadRequestError(f"{name} is a number from 0 to {most}")
    return value


def http_server(agent: SupportAgent, host: str, port: int) -> ThreadingHTTPServer:
    """The server, bound but not yet serving."""
    connections: set[socket.socket] = set()

    class Server(ThreadingHTTPServer):
        # Requests under way are waited for at the end.
        daemon_threads = False

        def server_close(self) -> None:
            for connection in list(connections):
                # Who waits for a further request on it sees the end; an answer still goes out.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            super().server_close()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def setup(self) -> None:
            super().setup()
            connections.add(self.connection)

        def finish(self) -> None:
            connections.discard(self.connection)
            super().finish()

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/health":
                self._answer(200, {"status": "ok"})
            elif path == "/emitted":
                self._answer(200, agent.emitted(flush="flush=1" in query))
            else:
                self._answer(404, {"error": f"there is nothing at {path}"})

        def do_POST(self) -> None:
            action = {"/ask": agent.ask, "/burst": agent.burst}.get(self.path)
            try:
                body = self._body()
                if action is None:
                    self._answer(404, {"error": f"there is nothing at {self.path}"})
                else:
                    self._answer(200, action(body))
            except BadRequestError as error:
                self._answer(400, {"error": str(error)})
            except ModelError as error:
                self._answer(502, {"error": str(error), "traceId": error.trace_id})

        def _body(self) -> dict[str, Any]:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY:
                self.close_connection = True
                raise BadRequestError(f"the body needs a length of at most {MAX_BODY} bytes")
            try:
                body = json.loads(self.rfile.read(int(length)) or b"{}")
            except ValueError as error:
                raise BadRequestError(f"the body is not JSON: {error}") from error
            if not isinstance(body, dict):
                raise BadRequestError("the body is not a JSON object")
            return body

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            return  # each line that is printed is counted, so nobody else prints

    return Server((host, port), Handler)


def main() -> None:
    """Serve until SIGTERM or SIGINT. Variables: `PORT`, `HOST`, `SUPPORT_AGENT_SEED`,
    `SUPPORT_AGENT_PACE` (1 is a model of 4–30 ms, 0 an instant one), `SUPPORT_AGENT_EMITTED` (file
    for the final counts)."""
    host, port = os.environ.get("HOST", "127.0.0.1"), _variable("PORT", int, 8000)
    agent = SupportAgent(
        seed=_variable("SUPPORT_AGENT_SEED", int, 7),
        pace=_variable("SUPPORT_AGENT_PACE", float, 1.0),
    )
    with contextlib.ExitStack() as resources:
        resources.callback(agent.close)
        try:
            server = http_server(agent, host, port)
        except (OSError, OverflowError) as error:
            sys.exit(f"support agent: cannot listen on {host}:{port}: {error}; set HOST and PORT")
        resources.callback(agent.lines.plain, "INFO", "support agent stops")
        resources.callback(server.server_close)

        def stop(number: int, frame: object) -> None:
            # shutdown() waits for the loop, which runs in this very thread.
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        agent.lines.plain("INFO", f"support agent listens on port {server.server_port}")
        server.serve_forever()


def _variable(name: str, kind: Callable[[str], Number], default: Number) -> Number:
    text = os.environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError:
        sys.exit(f"support agent: {name} is {text!r}, not a number")
