"""OTLP: spans per CPU-second of the receiver, acknowledged durable.

    python -m benchmarks.otlp [--spans 200000] [--directory DIR]

Method: the receiver runs as a process of its own on real files and loopback HTTP; a client with
eight connections sends requests that were encoded before, each with other ids, and waits for each
answer (200, that is: after the fsync). CPU seconds are user and system time of the server process
from "serving" to its end (`wait4`), so the client's share does not count. Spans have eight
attributes. The goal is 20,000 spans per CPU-second.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

CONNECTIONS = 8
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    per_request: int
    json: bool = False
    gzip: bool = False

    @property
    def headers(self) -> dict[str, str]:
        headers = JSON if self.json else PROTOBUF
        return headers | {"Content-Encoding": "gzip"} if self.gzip else headers


CASES = (
    Case("protobuf, 400 spans per request", 400),
    Case("protobuf, gzip, 400 spans", 400, gzip=True),
    Case("JSON, 400 spans", 400, json=True),
    Case("protobuf, 20 spans", 20),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to."""

    spans: int
    cpu: float
    wall: float
    latencies: Sequence[float]
    peak_mb: float

    def row(self, name: str) -> str:
        cuts = quantiles(self.latencies, n=100)
        return (
            f"{name:<34}{self.spans / self.cpu:>14,.0f}{self.spans / self.wall:>12,.0f}"
            f"{cuts[49] * 1000:>9.1f}{cuts[98] * 1000:>9.1f}{self.peak_mb:>9.0f}"
        )


HEADING = (
    f"{'OTLP receiver':<34}{'spans/CPU-s':>14}{'spans/s':>12}"
    f"{'p50 ms':>9}{'p99 ms':>9}{'peak MB':>9}"
)


def request_body(case: Case, rng: random.Random) -> bytes:
    """A request as an agent's SDK sends it: one resource, one scope, eight attributes per span."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )

    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _set(group.resource.attributes.add(), "service.name", "support-agent")
    _set(group.resource.attributes.add(), "service.version", "1.4.2")
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = "agent.loop", "0.3"
    trace_id = rng.randbytes(16)
    for i in range(case.per_request):
        span = scope.spans.add()
        span.trace_id, span.span_id, span.parent_span_id = trace_id, rng.randbytes(8), b"\1" * 8
        span.name, span.kind = "chat gpt-4o", 3
        span.start_time_unix_nano = 1_795_000_000_000_000_000 + i * 1_234_567
        span.end_time_unix_nano = span.start_time_unix_nano + 345_678_901
        span.status.code = 1
        attributes: tuple[tuple[str, object], ...] = (
            ("gen_ai.system", "openai"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "gpt-4o"),
            ("server.address", "api.example.com"),
            ("gen_ai.usage.input_tokens", rng.randrange(8000)),
            ("gen_ai.usage.output_tokens", rng.randrange(2000)),
            ("cost.usd", rng.random()),
            ("stream", True),
        )
        for name, value in attributes:
            _set(span.attributes.add(), name, value)
    body = _json(request) if case.json else request.SerializeToString()
    return gzip.compress(body, 6) if case.gzip else body


def _set(pair: Any, key: str, value: object) -> None:
    pair.key = key
    if isinstance(value, bool):
        pair.value.bool_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    elif isinstance(value, float):
        pair.value.double_value = value
    else:
        pair.value.string_value = value


def _json(request: Any) -> bytes:
    import base64

    from google.protobuf.json_format import MessageToDict

    plain = MessageToDict(request, use_integers_for_enums=True)
    for group in plain["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(plain).encode()


def send_all(port: int, bodies: Sequence[bytes], headers: dict[str, str]) -> list[float]:
    """Send over one connection; the latency of each answer in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    latencies = []
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", "/v1/traces", body, headers)
        response = connection.getresponse()
        response.read()
        latencies.append(time.perf_counter() - start)
        if response.status != 200:
            raise RuntimeError(f"the receiver answered {response.status}")
    connection.close()
    return latencies


def peak_mb(pid: int) -> float:
    """Peak memory of a living process; NaN where the system has no /proc."""
    # Not ru_maxrss of wait4: that begins with the size of the process that forked it.
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return float("nan")
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return int(kilobytes) * 1024 / 1e6


def measure(case: Case, spans: int, directory: Path) -> Result:
    """Run one case with a fresh server."""
    rng = random.Random(1)
    count = max(CONNECTIONS, spans // case.per_request)
    bodies = [request_body(case, rng) for _ in range(count)]
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.otlp", "--serve", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url, cpu_before = server.stdout.readline().split()
    port = int(url.rsplit(":", 1)[1])
    start = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [bodies[i::CONNECTIONS] for i in range(CONNECTIONS)]
        sent = list(pool.map(lambda share: send_all(port, share, case.headers), shares))
    wall = time.perf_counter() - start
    peak = peak_mb(server.pid)
    server.send_signal(signal.SIGKILL)
    _, _, usage = os.wait4(server.pid, 0)
    server.returncode = 0
    server.stdout.close()
    cpu = usage.ru_utime + usage.ru_stime - float(cpu_before)
    return Result(
        count * case.per_request,
        cpu,
        wall,
        [latency for share in sent for latency in share],
        peak,
    )


def serve(directory: str) -> None:
    """The server process: the receiver and a reader that gives segments back."""
    import asyncio

    from aiohttp import web

    from spanyard_core.clock import SystemClock
    from spanyard_core.files import SystemFiles
    from spanyard_core.serve import serving
    from spanyard_sidecar.budget import DiskBudget
    from spanyard_sidecar.model import Identity
    from spanyard_sidecar.otlp.log import OtlpLog
    from spanyard_sidecar.otlp.receiver import Receiver
    from spanyard_sidecar.otlp.server import otlp_routes
    from spanyard_sidecar.otlp.source import OtlpSources

    async def run() -> None:
        log = await OtlpLog.open(
            SystemFiles(),
            SystemClock(),
            directory,
            identity=Identity(project="default.agent", pod="agent-0", pod_uid="u" * 36),
            epoch="abcdefgh",
            budget=DiskBudget(1 << 30),
        )
        sources = OtlpSources(log)
        reading = []

        def read_on() -> None:
            reading.extend(sources.scan({}, "abcdefgh"))
            for source in reading:
                while source.read(128 * 1024) is not None:
                    pass
                source.stored(source.state())

        log.on_durable.append(read_on)
        app = web.Application()
        app.add_routes(otlp_routes(Receiver(log, SystemClock())))
        async with serving(app, "127.0.0.1", 0, auto_decompress=False) as address:
            print(address.url, time.process_time(), flush=True)
            await log.run()

    asyncio.run(run())


def table(spans: int, directory: Path) -> str:
    """The table of `docs/benchmarks.md`."""
    rows = []
    for i, case in enumerate(CASES):
        rows.append(measure(case, spans, directory / str(i)).row(case.name))
    return "\n".join([HEADING, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--directory", help="on the disk to be measured (default: temporary)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        print(table(options.spans, Path(directory)))


if __name__ == "__main__":
    main()
