"""A world for live streams under virtual time: pods that print, collectors that break, a database
that lags, listeners that are slow. Everything is drawn from one random generator.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from spanyard_core.clock import Clock, SystemClock
from spanyard_core.errors import DatabaseUnavailableError
from spanyard_gateway.live.channels import Filter, parse_channel, picks_of
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import Block, LiveSignal, LogRecord, block_of_lines
from spanyard_gateway.live.stored import Row, Target
from spanyard_gateway.live.upstream import LivePod, UpstreamError, UpstreamEvent, UpToDate

NAMESPACE, PROJECT, DEPLOYMENT = "local", "support", "agent"


def line(writer: str, seq: int, at: float, padding: str = "") -> bytes:
    """A record as a collector stores it; every fifth is an error."""
    pod, container = writer.split("/")[:2]
    found = {
        "type": "log", "project": f"{NAMESPACE}.{PROJECT}", "writer": writer, "seq": seq,
        "pod": pod, "container": container, "stream": "stdout",
        "level": "error" if seq % 5 == 0 else "info",
        "timestamp": f"2026-11-21T00:{int(at) // 60:02d}:{at % 60:09.6f}Z", "message": f"line {seq}{padding}",
    }  # fmt: skip
    return json.dumps(found).encode() + b"\n"


@dataclass(eq=False)
class Writer:
    """A run of a container: what it printed, from which number on its collector still has it."""

    id: str
    printed: list[bytes] = field(default_factory=list)
    ring_from: int = 1
    stored: int = 0
    stored_ms: int = 0
    """When something of it was stored last."""
    ended: bool = False
    end_stored: bool = False

    @property
    def last(self) -> int:
        return len(self.printed)


@dataclass(eq=False)
class Pod:
    """A pod and its collector."""

    live: LivePod
    writers: list[Writer] = field(default_factory=list)
    there: bool = True
    answers: bool = True
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    session: int = 0
    """Grows when the collector is restarted: connections of before are broken."""


class World:
    """Implements `Upstream`, `PodFinder` and `Stored`."""

    def __init__(self, rng: random.Random, clock: Clock | None = None) -> None:
        self.rng = rng
        self.clock = clock or SystemClock()
        self.pods_by_uid: dict[str, Pod] = {}
        self.all: dict[str, Writer] = {}
        self.database_away = False
        self.random_failures = True
        self.padding = ""
        self.connections = 0

    # --- what happens ------------------------------------------------------------------------

    def new_pod(self) -> Pod:
        uid = f"pod{len(self.pods_by_uid)}"
        live = LivePod(uid, uid, NAMESPACE, PROJECT, deployment=DEPLOYMENT)
        pod = self.pods_by_uid[uid] = Pod(live)
        self.new_writer(pod)
        return pod

    def new_writer(self, pod: Pod) -> Writer:
        writer = Writer(f"{pod.live.uid}/app/{len(pod.writers)}@e")
        pod.writers.append(writer)
        self.all[writer.id] = writer
        return writer

    async def print(self, pod: Pod, count: int) -> None:
        writer = pod.writers[-1]
        now = asyncio.get_running_loop().time()
        async with pod.changed:
            for _ in range(count):
                writer.printed.append(line(writer.id, writer.last + 1, now, self.padding))
            pod.changed.notify_all()

    async def restart_collector(self, pod: Pod) -> None:
        """Memory is lost; the disk has what is not stored yet, and a little more."""
        async with pod.changed:
            pod.session += 1
            for writer in pod.writers:
                writer.ring_from = max(writer.ring_from, writer.stored + 1 - self.rng.randrange(30))
            pod.changed.notify_all()

    async def end(self, pod: Pod) -> None:
        async with pod.changed:
            pod.there = False
            pod.session += 1
            for writer in pod.writers:
                writer.ended = True
            pod.changed.notify_all()

    def store(self) -> None:
        """Some of what was printed becomes queryable; rings forget what was stored long ago."""
        for writer in self.all.values():
            if writer.stored < writer.last:
                writer.stored += self.rng.randint(1, writer.last - writer.stored)
                writer.stored_ms = self.clock.time_ns() // 1_000_000
            elif writer.ended:
                writer.end_stored = True
            if writer.stored - writer.ring_from > 60:
                writer.ring_from = writer.stored - self.rng.randrange(60)

    def _fails(self, chance: float) -> bool:
        return self.random_failures and self.rng.random() < chance

    # --- Upstream ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        await asyncio.sleep(self.rng.random() * 0.02)
        found = self.pods_by_uid[pod.uid]
        if not found.there or not found.answers or self._fails(0.1):
            raise UpstreamError("refused")
        self.connections += 1
        yield self._events(found, dict(after))

    async def _events(self, pod: Pod, after: dict[str, int]) -> AsyncIterator[UpstreamEvent]:
        session, told = pod.session, False
        while True:
            for writer in pod.writers:
                sent = max(after.get(writer.id, 0), writer.ring_from - 1)
                while sent < writer.last:
                    count = min(self.rng.randint(1, 9), writer.last - sent)
                    lines = b"".join(writer.printed[sent : sent + count])
                    yield block_of_lines(writer.id, sent + 1, lines)
                    sent += count
                    after[writer.id] = sent
                    if self._fails(0.01):
                        raise UpstreamError("the connection broke")
            if not told:
                told = True
                yield UpToDate()
            async with pod.changed:
                if pod.session != session:
                    raise UpstreamError("the collector ended")
                if all(w.last <= max(after.get(w.id, 0), w.ring_from - 1) for w in pod.writers):
                    await pod.changed.wait()
                if pod.session != session and not pod.answers:
                    raise UpstreamError("the collector was killed")

    # --- PodFinder ---------------------------------------------------------------------------

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        await asyncio.sleep(0.01)
        return [pod.live for pod in self.pods_by_uid.values() if pod.there]

    # --- Stored ------------------------------------------------------------------------------

    async def _asked(self) -> None:
        await asyncio.sleep(self.rng.random() * 0.05)
        if self.database_away:
            raise DatabaseUnavailableError("away")

    async def reached(self, pod: LivePod) -> Mapping[str, Reached]:
        await self._asked()
        return {
            writer.id: Reached("logs", writer.stored)
            for writer in self.pods_by_uid[pod.uid].writers
            if writer.stored
        }

    async def newest(
        self,
        target: Target,
        signals: Sequence[LiveSignal],
        filter_: Filter,
        count: int,
        below: Mapping[str, int],
    ) -> list[Row]:
        await self._asked()
        picks = picks_of(parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), filter_)
        rows = [
            Row(writer.id, record)
            for writer in self.all.values()
            for record in _records(writer, 0, min(writer.stored + 1, below.get(writer.id, 1 << 60)))
            if picks is None or picks(record)
        ]
        rows.sort(key=lambda row: row.record.timestamp)  # type: ignore[union-attr]
        return rows[-count:]

    async def between(
        self, writer: str, signal: LiveSignal, after: int, before: int | None
    ) -> list[Block]:
        await self._asked()
        found = self.all[writer]
        end = min(found.stored + 1, before if before is not None else 1 << 60, after + 40)
        if after + 1 >= end:
            return []
        return [block_of_lines(writer, after + 1, b"".join(found.printed[after : end - 1]))]

    async def begun_since(
        self, target: Target, signals: Sequence[LiveSignal], since_ms: int
    ) -> Mapping[str, Reached]:
        await self._asked()
        return {
            w.id: Reached("logs", w.stored)
            for w in self.all.values()
            if w.stored and w.stored_ms >= since_ms
        }

    async def last_of(
        self, target: Target, signals: Sequence[LiveSignal], writers: Sequence[str]
    ) -> Mapping[str, Reached]:
        await self._asked()
        found = {name: self.all[name].stored for name in writers if name in self.all}
        return {name: Reached("logs", stored) for name, stored in found.items() if stored}

    async def ends_of(self, writers: Sequence[str]) -> Mapping[str, int]:
        await self._asked()
        return {name: self.all[name].last for name in writers if self.all[name].end_stored}


def _records(writer: Writer, after: int, before: int) -> list[LogRecord]:
    lines = b"".join(writer.printed[after : before - 1])
    block = block_of_lines(writer.id, after + 1, lines) if lines else None
    return [r for r in block.records if isinstance(r, LogRecord)] if block else []
