"""A machine for the log's tests: the simulator's disk, a clock set by hand, one receiver."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

from spanyard_sidecar.budget import DiskBudget
from spanyard_sidecar.model import Gap, State
from spanyard_sidecar.otlp.answers import Answer
from spanyard_sidecar.otlp.form import OtlpSignal
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.receiver import Receiver
from spanyard_sidecar.otlp.source import OtlpSource, OtlpSources
from spanyard_sidecar.otlp.waiting import LogSettings
from tests.sim.disk import Disk
from tests.sim.diskfiles import SimFiles
from tests.unit.sidecar.otlp.requests import IDENTITY, NOW, span_request, to_json

DIRECTORY = "/spool/otlp"
EPOCH = "abcdefgh"


class HandClock:
    """Time goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_ns = NOW

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_ns += int(seconds * 1e9)

    def time_ns(self) -> int:
        return self.wall_ns

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Machine:
    """Survives its processes; `running` is one incarnation of the collector."""

    def __init__(
        self, *, settings: LogSettings | None = None, limit: int = 1 << 30, seed: int = 0
    ) -> None:
        self.disk = Disk(rng=random.Random(seed), sync_seconds=0)
        self.disk.mkdir("/spool")
        self.disk.settle()
        self.clock = HandClock()
        self.settings = settings or LogSettings()
        self.limit = limit
        self.budget = DiskBudget(limit)
        self.states: dict[str, State] = {}
        self.epoch = EPOCH
        self.log: OtlpLog
        self.committer: asyncio.Task[None]
        self.receiver: Receiver
        self.sources: OtlpSources

    def files(self) -> SimFiles:
        return self.disk.view()

    @contextlib.asynccontextmanager
    async def running(self, files: Any = None) -> AsyncIterator["Machine"]:
        """Recover, take requests, stop without any farewell."""
        self.budget = DiskBudget(self.limit)
        self.log = await OtlpLog.open(
            files or self.files(),
            self.clock,
            DIRECTORY,
            identity=IDENTITY,
            epoch=self.epoch,
            budget=self.budget,
            states=self.states,
            settings=self.settings,
        )
        self.receiver = Receiver(self.log, self.clock)
        self.sources = OtlpSources(self.log)
        self.committer = asyncio.create_task(self.log.run(), name="committer")
        try:
            yield self
        finally:
            self.committer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.committer

    def power_loss(self, rng: random.Random) -> None:
        """The plug is pulled; call it outside `running`."""
        self.disk.power_loss(rng, zeros=lambda path: path.endswith(".log"))

    async def send(self, count: int = 1, *, name: str = "step", size: int = 0) -> Answer:
        """One request of spans."""
        body = span_request(count, name=name, size=size).SerializeToString()
        return await self.receiver.receive("traces", body, json=False)

    async def send_to_death(self, count: int, *, name: str) -> None:
        """A request in the middle of which the collector dies: nobody answers it."""
        sending = asyncio.create_task(self.send(count, name=name))
        await settled()
        assert self.committer.done(), "it has not died"
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def send_json(self, signal: OtlpSignal, message: Any) -> Answer:
        return await self.receiver.receive(signal, to_json(message), json=True)

    def scan(self) -> dict[str, OtlpSource]:
        """New sources by writer."""
        found = self.sources.scan(self.states, self.epoch)
        return {s.writer: s for s in found if isinstance(s, OtlpSource)}

    def drain(self, budget: int = 128 * 1024) -> list[dict[str, Any]]:
        """All lines of all sources from their states on; no gaps allowed."""
        lines, gaps = self.drain_with_gaps(budget)
        assert gaps == []
        return lines

    def drain_with_gaps(self, budget: int = 128 * 1024) -> tuple[list[dict[str, Any]], list[Gap]]:
        lines: list[dict[str, Any]] = []
        gaps: list[Gap] = []
        for source in self.scan().values():
            while (block := source.read(budget)) is not None:
                gaps += block.gaps
                assert not block.gaps or block.cut
                found = [json.loads(line) for line in block.lines.splitlines()]
                assert len(found) == block.records
                expected = list(range(block.first, block.first + block.records))
                assert [line["seq"] for line in found] == expected
                assert all(line["writer"] == source.writer for line in found)
                lines += found
            source.close()
        return lines, gaps

    def names(self) -> list[str]:
        """Names of the spans that are there."""
        return [line["name"] for line in self.drain()]

    def segments(self) -> list[str]:
        return sorted(self.files().listdir(DIRECTORY))


async def settled() -> None:
    """Let everything come as far as it can: nothing here waits for a thread or for time."""
    for _ in range(100):
        await asyncio.sleep(0)


def expected(count: int, name: str = "step") -> list[str]:
    """Names that `send` gives its spans."""
    return [f"{name} {i}" for i in range(count)]
