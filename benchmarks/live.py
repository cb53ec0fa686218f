"""Live streams: from a line's write to its arrival on sockets; memory per subscriber.

    python -m benchmarks.live [--rate 5000] [--subscribers 100] [--many 5000] [--seconds 15]

Method: `spanyard up` runs a server that prints lines with the time at which it prints them (50 lines
every 10 ms at 5,000 lines/s, flushed), through pipe, shim, log file, collector, hub and gateway as
always. Another process listens with all subscribers and takes, of every message that arrives, the
time since its *first* line was printed: the worst of the message. Both share the machine. CPU
seconds are those of the `up` process (collector, ingester, ClickHouse and gateway in one) while the
measurement runs. For the many, lines come at 20/s, and memory is the growth of the process's
resident set from none to all of them.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

PRINTED = re.compile(r"t=(\d+)")
SERVER = """
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
began, at = time.monotonic(), 0
while True:
    step = 0.01 if rate[0] >= 1000 else 0.05
    count = max(1, int(rate[0] * step))
    sys.stdout.write("".join(f"t={time.time_ns()} a line of some length {i} {'x' * 60}\\n" for i in range(count)))
    sys.stdout.flush()
    time.sleep(step)
"""
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
    messages: int
    cpu: float
    seconds: float
    memory_kb: float

    def text(self) -> str:
        cuts = quantiles(self.latencies, n=100)
        return (
            f"{self.name:<44}{cuts[49]:>9.1f}{cuts[94]:>9.1f}{cuts[98]:>9.1f}"
            f"{max(self.latencies):>9.1f}{self.messages / self.seconds:>12,.0f}"
            f"{self.cpu / self.seconds * 100:>8.0f}{self.memory_kb:>12.1f}"
        )


HEADING = (
    f"{'write → socket':<44}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}"
    f"{'messages/s':>12}{'CPU %':>8}{'kB/listener':>12}"
)


async def listen(url: str, subscribers: int, seconds: float) -> dict[str, object]:
    """Subscribe with all, then measure; runs in a process of its own."""
    import aiohttp

    wish = json.dumps({"type": "subscribe", "id": "a", "channel": "server:local.live"})
    latencies: list[float] = []
    measuring = asyncio.Event()
    counted = 0

    async def one(session: aiohttp.ClientSession, ready: asyncio.Queue[None]) -> None:
        nonlocal counted
        async with session.ws_connect(url, max_msg_size=0) as socket:
            await socket.send_str(wish)
            async for message in socket:
                now = time.time_ns()
                data: str = message.data
                if data.startswith('{"type":"live"'):
                    ready.put_nowait(None)
                elif measuring.is_set() and (found := PRINTED.search(data)):
                    counted += 1
                    latencies.append((now - int(found[1])) / 1e6)

    ready: asyncio.Queue[None] = asyncio.Queue()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        tasks = []
        for start in range(0, subscribers, 50):
            count = min(50, subscribers - start)
            tasks += [asyncio.create_task(one(session, ready)) for _ in range(count)]
            for _ in range(count):
                await asyncio.wait_for(ready.get(), 60)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        measuring.set()
        await asyncio.sleep(seconds)
        result = {"latencies": list(latencies), "messages": counted}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return result


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found
    return int(found[1])


def measure(name: str, url: str, pid: int, subscribers: int, seconds: float) -> Row:
    """One row."""
    before = _resident_kb(pid)
    listener = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live", "--listen", url,
         "--subscribers", str(subscribers), "--seconds", str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert listener.stdin
    assert listener.stdout
    listener.stdout.readline()
    time.sleep(2)
    memory = (_resident_kb(pid) - before) / subscribers
    cpu = _cpu(pid)
    listener.stdin.write("\n")
    listener.stdin.flush()
    result = json.loads(listener.stdout.readline())
    cpu = _cpu(pid) - cpu
    listener.wait(60)
    return Row(name, result["latencies"], result["messages"], cpu, seconds, memory)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Live streams: latency and memory.")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--many", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--listen", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.listen:
        print(json.dumps(asyncio.run(listen(options.listen, options.subscribers, options.seconds))))
        return
    with tempfile.TemporaryDirectory(prefix="spanyard-bench-live-") as folder:
        place = Path(folder)
        (place / "app").mkdir()
        (place / "app" / "server.py").write_text(SERVER, "utf-8")
        (place / "app" / "spanyard.yaml").write_text(YAML, "utf-8")
        up = subprocess.Popen(
            [sys.executable, "-m", "spanyard_local", "up", str(place / "app"), "-o", "json", "--quiet",
             "--data", str(place / "data"), "--port", "0", "--clickhouse-port", "0",
             "--build-dir", str(place / "builds")],
            stdout=subprocess.PIPE, stderr=(place / "errors").open("w"), text=True,
        )  # fmt: skip
        try:
            _run(up, place, options)
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                up.kill()


def _run(up: "subprocess.Popen[str]", place: Path, options: argparse.Namespace) -> None:
    import threading
    import urllib.request

    assert up.stdout
    address = ""
    for line in up.stdout:
        event = json.loads(line)
        if event["event"] == "deployment" and event["status"].get("reason") == "Serving":
            address = event["status"]["endpoint"]
            break
    threading.Thread(target=lambda: [None for _ in up.stdout or ()], daemon=True).start()
    url = json.loads((place / "data" / "server.json").read_text())["url"].replace("http", "ws", 1)
    print(HEADING)
    url += "/ws"
    pid = up.pid

    def rate(lines: int) -> None:
        urllib.request.urlopen(f"{address}/rate/{lines}", timeout=10).close()
        time.sleep(2)

    rate(options.rate)
    for subscribers in (1, options.subscribers):
        name = f"{options.rate:,} lines/s, {subscribers:,} listeners"
        print(measure(name, url, pid, subscribers, options.seconds).text(), flush=True)
    rate(20)
    name = f"20 lines/s, {options.many:,} listeners"
    print(measure(name, url, pid, options.many, options.seconds).text(), flush=True)


if __name__ == "__main__":
    main()
