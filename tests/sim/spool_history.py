"""Histories of the spool alone: commits, uploads, kills at fault points, power cuts, a full disk.

Small and quick, so that many orders of sync, rename and crash are met. The promise: a commit that
returned is there for ever; one that raised, or was under way, is there whole or not at all.
"""

import asyncio
import contextlib
import errno
import hashlib
import random

from spanyard_core.chunks import ChunkWriter
from spanyard_sidecar.budget import DiskBudget, SpoolFullError, on_disk
from spanyard_sidecar.entries import DamagedEntryError
from spanyard_sidecar.model import NewObject
from spanyard_sidecar.spool import Spool, SpoolSettings
from tests.sim.chronicle import Chronicle
from tests.sim.clock import SimClock, WallClock
from tests.sim.disk import Disk
from tests.sim.faults import Kills
from tests.sim.process import Process

LIMIT = 256 * 1024
DIRECTORY = "/pod/spool"
POINTS = ("spool.written", "spool.renamed", "spool.durable", "spool.marked")


class SpoolHistory:
    """One seed."""

    def __init__(self, seed: int, chronicle: Chronicle) -> None:
        self.rng = random.Random(f"spool {seed}")
        self.chronicle = chronicle
        self.wall = WallClock()
        self.disk = Disk(self.wall, rng=random.Random(f"disk {seed}"), sync_seconds=0.002)
        self.kills = Kills(random.Random(f"kills {seed}"), chronicle, POINTS)
        self.done: list[dict[str, object]] = []
        """States after each commit that returned."""
        self.states: dict[str, object] = {}
        self.maybe: list[dict[str, object]] = []
        """States after commits that raised, or were under way at a death, since the last that
        returned: nobody has seen them, but their bytes may turn up."""
        self.objects: dict[str, str] = {}
        """Key → digest of every object whose commit returned and that was never uploaded."""
        self.counter = 0
        self.failing = self.opening = False

    async def run(self) -> None:
        self.disk.mkdir("/pod")
        self.disk.settle()
        if self.rng.random() < 0.3:
            self.disk.capacity["/pod"] = self.rng.randint(LIMIT // 4, LIMIT)
        self.disk.refuse = self._refuse
        for life in range(self.rng.randint(2, 6)):
            await self._life(life)
        self.failing = False
        self.disk.capacity.clear()
        await self._recover(Process("last"))

    async def _life(self, life: int) -> None:
        process = Process(f"spool-{life}")
        self.kills.arm(process)
        self.failing = False
        task = process.start(self._program(process))
        end = asyncio.get_running_loop().time() + self.rng.uniform(0, 30)
        while process.alive and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.rng.uniform(0, 1))
            if process.alive and task.done():
                task.result()
            if self.rng.random() < 0.05:
                self.failing = not self.failing
        if process.alive:
            self.chronicle.note(f"{process.name} is killed")
            process.kill()
        self.failing = False
        if self.rng.random() < 0.6:
            self.chronicle.note("power loss")
            self.disk.power_loss(self.rng, zeros=lambda path: True)
        else:
            self.disk.crash()

    def _refuse(self, operation: str, path: str) -> int | None:
        used = sum(on_disk(len(i.data)) for i in self.disk.files())
        # A power cut may bring back what was deleted for the entry that was just being written.
        slack = on_disk(3 * 40100) if self.opening else 0
        assert used <= LIMIT + slack, (
            f"the spool takes {used} of {LIMIT} bytes at {operation} {path}"
        )
        if self.failing and operation in {"write", "sync", "sync_dir"} and self.rng.random() < 0.5:
            return self.rng.choice((errno.EIO, errno.ENOSPC))
        return None

    async def _open(self, process: Process) -> Spool:
        self.opening = True
        while True:
            try:
                spool = await Spool.open(
                    self.disk.view(process),
                    DIRECTORY,
                    clock=SimClock(self.wall, process),
                    rng=self.rng,
                    budget=DiskBudget(LIMIT),
                    settings=SpoolSettings(ring_seconds=5, ring_bytes=LIMIT // 4, reserve=16384),
                )
            except OSError as error:
                self.chronicle.note(f"open: {error}")
                await asyncio.sleep(1)
            else:
                self.opening = False
                return spool

    async def _recover(self, process: Process) -> Spool:
        spool = await self._open(process)
        states: dict[str, object] = dict(spool.states)
        if states in self.maybe:
            self.states = states
        self.maybe.clear()
        assert states == self.states, f"states {states} instead of {self.states}"
        assert not spool.holes, spool.holes
        there = {}
        for n in spool.pending:
            with spool.opened(n) as entry:
                for item in entry.head.objects:
                    there[item.key] = hashlib.sha256(entry.read(item)).hexdigest()
        for key, digest in self.objects.items():
            assert there.get(key) == digest, f"{key} was committed and is gone"
        return spool

    async def _program(self, process: Process) -> None:
        spool = await self._recover(process)
        clock = SimClock(self.wall, process)
        while True:
            await clock.sleep(self.rng.uniform(0, 1))
            await spool.maintain()
            if self.rng.random() < 0.7:
                await self._commit(spool)
            if spool.pending and self.rng.random() < 0.6:
                self._upload(spool)

    async def _commit(self, spool: Spool) -> None:
        objects = [self._object() for _ in range(self.rng.randint(0, 3))]
        states: dict[str, object] = {f"w{self.rng.randint(0, 5)}": {"n": self.counter}}
        if self.states and self.rng.random() < 0.1:
            states[self.rng.choice(sorted(self.states))] = None
        after = {w: s for w, s in {**self.states, **states}.items() if s is not None}
        self.maybe.append(after)
        try:
            n = await spool.commit(objects, states)  # type: ignore[arg-type]  # JSON-able
        except (SpoolFullError, OSError) as error:
            self.chronicle.note(f"commit: {error}")
            return
        self.chronicle.note(f"commit {n} of {len(objects)} objects")
        self.maybe.clear()
        self.states = after
        for item in objects:
            self.objects[item.key] = hashlib.sha256(b"".join(item.parts)).hexdigest()

    def _object(self) -> NewObject:
        self.counter += 1
        chunk = ChunkWriter()
        chunk.add(self.rng.randbytes(self.rng.choice((10, 5000, 40000))), 1)
        facts, parts = chunk.finish(
            signal="logs",
            project="ns.p",
            writer=f"x{self.counter}",
            first=1,
            last=1,
            time_ns=0,
        )
        return NewObject(facts.name.key(), facts, parts)

    def _upload(self, spool: Spool) -> None:
        n = next(iter(spool.pending))
        with contextlib.suppress(OSError, DamagedEntryError), spool.opened(n) as entry:
            keys = [item.key for item in entry.head.objects]
            for key in keys:
                self.objects.pop(key, None)
            spool.mark_stored(n)
