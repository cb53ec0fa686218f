"""Input made to do harm: it costs its own place and nobody else's."""

from pathlib import Path

import pytest

from spanyard_core.chunks import FRAME_MAGIC, Source
from spanyard_ingester import scan
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
