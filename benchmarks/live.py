"""Live streams: from a line's write to its arrival on sockets; memory per subscriber.

    python -m benchmarks.live [--rate 5000] [--subscribers 100] [--many 5000] [--seconds 15]

Method: `spanyard up` runs a server that prints lines with the time at which it prints them (50 lines
every 10 ms at 5,000 lines/s, flushed), through pipe, shim, log file, collector, hub and gateway as
always. Another process listens with all subscribers and takes, of every message that arrives, the
time since its *first* line was printed: the worst of the message. Both share the machine. CPU is
that of the `up` process (collector, ingester, ClickHouse and gateway in one) while the measurement
runs: its first thread, which is Python's loop, and all others. For the many, lines come at 20/s, and
memory is the growth of the process's resident set from none to all of them.

"Apart" is the gateway in a process of its own, as in a cluster: it listens to the `/live` of another
process, where lines come into the ring; CPU and memory are the gateway's.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.open_files import allow_many

HEAD = """
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
rate = [int(os.environ["RATE"])]
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/rate/"):
            rate[0] = int(self.path.rpartition("/")[2])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
"""Of a server that is told over HTTP how much it has to do in a second."""
SERVER = (
    HEAD
    + """
began, at = time.monotonic(), 0
while True:
    step = 0.01 if rate[0] >= 1000 else 0.05
    count = max(1, int(rate[0] * step))
    sys.stdout.write("".join(f"t={time.time_ns()} a line of some length {i} {'x' * 60}\\n" for i in range(count)))
    sys.stdout.flush()
    time.sleep(step)
"""
)
YAML = """
apiVersion: spanyard.dev/v1alpha1
kind: Project
metadata: {name: live}
---
apiVersion: spanyard.dev/v1alpha1
kind: Build
metadata: {name: live-1}
spec:
  project: live
  source: {directory: {path: .}}
---
apiVersion: spanyard.dev/v1alpha1
kind: Deployment
metadata: {name: live}
spec:
  project: live
  buildRef: {name: live-1}
  command: python3 server.py
  env: [{name: RATE, value: "20"}]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    latencies: list[float]
    seconds: float
    loop: float
    others: float
    """CPU seconds."""
    memory_kb: float
    subscribed: float
    """Seconds until all had subscribed."""
    lost: int
    """Messages that told of dropped records, and broken connections."""

    def text(self) -> str:
        cuts = quantiles(self.latencies, n=100)
        return (
            f"{self.name:<46}{cuts[49]:>9.1f}{cuts[94]:>9.1f}{cuts[98]:>9.1f}"
            f"{max(self.latencies):>9.1f}{len(self.latencies) / self.seconds:>12,.0f}"
            f"{self.loop / self.seconds * 100:>8.0f}{self.others / self.seconds * 100:>8.0f}"
            f"{self.loop / len(self.latencies) * 1e6:>9.0f}{self.memory_kb:>12.1f}"
            f"{self.subscribed:>11.1f}{self.lost:>6}"
        )


HEADING = (
    f"{'write → socket':<46}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}"
    f"{'messages/s':>12}{'loop %':>8}{'other %':>8}{'µs/mess.':>9}{'kB/listener':>12}"
    f"{'all in s':>11}{'lost':>6}"
)


def _cpu(pid: int) -> tuple[float, float]:
    """Seconds of the first thread, and of all others."""

    def seconds(path: str) -> float:
        fields = Path(path).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    first = seconds(f"/proc/{pid}/task/{pid}/stat")
    return first, seconds(f"/proc/{pid}/stat") - first


def resident_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found
    return int(found[1])


def measure(name: str, url: str, pid: int, subscribers: int, seconds: float) -> Row:
    """One row."""
    before = resident_kb(pid)
    with _process(
        "benchmarks.live_listener", url, "server:local.live", str(subscribers), str(seconds)
    ) as listener:
        ready = _answer(listener)
        time.sleep(2)
        memory = (resident_kb(pid) - before) / subscribers
        loop, others = _cpu(pid)
        _tell(listener, "")
        result = _answer(listener)
        now = _cpu(pid)
    return Row(
        name, result["latencies"], seconds, now[0] - loop, now[1] - others, memory,
        ready["subscribed_s"], result["dropped"] + result["broken"],
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Live streams: latency and memory.")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--many", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--only", choices=["up", "apart"], help="one half of the table")
    options = parser.parse_args()
    allow_many()
    print(HEADING)
    if options.only != "apart":
        with running_up() as (url, pid, rate):
            _rows("", url, pid, rate, options)
    if options.only != "up":
        with (
            _process("benchmarks.live_apart", "collector") as collector,
            _process("benchmarks.live_apart", "gateway", _answer(collector)["url"]) as gateway,
        ):
            url = _answer(gateway)["url"].replace("http", "ws", 1) + "/ws"
            _rows("apart: ", url, gateway.pid, lambda n: _tell(collector, str(n)), options)


def _rows(
    where: str, url: str, pid: int, rate: Callable[[int], None], options: argparse.Namespace
) -> None:
    few, many = options.subscribers, options.many
    for lines, subscribers in ((options.rate, 1), (options.rate, few), (20, many)):
        rate(lines)
        time.sleep(2)
        name = f"{where}{lines:,} lines/s, {subscribers:,} listeners"
        print(measure(name, url, pid, subscribers, options.seconds).text(), flush=True)


@contextlib.contextmanager
def _process(*command: str) -> "Iterator[subprocess.Popen[str]]":
    """A part of the benchmark that ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a part of the benchmark ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def running_up(server: str = SERVER) -> Iterator[tuple[str, int, Callable[[int], None]]]:
    """`spanyard up`: address of `/ws`, process id, and what sets the lines per second."""
    with tempfile.TemporaryDirectory(prefix="spanyard-bench-live-") as folder:
        place = Path(folder)
        (place / "app").mkdir()
        (place / "app" / "server.py").write_text(server, "utf-8")
        (place / "app" / "spanyard.yaml").write_text(YAML, "utf-8")
        with (place / "errors").open("w") as errors:
            up = subprocess.Popen(
                [sys.executable, "-m", "spanyard_local", "up", str(place / "app"), "-o", "json",
                 "--quiet", "--data", str(place / "data"), "--port", "0", "--clickhouse-port", "0",
                 "--build-dir", str(place / "builds")],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        reading: threading.Thread | None = None
        try:
            assert up.stdout
            address = ""
            for line in up.stdout:
                event = json.loads(line)
                if event["event"] == "deployment" and event["status"].get("reason") == "Serving":
                    address = event["status"]["endpoint"]
                    break
            # What it prints has to be read, until its end.
            reading = threading.Thread(target=up.stdout.read, name="output of `spanyard up`")
            reading.start()
            about = json.loads((place / "data" / "server.json").read_text())

            def rate(lines: int) -> None:
                urllib.request.urlopen(f"{address}/rate/{lines}", timeout=10).close()

            yield about["url"].replace("http", "ws", 1) + "/ws", up.pid, rate
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.wait(60)
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()
            if reading is not None:
                reading.join()
            if up.stdout:
                up.stdout.close()


if __name__ == "__main__":
    main()
