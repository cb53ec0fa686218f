"""Collector: lines per CPU-second from log file to S3, and memory, idle and under load.

    python -m benchmarks.collector [--lines 1000000] [--rate 50000] [--seconds 20] [--json-share 0.4]

Method: the real `spanyard-sidecar` process, a real S3 server (SeaweedFS) on loopback, a spool on
this machine's disk. Throughput: the collector idles, then a log file of a million mixed CRI lines
(40 % JSON) appears; CPU seconds are the collector's user and system time (all threads) from then
until every record is in S3 and the spool is empty. Memory: resident set after 5 s idle; its peak
while an application writes 50,000 lines/s, spans come by OTLP and a live reader listens; and its
peak in the throughput run, where the file is read as fast as that goes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.fakes.s3_server import S3Server, running_s3

START = 1_795_272_300
TICKS = os.sysconf("SC_CLK_TCK")
PATHS = ("/api/chat", "/api/tools/search", "/health", "/api/sessions/{}/messages", "/metrics")
WORDS = [
    "plan",
    "tool",
    "answer",
    "retry",
    "model",
    "cache",
    "token",
    "budget",
    "session",
    "request",
    "upstream",
    "vector",
]


def cri_lines(count: int, json_share: float, seed: int = 7) -> Iterator[bytes]:
    """Mixed CRI lines: access logs, application logs with a level, JSON objects."""
    rng = random.Random(seed)
    for n in range(count):
        ns = START * 1_000_000_000 + n * 20_000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 1_000_000_000))
        head = f"{stamp}.{ns % 1_000_000_000:09d}Z {'stderr' if n % 10 == 0 else 'stdout'} F "
        path = rng.choice(PATHS).format(rng.getrandbits(24))
        took = rng.random() * 900
        if rng.random() < json_share:
            fields: dict[str, object] = {
                "level": rng.choice(("info", "info", "info", "warn", "debug", "error")),
                "time": f"{stamp}.{ns % 1_000_000_000 // 1_000_000:03d}Z",
                "msg": f"{rng.choice(WORDS)} {rng.choice(WORDS)} finished",
                "path": path,
                "duration_ms": round(took, 3),
                "user": f"u{rng.getrandbits(20)}",
                "ok": True,
            }
            if n % 4 == 0:
                fields["trace_id"] = f"{rng.getrandbits(128):032x}"
            text = json.dumps(fields)
        elif n % 2:
            text = (
                f'10.1.{n % 250}.{rng.randrange(250)} - - "GET {path} HTTP/1.1" 200 '
                f'{rng.getrandbits(14)} "-" "support-agent/1.4" {took:.3f}'
            )
        else:
            level = rng.choice(("INFO", "INFO", "DEBUG", "WARNING", "ERROR"))
            text = (
                f"{stamp} {level} agent.{rng.choice(WORDS)}: {rng.choice(WORDS)} "
                f"{rng.choice(WORDS)} took {took:.3f} ms for u{rng.getrandbits(20)}"
            )
        yield f"{head}{text}\n".encode()


@dataclass(slots=True)
class Running:
    """A collector process with an empty log folder."""

    process: subprocess.Popen[bytes]
    folder: Path
    operations: str
    otlp: str

    @property
    def logs(self) -> Path:
        return self.folder / "logs" / "app"

    def cpu(self) -> float:
        """CPU seconds used so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, name: str) -> float:
        """VmRSS (now) or VmHWM (peak), MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        with urllib.request.urlopen(f"{self.operations}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        values = re.findall(
            rf"^spanyard_collector_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE
        )
        return sum(map(float, values))

    def wait_until_stored(self, records: int) -> None:
        """Return when that many records are read and nothing is left in the spool."""
        while self.metric("records_total") < records or self.metric("spool_pending_entries"):
            if self.process.poll() is not None:
                raise RuntimeError(f"the collector has ended: {self.process.returncode}")
            time.sleep(0.2)


@contextlib.contextmanager
def running_collector(server: S3Server, name: str) -> Iterator[Running]:
    """Start a collector and end it."""
    folder = Path(tempfile.mkdtemp(prefix="spanyard-bench-"))
    (folder / "logs" / "app").mkdir(parents=True)
    log = folder / "collector.log"
    command = [
        *(sys.executable, "-m", "spanyard_sidecar"),
        *("--project", "bench.load", "--deployment", "load", "--pod", "load-6d5f7c9b8d-x2x7k"),
        *("--storage", server.url_for(name), "--logs", str(folder / "logs")),
        *("--spool", str(folder / "spool"), "--port", "0", "--otlp-port", "0"),
    ]
    environ = {
        **os.environ,
        **server.env,
        # As in an image: what is imported was compiled before.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": tempfile.gettempdir() + "/spanyard-bench-compiled",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environ, stderr=out)
    try:
        while True:
            addresses = re.findall(r"listening on (http://[0-9.:]+)", log.read_text())
            if len(addresses) == 2:
                break
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield Running(process, folder, addresses[1], addresses[0])
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def throughput(server: S3Server, lines: int, json_share: float) -> None:
    """A file as fast as it goes."""
    with running_collector(server, f"throughput-{time.time_ns()}") as collector:
        source = collector.folder / "0.log"
        with source.open("wb") as out:
            out.writelines(cri_lines(lines, json_share))
        size = source.stat().st_size
        time.sleep(2)
        cpu, wall = collector.cpu(), time.monotonic()
        source.rename(collector.logs / "0.log")
        collector.wait_until_stored(lines)
        cpu, wall = collector.cpu() - cpu, time.monotonic() - wall
        print(f"{'lines per CPU-second':<44}{lines / cpu:>12,.0f}   goal 600,000")
        print(f"{'lines per second':<44}{lines / wall:>12,.0f}   {size / lines:.0f} bytes per line")
        peak = collector.memory("VmHWM")
        print(f"{'peak memory, file as fast as it goes':<44}{peak:>9.1f} MiB")


def idle(server: S3Server) -> None:
    """Nothing to do."""
    with running_collector(server, f"idle-{time.time_ns()}") as collector:
        time.sleep(5)
        cpu = collector.cpu()
        time.sleep(5)
        busy = (collector.cpu() - cpu) / 5
        print(f"{'memory, idle':<44}{collector.memory('VmRSS'):>9.1f} MiB   goal 50")
        print(f"{'CPU, idle':<44}{busy * 100:>10.1f} %")


async def _listen(url: str, count: list[int]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/live", max_msg_size=0) as socket,
    ):
        await socket.send_str(json.dumps({"type": "subscribe", "container": "app", "after": {}}))
        async for message in socket:
            if '"lines"' in message.data[:200]:
                count[0] += 1


def _span_request(rng: random.Random) -> bytes:
    spans = [
        {
            "traceId": f"{rng.getrandbits(128):032x}",
            "spanId": f"{rng.getrandbits(64):016x}",
            "name": "chat",
            "startTimeUnixNano": str(START * 10**9),
            "endTimeUnixNano": str(START * 10**9 + 5_000_000),
            "attributes": [
                {"key": f"gen_ai.attribute.{i}", "value": {"stringValue": f"value {i}"}}
                for i in range(8)
            ],
        }
        for _ in range(100)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


async def _load(collector: Running, rate: int, seconds: int, json_share: float) -> None:
    lines = list(cri_lines(rate, json_share))
    batches = [b"".join(lines[i::50]) for i in range(50)]
    rng, count = random.Random(1), [0]
    listener = asyncio.create_task(_listen(collector.operations, count))
    began = cpu = 0.0
    with (collector.logs / "0.log").open("ab", buffering=0) as out:
        async with aiohttp.ClientSession() as session:
            cpu, began = collector.cpu(), time.monotonic()
            for n in range(seconds * 50):
                out.write(batches[n % 50])
                if n % 5 == 0:
                    async with session.post(
                        f"{collector.otlp}/v1/traces",
                        data=_span_request(rng),
                        headers={"Content-Type": "application/json"},
                    ) as answer:
                        assert answer.status == 200, await answer.text()
                await asyncio.sleep(max(0.0, began + (n + 1) / 50 - time.monotonic()))
    wall = time.monotonic() - began
    await asyncio.to_thread(collector.wait_until_stored, rate * seconds + seconds * 10 * 100)
    cpu = collector.cpu() - cpu
    listener.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listener
    text = f"peak memory, {rate * seconds / wall:,.0f} lines/s, OTLP, live"
    print(f"{text:<44}{collector.memory('VmHWM'):>9.1f} MiB   goal 60")
    print(f"{'CPU then':<44}{cpu / wall * 100:>10.1f} %   {count[0]} live batches")


def load(server: S3Server, rate: int, seconds: int, json_share: float) -> None:
    """An application that writes at a rate, spans by OTLP, a live reader."""
    with running_collector(server, f"load-{time.time_ns()}") as collector:
        asyncio.run(_load(collector, rate, seconds, json_share))


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collector")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--json-share", type=float, default=0.4)
    options = parser.parse_args(argv)
    with running_s3() as server:
        with running_collector(server, "warm-up"):
            pass
        idle(server)
        load(server, options.rate, options.seconds, options.json_share)
        throughput(server, options.lines, options.json_share)


if __name__ == "__main__":
    main()
