"""Input made to do harm: it costs its own place and nobody else's."""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import pytest

from spanyard_core.chunks import FRAME_MAGIC, Source
from spanyard_core.errors import StorageRefusedError
from spanyard_core.records import Signal
from spanyard_core.storage import Storage
from spanyard_ingester import scan
from spanyard_ingester.compaction import DEAD_MOST, prune
from spanyard_ingester.ledger_state import Dead, LedgerState
from spanyard_ingester.operations import processed_key
from tests.fakes.objects import chunk, log_chunk, log_line
from tests.unit.ingester.bench import Bench


def framed(facts: bytes) -> bytes:
    """An object whose first frame says this."""
    return FRAME_MAGIC + len(facts).to_bytes(4, "little") + facts


async def only_the_good(bench: Bench) -> str:
    """The reason for which the one bad object is rejected; the good one is loaded."""
    await bench.put(log_chunk("good", 1, 3, project="zoo.last"))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("good") == [1, 2, 3]
    [row] = bench.bad.values()
    return row.reason


async def test_a_frame_nested_too_deeply_is_rejected(bench: Bench) -> None:
    key, _ = log_chunk("w", 1, 3)
    await bench.put((key, framed(b'{"v":1,"x":' + b"[" * 7_000 + b"]" * 7_000 + b"}")))
    assert "not readable" in await only_the_good(bench)


async def test_a_writer_with_an_endless_name_is_rejected(bench: Bench) -> None:
    """The ledger would carry it, once per object."""
    await bench.put(log_chunk("w" * 2_000, 1, 1))
    assert "name of 2000 characters" in await only_the_good(bench)


async def test_records_from_before_1970_are_loaded(bench: Bench) -> None:
    """One odd clock in front must not cost all the lines behind it."""
    lines = [log_line("w", 1, timestamp="1969-07-20T20:17:40Z"), log_line("w", 2)]
    facts, data = chunk(lines, writer="w", first=1, last=2, time_ns=-14_182_940 * 10**9)
    await bench.put((facts.name.key(), data))
    await (await bench.started()).drain()
    assert bench.seqs("w") == [1, 2]
    assert not bench.bad


async def test_an_object_with_holes_leaves_no_temporary_file(bench: Bench) -> None:
    facts, data = chunk([log_line("w", s) for s in (1, 2, 4)], writer="w", first=1, last=4)
    await bench.put((facts.name.key(), data))
    await (await bench.started()).drain()
    assert bench.seqs("w") == [1, 2, 4]
    assert not list(Path(bench.folder).glob("spanyard-ingester-*/*"))


async def test_an_object_of_nothing_but_holes_is_rejected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500,000 of them, backwards, took 200 s of everybody's time."""
    monkeypatch.setattr(scan, "MOST_RUNS", 100)
    seqs = range(403, 0, -2)
    facts, data = chunk([log_line("w", s) for s in seqs], writer="w", first=1, last=403)
    await bench.put((facts.name.key(), data))
    assert "holes" in await only_the_good(bench)


async def test_a_long_frame_is_no_reason_to_reject_what_was_loaded(bench: Bench) -> None:
    """A line in many pieces makes one; after a crash its object is looked at again."""
    pieces = [(1_000_000 + n * 8192, 8192) for n in range(1_500)]
    source = Source("256:00", 0, 10_000_000, pieces)
    key, data = log_chunk("w", 1, 3, source=source)
    assert int.from_bytes(data[4:8], "little") > 16 * 1024
    await bench.put((key, data))
    ingester = await bench.started()
    await ingester.list_once()
    await ingester.examine_once()
    await ingester.load_once()
    assert await bench.keys() == [key], "committed, and not moved yet"
    await (await bench.started()).drain()
    assert bench.seqs("w") == [1, 2, 3]
    assert not bench.bad
    assert await bench.keys() == [processed_key(key)]


class Locked:
    """A storage that refuses to read some objects: their key is gone, or their rights are."""

    def __init__(self, storage: Storage) -> None:
        self.inner = storage

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if "/team.locked/" in key:
            raise StorageRefusedError(f"{key}: permission is missing")
        return await self.inner.read(key, start=start, length=length)


async def test_objects_that_cannot_be_read_do_not_take_all_places(bench: Bench) -> None:
    """A tenant's encryption key was deleted: everybody else's objects go on."""
    for number in range(80):
        await bench.put(log_chunk(f"w{number}", 1, 1, project="team.locked"))
    await bench.put(log_chunk("good", 1, 3, project="zoo.last"))
    bench.storage = Locked(bench.storage)  # type: ignore[assignment]
    ingester = await bench.started(max_pending=20)
    for _ in range(40):
        await ingester.list_once()
        await ingester.examine_once()
        await ingester.load_once()
        bench.clock.now += 10
    assert bench.seqs("good") == [1, 2, 3]
    assert not bench.bad, "nobody knows whether they are bad"


async def test_hints_of_objects_that_never_were_do_not_take_all_places(bench: Bench) -> None:
    """Whoever may send hints could else keep the listing from finding anything."""
    await bench.put(log_chunk("good", 1, 3))
    ingester = await bench.started(max_pending=20)
    ingester.hint(log_chunk(f"w{number}", 1, 1)[0] for number in range(100))
    assert ingester.pending.hints_dropped
    await ingester.list_once()
    await ingester.examine_once()
    await ingester.load_once()
    assert bench.seqs("good") == [1, 2, 3]


async def test_the_audit_asks_for_few_attempts_at_a_time(bench: Bench) -> None:
    """Whoever writes a bad line into every batch makes a dead attempt of each; 50,000 of them do
    not fit into one request to a server."""
    ingester = await bench.started()
    state = ingester.ledger.state
    day, time = "2026-11-21", "2026-11-21T12:00:00.000000000Z"
    state.dead.update({n: Dead("logs", day, time) for n in range(1, 2_501)})
    asked: list[int] = []
    present = ingester.warehouse.attempts_present

    async def counted(table: Signal, days: Collection[date], attempts: Collection[int]) -> set[int]:
        asked.append(len(attempts))
        return await present(table, days, attempts)

    ingester.warehouse.attempts_present = counted  # type: ignore[method-assign]
    await ingester.audit()
    assert asked == [1_000, 1_000, 500]


def test_dead_attempts_do_not_grow_without_end() -> None:
    state = LedgerState()
    time = "2026-11-21T12:00:00.000000000Z"
    state.dead = {n: Dead("logs", "2026-11-21", time) for n in range(1, DEAD_MOST + 11)}
    prune(state, before="2026-11-20T00:00:00.000000000Z")
    assert list(state.dead) == list(range(11, DEAD_MOST + 11)), "the oldest go"
