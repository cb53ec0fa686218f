"""The order service: a small HTTP server that the agent asks, instrumented by OpenTelemetry.

With `OTEL_EXPORTER_OTLP_ENDPOINT` set and the OpenTelemetry SDK installed it sends spans, logs and
metrics by OTLP/HTTP, in the trace of the agent's tool call. Else it works just so.
"""

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATES = ("being packed", "on its way", "delivered", "waiting for the supplier")


class Orders:
    """What the shop knows about orders: made up, the same for the same number and seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def state(self, order: str) -> str:
        """How far an order is. Raises LookupError at the first question about some of them."""
        rng = random.Random(f"{self._seed}/{order}")
        with self._lock:
            self._asked[order] += 1
            first = self._asked[order] == 1
        time.sleep(rng.uniform(0, 0.004))
        if first and rng.random() < 0.35:
            raise LookupError(f"the shard of order {order} is restarting")
        return rng.choice(STATES)


class Telemetry:
    """Does nothing; counts nothing. What the service has without OpenTelemetry."""

    @contextlib.contextmanager
    def request(self, path: str, headers: Mapping[str, str]) -> Iterator[None]:
        """Around each request."""
        yield

    def emitted(self) -> dict[str, int]:
        """Signal → records that were sent and acknowledged."""
        return {"spans": 0, "logs": 0, "metrics": 0}

    def flush(self) -> None:
        """Send what waits."""

    def close(self) -> None:
        """Send what waits, and end."""


def telemetry() -> Telemetry:
    """By OpenTelemetry where there is an endpoint and the SDK, else nothing."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return Telemetry()
    try:
        from support_agent.otel import OpenTelemetry
    except ImportError:
        return Telemetry()
    return OpenTelemetry("order-service")


def order_server(orders: Orders, instruments: Telemetry) -> ThreadingHTTPServer:
    """The server, bound to a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            order = self.path.removeprefix("/orders/")
            try:
                with instruments.request("/orders/{order}", dict(self.headers.items())):
                    status, body = 200, {"order": order, "state": orders.state(order)}
            except LookupError as error:
                status, body = 503, {"error": str(error)}
            self._answer(status, body)

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            return  # each line that is printed is counted, so nobody else prints

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
