"""Histories of the collector, with or without the ingester behind it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import date
from typing import Any

from spanyard_core.chunks import check_chunk
from spanyard_core.object_names import ChunkName, parse_key
from spanyard_ingester.ledger import Ledger
from tests.sim.checker import Checker, Findings
from tests.sim.chronicle import Chronicle
from tests.sim.clock import SimClock
from tests.sim.collecting import POINTS as COLLECTOR_POINTS
from tests.sim.collecting import Collecting
from tests.sim.ingesting import POINTS as INGESTER_POINTS
from tests.sim.ingesting import Ingesting, SimGateway
from tests.sim.keeper import Keeper
from tests.sim.tables import Part
from tests.sim.warehouse import rows_of
from tests.sim.world import SPOOL, World

QUIET_SECONDS = 900.0
"""Virtual time within which everything must have drained once the troubles are over."""


class CollectorHistory:
    """Applications, kubelet, collector, bucket; at the end the objects are read directly."""

    def __init__(self, seed: int, chronicle: Chronicle) -> None:
        self.world = World(seed, chronicle)
        self.kills = self.world.kills
        self.collecting = Collecting(self.world)
        self.findings = Findings()
        self._actors: list[asyncio.Task[None]] = []

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._actors.append(asyncio.create_task(coroutine, name=name))

    async def run(self) -> None:
        world = self.world
        world.chronicle.note(f"troubles: {world.troubles}")
        collecting = self.collecting
        keeper = asyncio.create_task(collecting.keeper.run(), name="collector keeper")
        self._start_applications()
        self._start(self._trouble(), "troubles")
        await self._for(world.rng.uniform(10, 60))
        await self._quiet()
        if world.troubles.collector_fault_points:
            collecting.keeper.arm("collector.drained")
        await collecting.keeper.end()
        await keeper
        collecting.keeper.raise_failures()
        assert not collecting.leftover, collecting.leftover
        collecting.check_span_files()
        await self._load()
        assert collecting.collector is not None
        epoch = collecting.collector.spool.epoch
        self.findings = Checker(world.oracle, world.tables, epoch).check()
        self.findings.raise_if_any()

    def _start_applications(self) -> None:
        world = self.world
        rng = world.random("applications")
        logs, spans, otlp = (rng.random() < share for share in (0.6, 0.4, 0.4))
        logs, spans, otlp = (chosen or self.everything for chosen in (logs, spans, otlp))
        if logs or not (spans or otlp):
            world.start_container("main", 0)
            if world.rng.random() < 0.3:
                world.start_container("proxy", 0)
            self._start(world.run_kubelet(), "kubelet")
            self._start(world.run_writeback(), "writeback")
        if spans:
            self._start(world.start_spans(), "span files")
        if otlp:
            self._start(world.otlp_client(self.collecting.send).run(), "OTLP client")

    async def _for(self, seconds: float) -> None:
        """Let time pass, looking at what must hold at every moment."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.5)
            self.collecting.check_limit()
            for actor in self._actors:
                if actor.done():
                    actor.result()

    # -- troubles ------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        world, troubles = self.world, self.world.troubles
        rng = world.random("when")
        while True:
            await asyncio.sleep(rng.expovariate(1 / 4))
            kinds = [name for name in self.kinds if getattr(troubles, name)]
            if kinds:
                await getattr(self, f"_do_{rng.choice(kinds)}")(rng)

    everything = False
    """All kinds of applications in each history."""
    kinds: tuple[str, ...] = (
        "collector_kills",
        "collector_down",
        "power_loss",
        "disk_errors",
        "disk_full",
        "storage_away",
        "clock_jumps",
        "clock_leaps",
        "container_restarts",
        "span_truncated",
    )

    async def _do_collector_kills(self, rng: Any) -> None:
        self.collecting.keeper.kill()

    async def _do_collector_down(self, rng: Any) -> None:
        keeper = self.collecting.keeper
        keeper.kill()
        keeper.pause()
        await asyncio.sleep(rng.uniform(5, 60))
        keeper.resume()

    async def _do_power_loss(self, rng: Any) -> None:
        keeper = self.collecting.keeper
        keeper.kill()
        keeper.pause()
        await self.world.cut_power()
        await asyncio.sleep(rng.uniform(0, 5))
        keeper.resume()

    async def _do_disk_errors(self, rng: Any) -> None:
        world = self.world
        world.chronicle.note("the disk fails")
        world.disk_failing = True
        await asyncio.sleep(rng.uniform(0.5, 10))
        world.disk_failing = False
        world.chronicle.note("the disk is well again")

    async def _do_disk_full(self, rng: Any) -> None:
        world = self.world
        room = rng.randint(0, 30_000)
        world.chronicle.note(f"only {room} bytes are left on the disk")
        world.disk.capacity[SPOOL] = world.disk.used(SPOOL) + room
        await asyncio.sleep(rng.uniform(2, 20))
        world.disk.capacity.clear()
        world.chronicle.note("there is room on the disk again")

    async def _do_storage_away(self, rng: Any) -> None:
        world = self.world
        world.chronicle.note("storage is away")
        world.bucket.weather.away = True
        await asyncio.sleep(rng.uniform(1, 60))
        world.bucket.weather.away = False
        world.chronicle.note("storage is back")

    async def _do_clock_jumps(self, rng: Any) -> None:
        seconds = rng.uniform(-30, 30)
        self.world.chronicle.note(f"the clock jumps by {seconds:.1f} s")
        self.world.wall.jump(seconds)

    async def _do_clock_leaps(self, rng: Any) -> None:
        seconds = rng.uniform(-7200, 7200)
        self.world.chronicle.note(f"the clock leaps by {seconds:.0f} s")
        self.world.wall.jump(seconds)

    async def _do_container_restarts(self, rng: Any) -> None:
        if self.world.containers:
            await self.world.restart_container(rng.choice(sorted(self.world.containers)))

    async def _do_span_truncated(self, rng: Any) -> None:
        writer = self.world.span_writer
        if writer is not None and writer.open:
            file = writer.open[rng.choice(sorted(writer.open))]
            if rng.random() < 0.5:
                file.cut(0)
            else:
                # Were it to grow again unseen beyond what was read, nobody could tell.
                size = len(file.inode.data) if file.inode is not None else 0
                file.cut(rng.randint(0, size))
                writer.die()

    # -- rest ----------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Troubles stop, applications end, everything drains."""
        world = self.world
        world.chronicle.note("quiet from here on")
        world.ending = True
        for actor in self._actors:
            actor.cancel()
        await asyncio.wait(self._actors)
        for name in list(world.containers):
            await world.stop_container(name)
        if world.span_writer is not None:
            world.span_writer.end()
        world.bucket.weather.calm()
        world.tables.weather.calm()
        world.disk_failing = False
        world.disk.capacity.clear()
        world.kills.disarm()
        for keeper in self._keepers():
            keeper.points = ()
            keeper.resume()
        if world.random("haste").random() < 0.7:
            await self._until_drained()
        else:
            world.chronicle.note("the collector ends at once")

    def _keepers(self) -> list[Keeper]:
        return [self.collecting.keeper]

    def _rest(self) -> tuple[object, ...]:
        """What is left to do; equal for a while means that nothing moves."""
        return (self.collecting.pending(), len(self.world.bucket.objects))

    def _is_drained(self) -> bool:
        return self.collecting.pending() == 0

    async def _until_drained(self) -> None:
        loop = asyncio.get_running_loop()
        end, still, before = loop.time() + QUIET_SECONDS, 0.0, self._rest()
        while still < 30 or not self._is_drained():
            await asyncio.sleep(1)
            self.collecting.check_limit()
            now = self._rest()
            still = still + 1 if now == before else 0.0
            before = now
            assert loop.time() < end, f"does not come to rest: {now}"

    async def _load(self) -> None:
        """Without an ingester: what is in the bucket is what is stored."""
        for attempt, (key, stored) in enumerate(self.world.bucket.objects.items(), 1):
            name = parse_key(key)
            assert isinstance(name, ChunkName), key
            facts = check_chunk(stored.data)
            assert facts.name.key() == key, f"{key} declares {facts.name.key()}"
            rows, bad = rows_of(name.signal, stored.data)
            numbers = sorted(row["seq"] for row in rows + bad)
            assert numbers == list(range(facts.first, facts.last + 1)), key
            self.world.tables.bad += bad
            part = Part(attempt, date(2026, 11, 21), rows)
            self.world.tables.parts.setdefault(name.signal, []).append(part)
        for row in self.world.tables.rows("spans"):
            self.world.tables.index_trace(row)


def aimed(point: str) -> Callable[[int, Chronicle], "FullHistory"]:
    """Histories in which processes die at this fault point, again and again."""

    class Aimed(FullHistory):
        everything = True

        def __init__(self, seed: int, chronicle: Chronicle) -> None:
            super().__init__(seed, chronicle)
            self.world.troubles.bad_lines = True
            keepers = [self.collecting.keeper, *(i.keeper for i in self.ingesters)]
            for keeper, points in zip(
                keepers, [COLLECTOR_POINTS, *[INGESTER_POINTS] * len(self.ingesters)], strict=True
            ):
                keeper.points = (point,) if point in points else ()
                keeper.armed_share = 1.0

    return Aimed


class FullHistory(CollectorHistory):
    """All of it: applications to tables."""

    kinds = (*CollectorHistory.kinds, "spool_lost", "ingester_kills", "database_away")

    def __init__(self, seed: int, chronicle: Chronicle) -> None:
        super().__init__(seed, chronicle)
        world = self.world
        names = ("ingester-a", "ingester-b") if world.troubles.two_ingesters else ("ingester-a",)
        self.ingesters = [Ingesting(world, name) for name in names]
        self.collecting.gateway = SimGateway(world, self.ingesters)
        self._keeping: list[asyncio.Task[None]] = []

    def _keepers(self) -> list[Keeper]:
        return [*super()._keepers(), *(ingester.keeper for ingester in self.ingesters)]

    def _start_applications(self) -> None:
        super()._start_applications()
        self._keeping = [
            asyncio.create_task(ingester.keeper.run(), name=ingester.name)
            for ingester in self.ingesters
        ]

    async def _do_spool_lost(self, rng: Any) -> None:
        await self.collecting.lose_spool()
        self.world.oracle.spool_lost()

    async def _do_ingester_kills(self, rng: Any) -> None:
        rng.choice(self.ingesters).keeper.kill()

    async def _do_database_away(self, rng: Any) -> None:
        world = self.world
        world.chronicle.note("the database is away")
        world.tables.weather.away = True
        await asyncio.sleep(rng.uniform(1, 60))
        world.tables.weather.away = False
        world.chronicle.note("the database is back")

    def _rest(self) -> tuple[object, ...]:
        tables = self.world.tables
        return (
            *super()._rest(),
            sorted((table, len(parts)) for table, parts in tables.parts.items()),
            len(tables.quarantine),
            len(tables.ledger),
            len(tables.inserts),
        )

    def _is_drained(self) -> bool:
        if self.world.tables.inserts:
            return False  # a zombie is still to land
        settings = self.ingesters[0].settings
        pending = self.world.bucket.keys("observability/")
        return super()._is_drained() and (settings.after_load == "keep" or not pending)

    async def _load(self) -> None:
        await self._until_drained()
        for ingester in self.ingesters:
            await ingester.keeper.end()
        await asyncio.gather(*self._keeping)
        for ingester in self.ingesters:
            ingester.keeper.raise_failures()
        await self._check_ledger()

    async def _check_ledger(self) -> None:
        world, tables = self.world, self.world.tables
        ledger = Ledger(
            world.bucket.view(), SimClock(world.wall), world.random("checker"), owner="checker"
        )
        state = await ledger.load()
        assert not state.open, f"open plans: {sorted(state.open)}"
        assert not state.unfiled, f"quarantine without rows: {sorted(state.unfiled)}"
        for table, parts in tables.parts.items():
            for part in parts:
                assert part.attempt not in state.dead, (
                    f"rows of attempt {part.attempt}, which was given up, are in {table}"
                )
        for row in tables.quarantine.values():
            assert row.line, f"{row.key} is in quarantine: {row.reason}"
            tables.bad.append(json.loads(row.bytes))
