"""Two ingesters that both believe they own a shard: every record once, whoever is quicker.

The races run under virtual time: one seed, one interleaving. The rest sets up by hand what is rare.
"""

import asyncio
import random
from collections.abc import Callable

import pytest

from spanyard_core.errors import DatabaseError
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.settings import IngesterSettings
from tests.fakes.objects import NOON_NS, log_chunk
from tests.sim import bucket as sim_bucket
from tests.sim.bucket import Bucket
from tests.sim.clock import SimClock, WallClock
from tests.sim.disk import Disk
from tests.sim.loop import run
from tests.sim.tables import Tables, Weather
from tests.sim.warehouse import SimWarehouse
from tests.unit.ingester.bench import Bench
from tests.unit.ingester.test_recovery import killed_at

SEEDS = range(8)
WRITERS = 30


class StoppedClock(WallClock):
    """Wall time that stands still: nothing but chance tells two numbers made of it apart."""

    def time_ns(self) -> int:
        return NOON_NS


class NoChance(random.Random):
    """Gives everybody the same bits."""

    def getrandbits(self, k: int, /) -> int:
        return 0


class Race:
    """One bucket, one database, two ingesters: as far apart as the seed says."""

    def __init__(self, seed: int, *, latency: float, wall: WallClock | None = None) -> None:
        self.wall = wall or WallClock(NOON_NS)
        weather = sim_bucket.Weather(random.Random(seed), latency=latency)
        self.bucket = Bucket(self.wall.time_ns, weather=weather)
        self.tables = Tables(Weather(random.Random(seed)))
        self.one, self.two = (self._ingester(seed, owner) for owner in ("one", "two"))

    def _ingester(self, seed: int, owner: str) -> Ingester:
        rng = random.Random(f"{seed} {owner}")
        disk = Disk(self.wall, rng=rng)
        disk.mkdir("/tmp")
        return Ingester(
            IngesterSettings(
                storage="sim:///", clickhouse="-", temp_dir="/tmp", owner=owner, batch_objects=3
            ),
            self.bucket.view(),
            SimWarehouse(self.tables, read_file=lambda path: bytes(disk.inode(str(path)).data)),
            disk.view(),
            SimClock(self.wall),
            rng,
        )

    async def run(self) -> None:
        """Each has a turn of its own, then both work at once to the end."""
        storage = self.bucket.view()
        for number in range(WRITERS):
            await storage.write(*log_chunk(f"w{number}", 1, 5))
        for ingester in (self.one, self.two):
            await ingester.start()
            await ingester.list_once()
            await ingester.examine_once()
            await ingester.load_once()
            assert ingester.loader.counts.rows == 15
        await asyncio.gather(self.one.drain(), self.two.drain())
        self.check()

    def check(self) -> None:
        stored = sorted((row["writer"], row["seq"]) for row in self.tables.rows("logs"))
        assert stored == sorted((f"w{n}", seq) for n in range(WRITERS) for seq in range(1, 6))
        counts = [ingester.loader.counts for ingester in (self.one, self.two)]
        assert sum(count.rows for count in counts) == 5 * WRITERS, "nothing was loaded in vain"
        assert [count.refused + count.abandoned for count in counts] == [0, 0]
        assert not self.one.ledger.state.open
        assert not self.bucket.keys("observability/")


def race(make: Callable[[int], Race]) -> int:
    """Run all seeds; how many appends came too late in all."""
    conflicts = 0
    for seed in SEEDS:

        async def history(seed: int = seed) -> int:
            one = make(seed)
            await one.run()
            return one.one.ledger.conflicts + one.two.ledger.conflicts

        conflicts += run(history())
    return conflicts


@pytest.mark.parametrize("latency", [0.0, 0.01], ids=["in lockstep", "out of step"])
def test_both_work_on_one_shard_and_nothing_is_twice(latency: float) -> None:
    assert race(lambda seed: Race(seed, latency=latency)) > len(SEEDS)


@pytest.mark.parametrize("latency", [0.0, 0.01], ids=["in lockstep", "out of step"])
def test_owners_that_draw_the_same_numbers_do_not_take_each_others_plan_for_their_own(
    latency: float,
) -> None:
    """Rows were twice, or a plan was run with objects that it does not have, or never."""

    def make(seed: int) -> Race:
        made = Race(seed, latency=latency, wall=StoppedClock())
        made.one.loader.rng = made.two.loader.rng = NoChance()
        return made

    assert race(make) > len(SEEDS)


def test_an_insert_that_lasts_long_is_not_taken_over_while_its_owner_lives() -> None:
    """Both would insert the same again and again, each in vain."""

    async def history() -> None:
        made = Race(0, latency=0.01)
        insert = made.one.warehouse.insert

        async def slow(*args: object, **more: object) -> None:
            await asyncio.sleep(300)
            await insert(*args, **more)  # type: ignore[arg-type]

        made.one.warehouse.insert = slow  # type: ignore[method-assign]
        await made.bucket.view().write(*log_chunk("w", 1, 5))
        for ingester in (made.one, made.two):
            await ingester.start()
        slowly = asyncio.create_task(made.one.drain())
        await asyncio.sleep(1)
        await made.two.drain()
        await slowly
        assert made.one.loader.counts.rows == 5
        assert len(made.tables.rows("logs")) == 5
        assert not made.two.ledger.state.dead
        assert made.one.ledger.state.n < 50, "few words"

    run(history())


async def test_a_silent_owners_plan_is_taken_over_after_a_while(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10))
    await killed_at(await bench.started("one"), "ingest.planned")
    two = await bench.started("two", takeover_after=30)
    started = bench.clock.now
    await two.step()
    assert bench.seqs("w") == [], "too early"
    await two.drain()
    assert bench.clock.now - started >= 30
    assert bench.seqs("w") == list(range(1, 11))


async def test_the_one_who_was_taken_over_deletes_its_rows(bench: Bench) -> None:
    """It was only slow: it inserts after the other has given its attempt up."""
    await bench.put(log_chunk("w", 1, 10))
    slow = await bench.started("slow", after_load="keep")
    insert = slow.warehouse.insert
    two = await bench.started("two", takeover_after=0, after_load="keep")
    landed = False

    async def late(*args: object, **more: object) -> None:
        slow.warehouse.insert = insert  # type: ignore[method-assign]
        await two.ledger.refresh()
        await two.recovery.take_over()
        await two.drain()
        assert bench.seqs("w") == list(range(1, 11))
        await insert(*args, **more)  # type: ignore[arg-type]
        nonlocal landed
        landed = len(bench.seqs("w")) == 20

    slow.warehouse.insert = late  # type: ignore[method-assign]
    await slow.drain()
    assert landed
    assert bench.seqs("w") == list(range(1, 11))
    assert two.loader.counts.rows == 10


async def test_the_one_who_was_finished_for_does_not_object(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10))
    slow = await bench.started("slow")
    insert = slow.warehouse.insert
    two = await bench.started("two", takeover_after=0)

    async def late(*args: object, **more: object) -> None:
        await insert(*args, **more)  # type: ignore[arg-type]
        await two.ledger.refresh()
        await two.recovery.take_over()

    slow.warehouse.insert = late  # type: ignore[method-assign]
    await slow.drain()
    assert bench.seqs("w") == list(range(1, 11))
    assert not slow.ledger.state.dead


@pytest.mark.parametrize("objects", [1, 2])
async def test_rows_that_another_one_committed_are_not_deleted(
    bench: Bench, caplog: pytest.LogCaptureFixture, objects: int
) -> None:
    """It was finished for, and then its insert was carried out again: that looks odd to it."""
    for number in range(objects):
        await bench.put(log_chunk(f"w{number}", 1, 10))
    slow = await bench.started("slow")
    insert = slow.warehouse.insert
    two = await bench.started("two", takeover_after=0)

    async def late(*args: object, **more: object) -> None:
        await insert(*args, **more)  # type: ignore[arg-type]
        await two.ledger.refresh()
        await two.recovery.take_over()
        await insert(*args, **more)  # type: ignore[arg-type]
        raise DatabaseError("the connection was closed", code=210)

    slow.warehouse.insert = late  # type: ignore[method-assign]
    await slow.drain()
    for number in range(objects):
        assert set(bench.seqs(f"w{number}")) == set(range(1, 11)), "committed, so it must be there"
    assert not slow.ledger.state.dead
    assert "was committed by another ingester, and does not hold what it should" in caplog.text
