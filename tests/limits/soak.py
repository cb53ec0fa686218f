"""The soak: a real collector is killed a thousand times under load, and nothing is lost or twice.

    make soak                      1,000 kills, half an hour
    make soak ARGS='--kills 50'

Two containers print and are rotated, an application sends OTLP and sends again what was not
acknowledged, others write span files. Storage is a real S3 server behind a proxy that loses
answers; now and then the server stands still. The collector is killed at random moments (SIGKILL)
and started again. At the end everything in the bucket is read back and compared with what was
written. Prints a table; exit code 1 when a record is lost without being told, or stored twice.
SIGTERM ends it early, with the same checks.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Self

import msgspec

from spanyard_core.chunks import ChunkFacts, decode_facts, decoded_blocks
from spanyard_core.object_names import ChunkName, parse_key
from spanyard_core.storage import open_storage
from tests.fakes.chain import Collector, Place, Pod, send_otlp
from tests.fakes.losing_proxy import LosingProxy, losing_proxy
from tests.fakes.ports import own_port
from tests.fakes.processes import clean_environ, wait_for
from tests.fakes.s3_server import BUCKET, REGION, S3Server, running_s3
from tests.fakes.threads import in_a_thread
from tests.limits.spooling import Chatter, Lines, Watch
from tests.unit.sidecar.otlp.requests import span_request

CONTAINERS = ("server", "worker")
LINES_PER_SECOND = 2_000
"""Per container."""
SPANS = 20
"""Per OTLP request."""
ROOT = Path(__file__).parents[2]


class OtlpClient:
    """Sends requests one after the other; each until it is acknowledged, as an SDK would."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.acknowledged = 0
        self.attempts = 0
        self._stop = Event()
        self._thread = Thread(target=self._run, name="OTLP client")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Finish the request under way, then end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._send(self.acknowledged)
            self.acknowledged += 1
            self._stop.wait(0.05)

    def _send(self, n: int) -> None:
        body = span_request(SPANS, name=f"request {n} span").SerializeToString()
        while True:
            self.attempts += 1
            with contextlib.suppress(OSError, urllib.error.URLError):
                status, _, _ = send_otlp(self.url, "traces", body)
                if status == 200:
                    return
                assert status == 503, status
            time.sleep(0.1)


@dataclass
class SpanFileRuns:
    """Applications that write span files and end; one after the other."""

    pod: Pod
    names: list[str] = field(default_factory=list)
    runs: int = 0

    def run(self) -> None:
        """Run one to its end."""
        command = [sys.executable, "-m", "tests.fakes.application", f"run-{self.runs}", "200"]
        done = subprocess.run(
            [*command, "--files-only"],
            cwd=ROOT,
            env={
                **clean_environ(),
                "SPANYARD_SPANS_DIR": str(self.pod.spans),
                "SPANYARD_SPANS_FILE_SIZE": "20kB",
            },
            check=True,
            capture_output=True,
        )
        self.names += json.loads(done.stdout)["logs"]
        self.runs += 1


class _Record(msgspec.Struct):
    seq: int
    message: str = ""
    name: str = ""


@dataclass
class Stored:
    """What the bucket holds, by writer."""

    facts: dict[str, list[ChunkFacts]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Messages or names, in the order of the writer's numbers."""
    gaps: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Told losses, by subject."""
    objects: int = 0
    wrong: list[str] = field(default_factory=list)


def read_back(place: Place) -> Stored:
    """Decode every object; numbers must follow one another in each writer."""
    stored = Stored()

    async def read() -> None:
        storage = open_storage(place.url, options=place.options)
        try:
            keys = [info.key async for info in storage.list("observability/")]
            names = [(name, key) for key in keys if isinstance(name := parse_key(key), ChunkName)]
            for _, key in sorted(names, key=lambda pair: (pair[0].writer_hash, pair[0].first)):
                _take(stored, await storage.read(key))
        finally:
            await storage.close()

    asyncio.run(read())
    return stored


def _take(stored: Stored, data: bytes) -> None:
    facts, at = decode_facts(data)
    lines = b"".join(decoded_blocks(data[at:])).splitlines()
    stored.objects += 1
    before = stored.facts.setdefault(facts.writer, [])
    expected = before[-1].last + 1 if before else 1
    if facts.first != expected:
        stored.wrong.append(f"{facts.writer}: {facts.first} follows {expected - 1}")
    before.append(facts)
    if facts.signal == "gaps":
        for line in lines:
            told = json.loads(line)
            if told["event"] == "gap" and told["cause"] != "spool-full":
                stored.gaps.setdefault(told["subject"], []).append(told)
        return
    texts = stored.texts.setdefault(facts.writer, [])
    for line in lines:
        record = msgspec.json.decode(line, type=_Record)
        texts.append(record.message or record.name)


@dataclass
class Soak:
    """One run."""

    folder: Path
    kills: int
    seed: int
    rows: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    enough: Event = field(default_factory=Event)
    """Set: no more kills, come to the end."""

    def run(self) -> bool:
        """Whether nothing was lost untold and nothing is twice."""
        began = time.monotonic()
        rng = random.Random(self.seed)
        pod = Pod(self.folder / "pod")
        with (
            running_s3() as server,
            in_a_thread(losing_proxy(server.ports["s3"]), "proxy") as proxy,
        ):
            query = f"endpoint={proxy.endpoint}&region={REGION}"
            place = Place(f"s3://{BUCKET}/soak?{query}", server.env, server.options)
            self._live(pod, place, server, proxy, rng)
            direct = Place(server.url_for("soak"), server.env, server.options)
            stored = read_back(direct)
        self._check(pod, stored)
        self.rows.append(("minutes", f"{(time.monotonic() - began) / 60:.1f}"))
        return not self.failures

    def _live(
        self, pod: Pod, place: Place, server: S3Server, proxy: LosingProxy, rng: random.Random
    ) -> None:
        logs = {name: pod.container(name, max_size=2_000_000, max_files=10) for name in CONTAINERS}
        self.lines = {name: Chatter(log, rate=LINES_PER_SECOND) for name, log in logs.items()}
        self.files = SpanFileRuns(pod)
        lost = stalls = killed = 0
        peak = spool = 0
        with contextlib.ExitStack() as running:
            self.otlp = OtlpClient(own_port())
            collector = _started(pod, place, self.otlp)
            running.enter_context(self.otlp)
            for printing in self.lines.values():
                running.enter_context(printing)
            for n in range(self.kills):
                if self.enough.is_set():
                    break
                with Watch(collector, pod.spool) as watch:
                    if n % 20 == 2:
                        self.files.run()
                    if rng.random() < 0.5:
                        lost += 1
                        proxy.lose(1)
                    if rng.random() < 0.1:
                        stalls += 1
                        server.pause()
                        time.sleep(rng.uniform(0.1, 1.5))
                        collector.kill()
                        server.resume()
                    else:
                        time.sleep(rng.expovariate(2.5))
                        collector.kill()
                peak, spool = max(peak, watch.memory), max(spool, watch.spool)
                killed = n + 1
                collector = _started(pod, place, self.otlp)
                _progress(killed, self.kills)
            with collector:
                self.otlp.stop()
                for application in self.lines.values():
                    application.stop()
                for log in logs.values():
                    log.close()
                wait_for("span files read", lambda: not list(pod.spans.rglob("*.jsonl")))
                collector.end()
        self.rows += [
            ("kills", f"{killed}"),
            ("lost answers of storage", f"{lost}"),
            ("storage stood still", f"{stalls}"),
            ("most memory, MB", f"{peak / 1e6:.1f}"),
            ("most spool, MB", f"{spool / 1e6:.1f}"),
        ]

    def _check(self, pod: Pod, stored: Stored) -> None:
        self.failures += stored.wrong
        written = found = told = 0
        for name, application in self.lines.items():
            writers = [w for w in stored.texts if w.startswith(f"{pod.uid}/{name}/")]
            if len(writers) != 1:
                self.failures.append(f"{name} has the writers {writers}")
                continue
            numbers = [int(text[:8]) for text in stored.texts[writers[0]]]
            lines = Lines(numbers, stored.gaps.get(writers[0], []), application.written)
            self.failures += [f"{name}: {problem}" for problem in lines.problems()]
            written += application.written
            found += len(numbers)
            told += len(lines.gaps)
        spans = [
            text
            for writer, texts in stored.texts.items()
            if writer.startswith(f"{pod.uid}/spans@")
            for text in texts
        ]
        sent = [
            f"request {n} span {i}" for n in range(self.otlp.acknowledged) for i in range(SPANS)
        ]
        self._compare("OTLP", spans, sent)
        events = [
            text
            for writer, texts in stored.texts.items()
            if writer.startswith(f"{pod.uid}/logs/")
            for text in texts
        ]
        self._compare("span files", events, self.files.names)
        self.rows += [
            ("log lines written", f"{written:,}"),
            ("log lines stored", f"{found:,}"),
            ("gaps told", f"{told}"),
            ("OTLP spans acknowledged", f"{len(sent):,}"),
            ("OTLP spans stored", f"{len(spans):,}"),
            (
                "OTLP attempts per request",
                f"{self.otlp.attempts / max(1, self.otlp.acknowledged):.2f}",
            ),
            ("span file events written", f"{len(self.files.names):,}"),
            ("span file events stored", f"{len(events):,}"),
            ("objects", f"{stored.objects:,}"),
        ]

    def _compare(self, what: str, found: list[str], expected: list[str]) -> None:
        counts, wanted = Counter(found), Counter(expected)
        if missing := wanted - counts:
            self.failures.append(f"{what}: {missing.total()} lost, such as {min(missing)!r}")
        if extra := counts - wanted:
            self.failures.append(f"{what}: {extra.total()} too many, such as {min(extra)!r}")


def _started(pod: Pod, place: Place, otlp: OtlpClient) -> Collector:
    collector = pod.collector(place, flush_interval="500ms", otlp_port=otlp.port)
    otlp.url = collector.otlp
    return collector


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty() and done % 10 == 0:
        print(f"\r{done} of {of} kills", end="" if done < of else "\n", file=sys.stderr, flush=True)
    elif not sys.stderr.isatty() and done % 100 == 0:
        print(f"{done} of {of} kills", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1_000, help="how often (1,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spanyard-soak-") as folder:
        soak = Soak(Path(folder), given.kills, given.seed)
        signal.signal(signal.SIGTERM, lambda *_: soak.enough.set())
        right = soak.run()
    for name, value in soak.rows:
        print(f"{name:<28}{value:>14}")
    print("nothing lost untold, nothing twice" if right else "\n".join(soak.failures))
    raise SystemExit(not right)


if __name__ == "__main__":
    main()
