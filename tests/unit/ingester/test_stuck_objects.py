"""Single objects that cannot be read or moved: the others go on, and these come back."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from spanyard_core.errors import StorageError
from spanyard_core.storage import Storage
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.metrics import IngesterMetrics
from tests.fakes.objects import log_chunk, log_line
from tests.unit.ingester.bench import Bench


class Failing:
    """A storage that does not give some objects away."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.broken: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def read(self, key: str, **more: Any) -> bytes:
        self._check(key)
        return await self._storage.read(key, **more)

    async def move(self, key: str, target: str) -> None:
        self._check(key)
        await self._storage.move(key, target)

    def _check(self, key: str) -> None:
        if key in self.broken:
            raise StorageError(f"cannot read {key}: 500")


@pytest.fixture
def failing(bench: Bench) -> Failing:
    made = Failing(bench.storage)
    bench.storage = made
    return made


def large_chunk(writer: str, rng: random.Random) -> tuple[str, bytes]:
    """So large that it is not kept in memory from its head on; line 4 is bad."""
    lines = {n: log_line(writer, n, message=rng.randbytes(100).hex()) for n in range(1, 301)}
    return log_chunk(writer, 1, 300, instead={**lines, 4: b"{}\n"})


def sample(ingester: Ingester, name: str) -> float | None:
    return IngesterMetrics(ingester).registry.get_sample_value(f"spanyard_ingester_{name}")


def break_at_insert(ingester: Ingester, failing: Failing, keys: Sequence[str]) -> None:
    """These objects cannot be read any more from the next insert on."""
    insert = ingester.warehouse.insert

    async def breaking(*args: Any, **more: Any) -> None:
        ingester.warehouse.insert = insert  # type: ignore[method-assign]
        failing.broken.update(keys)
        await insert(*args, **more)

    ingester.warehouse.insert = breaking  # type: ignore[method-assign]


async def test_an_object_of_a_refused_batch_that_cannot_be_read_does_not_hold_up_the_rest(
    bench: Bench, failing: Failing
) -> None:
    rng = random.Random(1)
    stuck = await bench.put(large_chunk("stuck", rng))
    await bench.put(large_chunk("bad", rng))
    await bench.put(log_chunk("good", 1, 10))
    ingester = await bench.started()
    break_at_insert(ingester, failing, [stuck])
    await ingester.list_once()
    await ingester.examine_once()
    before = bench.clock.now
    assert await ingester.load_once()
    assert bench.clock.now - before < 30
    assert bench.seqs("good") == list(range(1, 11))
    assert bench.seqs("bad") == [n for n in range(1, 301) if n != 4]
    assert bench.seqs("stuck") == []
    assert sample(ingester, "unread_objects_total") == 1
    failing.broken.clear()
    await ingester.drain()
    assert bench.seqs("stuck") == [n for n in range(1, 301) if n != 4]
    assert [row.line for row in bench.bad.values()] == [4, 4]
    assert all(row.bytes == b"{}" for row in bench.bad.values())


async def test_when_storage_is_away_a_refused_batch_is_given_back_within_seconds(
    bench: Bench, failing: Failing
) -> None:
    rng = random.Random(1)
    keys = [await bench.put(large_chunk(f"w{n}", rng)) for n in range(8)]
    ingester = await bench.started()
    break_at_insert(ingester, failing, keys)
    await ingester.list_once()
    await ingester.examine_once()
    before = bench.clock.now
    assert await ingester.load_once()
    assert bench.clock.now - before < 30
    assert not ingester.ledger.state.open
    failing.broken.clear()
    await ingester.drain()
    assert len(bench.stored()) == 8 * 299
    assert len(bench.bad) == 8


async def test_a_rejected_object_that_cannot_be_read_does_not_hold_up_other_quarantine_rows(
    bench: Bench, failing: Failing
) -> None:
    keys = []
    for number in range(6):
        key, data = log_chunk(f"w{number}", 1, 3)
        keys.append(await bench.put((key, data[:-20])))
    ingester = await bench.started()
    await ingester.list_once()
    await ingester.examine_once()
    while await ingester.load_once():
        pass
    failing.broken.update(keys[:2])
    await ingester.settle_once()
    assert {row.key for row in bench.bad.values()} == set(keys[2:])
    assert sample(ingester, "unfiled") == 2
    assert sample(ingester, "unfiled_put_off") == 2
    assert not await ingester.step(), "nothing that could be done just now"
    failing.broken.clear()
    await ingester.drain()
    assert {row.key for row in bench.bad.values()} == set(keys)
    assert sample(ingester, "unfiled_put_off") == 0
    assert len(await bench.keys("quarantine/")) == 6
