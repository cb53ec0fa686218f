"""What the SDK writes, the collector reads: every event once, by the contract of span files."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema

from spanyard_core.clock import SystemClock
from spanyard_core.files import SystemFiles
from spanyard_core.records import Signal
from spanyard_core.schema import schema_of
from spanyard_sidecar.model import Identity, Source
from spanyard_sidecar.spanfiles import SpanFileSources

IDENTITY = Identity("team.shop", pod="shop-1", pod_uid="uid-1", deployment="shop")

APPLICATION = """
import math, os, spanyard, sys, threading
count = int(sys.argv[1])
def work(n):
    for k in range(count):
        with spanyard.trace("t", input={"n": n}) as trace, spanyard.span("s", kind="client") as span:
            span.set({"n": n, "k": k, "nan": math.nan, "deep": [[[{"a": [1]}]]]}, text="é" * k)
            span.event("e", k=k).link("ab" * 16, "cd" * 8)
            spanyard.log.warn("line\\nwith\\x00odd \\ud800 text", n=n, k=k)
            spanyard.metrics.counter("c", unit="1").add(k, {"n": n})
            spanyard.metrics.histogram("h", unit="s").record(k / 7)
            spanyard.metrics.gauge("g").set(math.inf if k % 2 else -k)
            spanyard.score("good", k % 3 / 2, comment="c")
        trace.output(k)
spanyard.log.info("x" * 3_000_000)
if not os.fork():
    work(9)
    sys.exit(0)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
os.wait()
"""


class Collector:
    """Reads as the pipeline does, and keeps what it got."""

    def __init__(self, folder: Path) -> None:
        self.finder = SpanFileSources(SystemFiles(), SystemClock(), IDENTITY, str(folder))
        self.sources: list[Source] = []
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.gaps: list[Any] = []

    def poll(self) -> int:
        """One look at all files; the number of new records."""
        self.sources += self.finder.scan({}, "epoch")
        records = 0
        for source in self.sources:
            while (block := source.read(1 << 20)) is not None:
                new = [json.loads(line) for line in block.lines.splitlines()]
                assert len(new) == block.records
                self.lines.setdefault(source.writer, []).extend(new)
                self.gaps += block.gaps
                records += block.records
        return records

    def until_ended(self) -> None:
        deadline = time.monotonic() + 60
        while not self.sources or not all(source.ended for source in self.sources):
            self.poll()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def of(self, signal: Signal) -> list[dict[str, Any]]:
        found = []
        for writer, lines in self.lines.items():
            assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
            if writer.startswith(f"uid-1/{signal}/"):
                found += lines
        validator = jsonschema.Draft202012Validator(schema_of(signal))
        for line in found:
            validator.validate(line)
        return found


def application(folder: Path, count: int, code: str = APPLICATION) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(count)],
        env={
            **os.environ,
            "SPANYARD_SPANS_DIR": str(folder),
            "SPANYARD_SPANS_FILE_SIZE": "20kB",
            "OTEL_SERVICE_NAME": "shop",
        },
    )


def test_every_event_arrives_once_through_threads_forks_and_rotation(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    with application(tmp_path, 30) as process:
        while process.poll() is None:
            collector.poll()
            time.sleep(0.005)
    assert process.returncode == 0
    collector.until_ended()
    assert collector.gaps == []
    pairs = sorted((n, k) for n in (0, 1, 2, 9) for k in range(30))
    logs = collector.of("logs")
    assert sorted(tuple(x["attributes"].values()) for x in logs if "n" in x["attributes"]) == pairs
    assert any(x["attributes"].get("spanyard.truncated") for x in logs)
    ended = [x for x in collector.of("spans") if x["endTime"]]
    assert sorted((x["attributes"]["n"], x["attributes"]["k"]) for x in ended) == pairs
    assert len(collector.of("spans")) == len(collector.of("traces")) == 240
    assert len(collector.of("metrics")) == 360
    assert len(collector.of("scores")) == 120
    assert {x["service"] for x in ended} == {"shop"}
    assert len(collector.sources) > 20


def test_what_is_stored_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    with application(tmp_path, 10) as process:
        process.wait(timeout=60)
    collector.until_ended()
    assert len(list(tmp_path.glob("*/*.jsonl"))) == len(collector.sources)
    for source in collector.sources:
        source.uploaded(source.state())
    assert list(tmp_path.glob("*/*")) == []


def test_a_file_is_not_ended_while_its_process_lives_and_is_after_a_kill(tmp_path: Path) -> None:
    code = "import spanyard, time\nspanyard.log.info('a')\ntime.sleep(600)\n"
    collector = Collector(tmp_path)
    with application(tmp_path, 0, code) as process:
        try:
            deadline = time.monotonic() + 60
            while not collector.poll():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.6)  # two looks at the lock
            collector.poll()
            assert [source.ended for source in collector.sources] == [False]
        finally:
            process.kill()
    collector.until_ended()
    assert [line["message"] for line in collector.of("logs")] == ["a"]
    assert collector.gaps == []
