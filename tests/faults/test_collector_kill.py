"""kill -9 of the real collector at every fault point and at random moments, under load.

One input is written all the while: a container's log with rotation, partial lines and both
streams, span files, OTLP requests that are sent again until they are acknowledged. Each process
inherits what the killed one left. At the end everything is read back from storage: every record
once, in order, none missing.
"""

import contextlib
import fcntl
import json
import os
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.chunks import ChunkFacts, check_chunk, decode_facts, decoded_blocks
from spanyard_core.object_names import parse_key
from tests.fakes.ports import own_port
from tests.fakes.processes import Program, wait_for
from tests.fakes.s3_server import S3Server

pytestmark = [pytest.mark.kill, pytest.mark.slow]

POINTS = (
    "spool.written",
    "spool.renamed",
    "spool.durable",
    "upload.done",
    "upload.known",
    "spool.marked",
    "otlp.appended",
    "otlp.durable",
    "spanfile.stored",
    "collector.drained",
)
RANDOM_KILLS = 6


class Application:
    """Writes while collectors come and go; knows what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs" / "app"
        self.spans = folder / "spans"
        self.logs.mkdir(parents=True)
        (self.spans / "spans").mkdir(parents=True)
        self.written: list[str] = []
        self.span_names: list[str] = []
        self.acknowledged: list[str] = []
        self.otlp_port = 0
        self.may_rotate = threading.Event()
        """Set once a collector knows the first file: of what came and went before, nobody knows."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__)
            for work in (self._write_logs, self._write_spans, self._send_otlp)
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write_logs(self) -> None:
        rng = random.Random(1)
        n = rotations = 0
        log = (self.logs / "0.log").open("ab", buffering=0)
        while not self._stop.wait(0.01):
            for _ in range(rng.randint(1, 40)):
                n += 1
                text = f"line {n} " + "x" * rng.choice((0, 10, 100, 1000))
                stream = rng.choice(("stdout", "stderr"))
                now = time.time_ns()
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
                head = f"{stamp}.{now % 10**9:09d}Z {stream} "
                if rng.random() < 0.1:
                    cut = len(text) // 2
                    log.write(f"{head}P {text[:cut]}\n".encode())
                    text, rest = text[cut:], text
                    self.written.append(rest)
                else:
                    self.written.append(text)
                log.write(f"{head}F {text}\n".encode())
            if n > 4000 * (rotations + 1) and self.may_rotate.is_set():
                rotations += 1
                # As the kubelet does it; four rotated files stay.
                old = self.logs / f"0.log.20261121-14{rotations:04d}"
                (self.logs / "0.log").rename(old)
                log.close()
                log = (self.logs / "0.log").open("ab", buffering=0)
        log.close()

    def _write_spans(self) -> None:
        n = 0
        while not self._stop.is_set():
            stem = f"{time.time_ns()}-{os.urandom(6).hex()}"
            path = self.spans / "spans" / f"{stem}.tmp"
            with path.open("ab", buffering=0) as out:
                fcntl.flock(out, fcntl.LOCK_EX)
                path = path.rename(path.with_name(f"{stem}.jsonl"))
                for _ in range(30):
                    n += 1
                    name = f"span {n}"
                    event = {
                        "type": "span",
                        "id": f"{n:016x}",
                        "traceId": f"{n:032x}",
                        "name": name,
                        "startTime": "2026-11-21T14:45:00Z",
                        "endTime": "2026-11-21T14:45:01Z",
                    }
                    self.span_names.append(name)
                    out.write(json.dumps(event).encode() + b"\n")
                    if self._stop.wait(0.01):
                        break
                path.rename(path.with_name(f"{stem}.closed.jsonl"))

    def _send_otlp(self) -> None:
        n = 0
        while not self._stop.wait(0.02):
            texts = [f"otlp {n + i}" for i in range(5)]
            n += 5
            records = [{"body": {"stringValue": text}, "timeUnixNano": "1"} for text in texts]
            body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
            while True:
                try:
                    request = urllib.request.Request(
                        f"http://127.0.0.1:{self.otlp_port}/v1/logs",
                        data=body.encode(),
                        headers={"Content-Type": "application/json"},
                    )
                    with urllib.request.urlopen(request, timeout=5):
                        break
                except OSError:  # dead, not there yet, or ending: the same request again
                    if self._stop.wait(0.05):
                        return  # never acknowledged: nothing is promised
            self.acknowledged += texts


class Collectors:
    """Starts one collector after the other on the same spool."""

    def __init__(self, folder: Path, storage: str, environ: dict[str, str]) -> None:
        self.folder = folder
        self.storage = storage
        # Ten processes start here: let them share what they compile.
        cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        self.environ = environ | cache
        self.fault_log = folder / "faults"
        self.otlp_port = own_port()  # one that is killed, and sent to: nobody else may answer there

    def start(self, fault: str = "") -> Program:
        environ = {**self.environ, "SPANYARD_FAULT_LOG": str(self.fault_log)}
        if fault:
            environ["SPANYARD_FAULT"] = fault
        flags = {
            "storage": self.storage,
            "project": "ns.app",
            "pod-uid": "pod-uid",
            "spool": str(self.folder / "spool"),
            "logs": str(self.folder / "logs"),
            "spans-dir": str(self.folder / "spans"),
            "flush-interval": "200ms",
            "otlp-port": str(self.otlp_port),
            "listen": "",
            "quiet": "200ms",
        }
        return Program(
            "spanyard_sidecar",
            [word for name, value in flags.items() for word in (f"--{name}", value)],
            log=self.folder / "collector.log",
            environ=environ,
        )

    def serve(self, program: Program, application: Application) -> None:
        """Let the application know where OTLP is, as soon as it is known (or the program dead)."""
        while program.process.poll() is None:
            addresses = program.text().split("listening on http://127.0.0.1:")
            if len(addresses) > 1:
                application.otlp_port = int(addresses[1].split('"')[0].split()[0])
                return
            time.sleep(0.02)

    def first_life(self, application: Application) -> None:
        """Until the log's first records are durable; then kill -9."""
        spool = self.folder / "spool"
        with self.start() as program:
            self.serve(program, application)

            def spooled() -> bool:
                entries = [*spool.glob("*.entry"), *spool.glob("*.done")]
                try:
                    return any(b'"pod-uid/app/0@' in path.read_bytes() for path in entries)
                except FileNotFoundError:
                    return False  # just renamed from one to the other

            wait_for("the log's first entry", spooled)
            program.kill()
        application.may_rotate.set()


def read_directory(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in (root / "observability").rglob("*.zst")
    }


class Stored:
    """All that storage holds: checked object by object, then by writer."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.by_writer: dict[str, list[tuple[ChunkFacts, list[dict[str, Any]]]]] = {}
        for key, data in objects.items():
            facts = check_chunk(data)
            assert facts.name == parse_key(key)
            _, at = decode_facts(data)
            text = b"".join(decoded_blocks(data[at:]))
            lines = [msgspec.json.decode(line) for line in text.splitlines()]
            assert len(lines) == facts.records
            assert [line["seq"] for line in lines] == list(range(facts.first, facts.last + 1))
            assert {line["writer"] for line in lines} == {facts.writer}
            self.by_writer.setdefault(facts.writer, []).append((facts, lines))
        for chunks in self.by_writer.values():
            chunks.sort(key=lambda chunk: chunk[0].first)

    def lines(self, part: str) -> list[dict[str, Any]]:
        """Lines of all writers whose id has `part`, each writer's in order."""
        return [
            line
            for writer, chunks in sorted(self.by_writer.items())
            if part in writer and not writer.endswith("/meta")
            for _, lines in chunks
            for line in lines
        ]

    def check_numbers(self) -> None:
        """Every writer's objects follow each other without hole or overlap, from 1."""
        for writer, chunks in self.by_writer.items():
            next_seq = 1
            for facts, _ in chunks:
                assert facts.first == next_seq, f"{writer}: {facts.first} instead of {next_seq}"
                next_seq = facts.last + 1

    def check_books(self) -> None:
        """Every writer has begun, nothing was lost, and the last word is an end that is right."""
        for writer, chunks in self.by_writer.items():
            if writer.endswith("/meta"):
                continue
            events = [line for _, lines in self.by_writer[writer + "/meta"] for line in lines]
            assert events[0]["event"] == "begin"
            assert [line for line in events if line["event"] == "gap"] == []
            assert events[-1]["event"] == "end"
            assert events[-1].get("afterSeq", 0) == chunks[-1][0].last


def check(application: Application, objects: dict[str, bytes]) -> None:
    stored = Stored(objects)
    stored.check_numbers()
    stored.check_books()
    texts = [line["message"] for line in stored.lines("/app/0@")]
    assert len(texts) == len(application.written)
    assert Counter(texts) == Counter(application.written)
    spans = [line["name"] for line in stored.lines("/spans/")]
    assert sorted(spans) == sorted(application.span_names)
    otlp = Counter(line["message"] for line in stored.lines("/logs@"))
    assert [text for text, count in otlp.items() if count > 1] == []
    assert set(application.acknowledged) <= set(otlp)


def drain(collectors: Collectors, application: Application) -> None:
    """A last life without faults, until everything is stored."""
    with collectors.start() as program:
        collectors.serve(program, application)
        application.stop()
        assert program.stop() == 0


def test_killed_at_every_fault_point_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    application = Application(tmp_path)
    collectors = Collectors(tmp_path, f"file://{bucket}", {})
    with application.running():
        collectors.first_life(application)
        for point in POINTS:
            with collectors.start(f"{point}:2" if point.startswith("spool.") else point) as program:
                collectors.serve(program, application)
                if point == "collector.drained":
                    program.process.terminate()
                program.wait_killed()
        drain(collectors, application)
    assert set(POINTS) <= set(collectors.fault_log.read_text().split())
    assert not list((tmp_path / "spool").glob("*.entry"))
    assert list((tmp_path / "spans" / "spans").iterdir()) == []
    check(application, read_directory(bucket))


def test_killed_at_random_moments_with_a_real_s3_server(
    tmp_path: Path, s3_server: S3Server
) -> None:
    from tests.faults.reading import read_storage

    url = s3_server.url_for("collector-kill")
    application = Application(tmp_path)
    collectors = Collectors(tmp_path, url, s3_server.env)
    rng = random.Random()
    with application.running():
        collectors.first_life(application)
        for _ in range(RANDOM_KILLS):
            with collectors.start() as program:
                collectors.serve(program, application)
                time.sleep(rng.uniform(0, 1.2))
                program.kill()
        drain(collectors, application)
    check(application, read_storage(url, s3_server.options))
