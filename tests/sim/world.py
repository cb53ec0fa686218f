"""The world of a history: one node with a pod, one bucket, one database, and what goes wrong.

Which troubles a history has is drawn first, each with its own probability: histories with few
troubles at a time find what all of them at once would hide.
"""

import asyncio
import errno
from collections.abc import Coroutine
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from tests.sim.apps import Logger, Manners, SpanWriter
from tests.sim.bucket import Bucket
from tests.sim.bucket import Weather as BucketWeather
from tests.sim.chronicle import Chronicle
from tests.sim.clock import WallClock
from tests.sim.disk import Disk
from tests.sim.faults import Kills
from tests.sim.kubelet import Container, Kubelet
from tests.sim.oracle import Oracle
from tests.sim.otlpclient import OtlpClient
from tests.sim.tables import Tables
from tests.sim.tables import Weather as TablesWeather

PROJECT = "shop.web"
POD_UID = "7d9f4c1e"
POD_FOLDER = f"/var/log/pods/shop_web-0_{POD_UID}"
SPOOL = "/pod/spool"
SPANS = "/pod/spans"


@dataclass(slots=True)
class Troubles:
    """What may go wrong in this history."""

    collector_kills: bool
    collector_down: bool
    """It does not come back for a while: files are rotated away meanwhile."""
    collector_fault_points: bool
    power_loss: bool
    disk_errors: bool
    disk_full: bool
    storage_errors: bool
    storage_away: bool
    zombies: bool
    clock_jumps: bool
    clock_leaps: bool
    """Jumps of hours, not seconds."""
    container_restarts: bool
    rotation: bool
    spool_lost: bool
    span_truncated: bool
    bad_lines: bool
    hints_lost: bool
    ingester_kills: bool
    ingester_fault_points: bool
    two_ingesters: bool
    database_errors: bool
    database_away: bool

    @classmethod
    def draw(cls, rng: Random) -> "Troubles":
        """Each with a share of its own; rare ones are those that hide others."""
        rare = {"spool_lost": 0.12, "clock_leaps": 0.15, "disk_full": 0.2, "power_loss": 0.3}
        drawn = cls(**{f.name: rng.random() < rare.get(f.name, 0.4) for f in fields(cls)})
        if drawn.collector_down:
            drawn.rotation = rng.random() < 0.8  # else nothing is lost meanwhile
        if drawn.spool_lost:
            # A new epoch takes what is younger than itself for never read. A clock that was set
            # back meanwhile makes that wrong: a known limitation.
            drawn.clock_jumps = drawn.clock_leaps = False
        return drawn

    def __str__(self) -> str:
        return ", ".join(f.name for f in fields(self) if getattr(self, f.name)) or "none"


class World:
    """What a history happens in."""

    def __init__(self, seed: int, chronicle: Chronicle) -> None:
        self.seed = seed
        self.chronicle = chronicle
        self.rng = self.random("world")
        rng = self.random("troubles")
        self.troubles = Troubles.draw(rng)
        self.wall = WallClock()
        self.oracle = Oracle()
        self.kills = Kills(self.random("kills"), chronicle, ())
        self.disk = Disk(self.wall, rng=self.random("disk"), sync_seconds=0.003)
        self.disk.refuse = self._refuse
        self.disk_failing = False
        self.bucket = Bucket(
            self.wall.time_ns,
            weather=self._bucket_weather(rng),
            page=rng.choice((3, 20, 1000)),
            note=chronicle.note,
        )
        self.tables = Tables(
            self._tables_weather(rng), chronicle.note, in_process=rng.random() < 0.4
        )
        self.kubelet = Kubelet(
            self.disk,
            self.wall,
            self.random("kubelet"),
            chronicle,
            max_size=rng.choice((1_500, 6_000, 20_000)) if self.troubles.rotation else 1 << 30,
            max_files=rng.choice((3, 5)),
        )
        self.manners = Manners(
            pause=rng.choice((0.3, 1.0, 3.0)),
            burst=rng.choice((1, 5, 20)),
            partial=rng.choice((0.0, 0.2)),
            long=rng.choice((0.0, 0.02)),
        )
        self.loggers: dict[str, list[asyncio.Task[None]]] = {}
        self.containers: dict[str, Container] = {}
        self.span_writer: SpanWriter | None = None
        self.ending = False

    def random(self, name: str) -> Random:
        """A stream of its own, so that one actor's draws don't move another's."""
        return Random(f"{self.seed} {name}")

    def _bucket_weather(self, rng: Random) -> BucketWeather:
        weather = BucketWeather(self.random("bucket"), latency=rng.choice((0.005, 0.05)))
        if self.troubles.storage_errors:
            weather.not_done = rng.choice((0.02, 0.2))
            weather.answer_lost = rng.choice((0.02, 0.2))
            weather.tried_twice = rng.choice((0.0, 0.1))
            weather.slow = rng.choice((0.0, 0.05))
        if self.troubles.zombies:
            weather.zombie = rng.choice((0.02, 0.1))
        return weather

    def _tables_weather(self, rng: Random) -> TablesWeather:
        weather = TablesWeather(self.random("tables"), seconds=rng.choice((0.002, 0.05)))
        if self.troubles.database_errors:
            weather.not_done = rng.choice((0.0, 0.15))
            weather.answer_lost = rng.choice((0.0, 0.15))
            weather.said_only = rng.choice((0.0, 0.15))
            weather.twice = rng.choice((0.0, 0.03))
            weather.zombie = rng.choice((0.0, 0.15))
            weather.survives_kill = rng.choice((0.0, 0.5, 1.0))
            weather.error = rng.choice((0.0, 0.05))
        return weather

    def _refuse(self, operation: str, path: str) -> int | None:
        failing = self.disk_failing and path.startswith(SPOOL) and operation != "rename"
        if failing and self.disk.rng.random() < 0.3:
            return self.disk.rng.choice((errno.EIO, errno.ENOSPC))
        return None

    # -- the pod -------------------------------------------------------------------------------

    def start_container(self, name: str, restart: int) -> Container:
        """The container runs and logs, on both streams."""
        writer = f"{POD_UID}/{name}/{restart}"
        rng = self.random(writer)
        container = Container(
            self.disk,
            self.oracle,
            self.oracle.track(writer, "logs"),
            self.wall,
            f"{POD_FOLDER}/{name}",
            restart,
            zone=rng.choice(("Z", "Z", "+02:00", "-07:00")),
        )
        container.reopen()
        self.containers[name] = container
        self.kubelet.containers.append(container)
        self.loggers[name] = [
            asyncio.create_task(
                Logger(
                    container,
                    stream,
                    self.oracle,
                    self.random(f"{writer} {stream}"),
                    self.manners,
                    self.chronicle,
                ).run(),
                name=f"{writer} {stream}",
            )
            for stream in ("stdout", "stderr")
        ]
        return container

    async def stop_container(self, name: str) -> Container:
        """It ends, wherever it is in its lines."""
        for task in self.loggers.pop(name, ()):
            task.cancel()
            await asyncio.wait([task])
        container = self.containers[name]
        container.stop()
        return container

    async def restart_container(self, name: str) -> None:
        old = await self.stop_container(name)
        self.chronicle.note(f"container {name} restarts as {old.restart + 1}")
        await asyncio.sleep(self.rng.uniform(0, 1))
        self.start_container(name, old.restart + 1)

    def start_spans(self) -> Coroutine[Any, Any, None]:
        """A program that writes span files."""
        self.span_writer = SpanWriter(
            self.disk,
            self.oracle,
            self.wall,
            self.random("spans"),
            self.chronicle,
            folder=SPANS,
            pod_uid=POD_UID,
            bad=0.05 if self.troubles.bad_lines else 0.0,
        )
        return self.span_writer.run()

    def otlp_client(self, send: Any) -> OtlpClient:
        """A program with an OpenTelemetry SDK."""
        return OtlpClient(
            send,
            self.oracle,
            self.wall,
            self.random("otlp"),
            self.chronicle,
            pod_uid=POD_UID,
            pause=self.rng.choice((0.3, 1.0)),
        )

    async def run_kubelet(self) -> None:
        """Visits every container's files for ever."""
        rng = self.random("kubelet visits")
        while True:
            await asyncio.sleep(rng.uniform(0.2, 4))
            for container in list(self.kubelet.containers):
                await self.kubelet.rotate(container)

    async def run_writeback(self) -> None:
        """The kernel writes dirty pages back after a while, with nobody asking."""
        rng = self.random("writeback")
        while True:
            await asyncio.sleep(rng.uniform(5, 60))
            self.disk.settle()

    async def cut_power(self) -> None:
        """The node goes down and comes up: every process on it is dead, all containers restart."""
        self.chronicle.note("power loss")
        names = list(self.containers)
        for name in names:
            await self.stop_container(name)
        if self.span_writer is not None:
            self.span_writer.die()
        self.disk.power_loss(
            self.random(f"power {self.rng.random()}"), zeros=lambda path: path.startswith(SPOOL)
        )
        self.oracle.power_lost(self.disk.files())
        for name in names:
            old = self.containers[name]
            if not self.ending:
                self.start_container(name, old.restart + 1)
