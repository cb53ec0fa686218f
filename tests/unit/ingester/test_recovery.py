"""Whatever an insert did and whoever died over it: every record once."""

import asyncio
import random

import pytest

from spanyard_core.faults import set_hook
from spanyard_ingester.attempts import Attempts
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.operations import Plan, processed_key
from spanyard_ingester.verify import Stored
from tests.fakes.objects import log_chunk
from tests.sim.tables import Part
from tests.unit.ingester.bench import Bench


class Killed(BaseException):
    """Stands for SIGKILL."""


async def killed_at(ingester: Ingester, point: str) -> None:
    """Let the ingester work until it passes `point`."""

    def hook(name: str) -> None:
        if name == point:
            raise Killed

    set_hook(hook)
    try:
        with pytest.raises(BaseException) as caught:
            await ingester.drain()
        assert (
            caught.group_contains(Killed)
            if isinstance(caught.value, BaseExceptionGroup)
            else isinstance(caught.value, Killed)
        )
    finally:
        set_hook(None)


POINTS = [
    "ingest.before-plan",
    "ingest.planned",
    "ingest.inserted",
    "ingest.derived",
    "ingest.committed",
    "ingest.moved",
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_death_at_any_point_leaves_nothing_lost_or_twice(bench: Bench, point: str) -> None:
    await bench.put(log_chunk("w", 1, 10))
    await bench.put(log_chunk("w", 11, 20))
    await killed_at(await bench.started(), point)
    survivor = await bench.started()
    await survivor.drain()
    assert bench.seqs("w") == list(range(1, 21))
    assert len(await bench.keys("processed/")) == 2
    assert not survivor.ledger.state.open
    assert not survivor.ledger.state.unsettled


@pytest.mark.parametrize("point", ["ingest.scanned", "ingest.closed", "ingest.quarantined"])
async def test_a_death_while_bad_lines_are_dealt_with(bench: Bench, point: str) -> None:
    await bench.put(log_chunk("w", 1, 10, instead={4: b"{}\n"}))
    await killed_at(await bench.started(), point)
    survivor = await bench.started()
    await survivor.drain()
    assert bench.seqs("w") == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert [row.line for row in bench.bad.values()] == [4]
    assert not survivor.ledger.state.unfiled


async def test_a_retry_on_another_day_is_stored_once(bench: Bench) -> None:
    """No deduplication window is that long, and the partition is another."""
    await bench.put(log_chunk("w", 1, 10))
    await killed_at(await bench.started(), "ingest.inserted")
    bench.clock.now += 30 * 3600
    await (await bench.started()).drain()
    assert bench.seqs("w") == list(range(1, 11))
    [part] = bench.tables.parts["logs"]
    assert part.day.isoformat() == "2026-11-21", "the day is the plan's"


async def test_an_object_copied_and_not_deleted_is_not_loaded_again(bench: Bench) -> None:
    key, data = log_chunk("w", 1, 10)
    await bench.put((key, data))
    await killed_at(await bench.started(), "ingest.committed")
    await bench.storage.write(processed_key(key), data)
    await (await bench.started()).drain()
    assert bench.seqs("w") == list(range(1, 11))
    assert await bench.keys() == [processed_key(key)]


WEATHER = ["not_done", "answer_lost", "said_only", "twice", "zombie"]


@pytest.mark.parametrize("kind", WEATHER)
async def test_an_insert_that_lies_is_found_out(bench: Bench, kind: str) -> None:
    for number in range(4):
        await bench.put(log_chunk(f"w{number}", 1, 10))
    ingester = await bench.started()
    weather = bench.tables.weather
    weather.rng = random.Random(kind)
    setattr(weather, kind, 0.6)
    weather.survives_kill = 1.0
    weather.zombie_seconds = 0.2
    await ingester.drain()
    weather.calm()
    if kind == "zombie":
        await asyncio.sleep(0.5)  # they land
    await ingester.audit()
    for number in range(4):
        assert bench.seqs(f"w{number}") == list(range(1, 11))
    assert not bench.bad, "it was never the data"


async def test_an_object_stored_twice_by_the_client_is_no_bad_object(bench: Bench) -> None:
    """Twice in a row, alone in its batch: it looks like an object that holds its lines twice."""
    await bench.put(log_chunk("w", 1, 10))
    ingester = await bench.started()
    weather = bench.tables.weather
    weather.twice = 1.0
    for _ in range(2):
        await ingester.list_once()
        bench.clock.now += 60
        await ingester.examine_once()
        assert await ingester.load_once()
        assert bench.seqs("w") == [], "what was stored twice is deleted"
    weather.calm()
    await ingester.drain()
    assert bench.seqs("w") == list(range(1, 11))
    assert not bench.bad


async def test_rows_of_an_attempt_given_up_that_land_late_are_deleted_exactly(
    bench: Bench,
) -> None:
    await bench.put(log_chunk("w", 1, 10))
    ingester = await bench.started()
    bench.tables.weather.said_only = 1.0
    await ingester.list_once()
    await ingester.examine_once()
    await ingester.load_once()
    bench.tables.weather.calm()
    await ingester.drain()
    [dead] = ingester.ledger.state.dead
    good = bench.tables.parts["logs"][0]
    bench.tables.parts["logs"].append(Part(dead, good.day, list(good.rows)))
    assert len(bench.seqs("w")) == 20
    again = await bench.started()
    assert bench.seqs("w") == list(range(1, 11))
    assert again.recovery.zombies == 1


async def test_the_read_back_is_what_protects(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, an insert that says it was done and was not loses records."""

    async def believe(self: Attempts, plan: Plan) -> tuple[Stored, str]:
        return Stored.ALL, ""

    monkeypatch.setattr(Attempts, "stored", believe)
    await bench.put(log_chunk("w", 1, 10))
    bench.tables.weather.said_only = 1.0
    await (await bench.started()).drain()
    assert bench.seqs("w") == []
