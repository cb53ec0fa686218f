"""From objects to rows, step by step: what is loaded, what is left out, where it goes."""

import pytest

from spanyard_core.errors import DatabaseUnavailableError
from spanyard_core.object_names import parse_key
from spanyard_ingester.operations import processed_key, quarantine_key
from tests.fakes.objects import log_chunk, log_line
from tests.unit.ingester.bench import Bench


async def test_objects_become_rows_and_move_to_processed(bench: Bench) -> None:
    keys = [await bench.put(log_chunk("w", a, a + 9)) for a in (1, 11, 21)]
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == list(range(1, 31))
    assert await bench.keys() == sorted(map(processed_key, keys))
    assert not ingester.ledger.state.open
    assert not ingester.ledger.state.unsettled
    assert not ingester.ledger.state.busy


async def test_a_batch_takes_two_ledger_entries(bench: Bench) -> None:
    for number in range(20):
        await bench.put(log_chunk(f"w{number}", 1, 3))
    ingester = await bench.started()
    await ingester.drain()
    # Plan, commit, and the rider that says that all are moved.
    assert ingester.ledger.state.n == 3


async def test_objects_kept_are_not_loaded_again(bench: Bench) -> None:
    key = await bench.put(log_chunk("w", 1, 5))
    ingester = await bench.started(after_load="keep")
    await ingester.drain()
    assert await bench.keys() == [key]
    again = await bench.started(after_load="keep")
    assert not await again.step()
    assert bench.seqs("w") == [1, 2, 3, 4, 5]


async def test_objects_are_deleted_when_told_so(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 5))
    ingester = await bench.started(after_load="delete")
    await ingester.drain()
    assert await bench.keys() == []
    assert bench.seqs("w") == [1, 2, 3, 4, 5]


async def test_a_hint_makes_an_object_known_without_listing(bench: Bench) -> None:
    key = await bench.put(log_chunk("w", 1, 5))
    ingester = await bench.started()
    assert ingester.hint([key, key, "observability/nonsense", "ledger/0/000000000001.json"]) == 1
    assert await ingester.examine_once() == 1
    assert await ingester.load_once()
    assert bench.seqs("w") == [1, 2, 3, 4, 5]


async def test_a_hint_for_an_absent_object_is_forgotten(bench: Bench) -> None:
    key, _ = log_chunk("w", 1, 5)
    ingester = await bench.started()
    ingester.hint([key])
    await ingester.examine_once()
    assert ingester.pending.is_idle


class TestOverlaps:
    async def test_an_object_that_overlaps_in_part_gives_only_what_is_missing(
        self, bench: Bench
    ) -> None:
        ingester = await bench.started()
        await bench.put(log_chunk("w", 1, 10))
        await ingester.drain()
        await bench.put(log_chunk("w", 6, 20))
        await ingester.drain()
        assert bench.seqs("w") == list(range(1, 21))

    async def test_overlapping_objects_of_one_listing_are_loaded_one_after_the_other(
        self, bench: Bench
    ) -> None:
        for first, last in ((1, 10), (3, 5), (6, 20), (1, 25), (30, 40)):
            await bench.put(log_chunk("w", first, last))
        ingester = await bench.started()
        await ingester.drain()
        assert bench.seqs("w") == [*range(1, 26), *range(30, 41)]
        assert await bench.keys("observability/") == []

    async def test_a_writer_of_another_project_hides_nothing(self, bench: Bench) -> None:
        """A name is the tenant's claim: it must not make somebody else's records look loaded."""
        ingester = await bench.started()
        await bench.put(log_chunk("w", 1, 10, project="evil.one"))
        await bench.put(log_chunk("w", 1, 10, project="team.shop"))
        await ingester.drain()
        assert len(bench.tables.rows("logs")) == 20


class TestTheSameNameAgain:
    async def test_an_equal_object_is_only_removed(self, bench: Bench) -> None:
        named = log_chunk("w", 1, 5)
        ingester = await bench.started()
        await bench.put(named)
        await ingester.drain()
        await bench.put(named)
        await ingester.drain()
        assert bench.seqs("w") == [1, 2, 3, 4, 5]
        assert await bench.keys() == [processed_key(named[0])]
        assert not bench.bad

    async def test_a_different_object_goes_to_quarantine_and_overwrites_nothing(
        self, bench: Bench
    ) -> None:
        key, data = log_chunk("w", 1, 5)
        _, other = log_chunk("w", 1, 5, level="error")
        ingester = await bench.started()
        await bench.put((key, data))
        await ingester.drain()
        await bench.put((key, other))
        await ingester.drain()
        assert await bench.storage.read(processed_key(key)) == data
        assert await bench.storage.read(quarantine_key(key)) == other
        [row] = bench.bad.values()
        assert "loaded with the digest" in row.reason
        assert bench.seqs("w") == [1, 2, 3, 4, 5]


async def test_other_signals_have_their_own_tables(bench: Bench) -> None:
    line = (
        b'{"type":"span","project":"team.shop","writer":"w","seq":1,"id":"a","traceId":"t",'
        b'"name":"n","startTime":"2026-11-21T12:00:00Z","endTime":null}\n'
    )
    from tests.fakes.objects import chunk

    facts, data = chunk([line], writer="w", first=1, last=1, signal="spans")
    await bench.put((facts.name.key(), data))
    await bench.put(log_chunk("w", 1, 2))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.stored("spans") == [("w", 1)]
    assert bench.stored("logs") == [("w", 1), ("w", 2)]


async def test_a_batch_never_exceeds_its_limits(bench: Bench) -> None:
    for number in range(12):
        await bench.put(log_chunk(f"w{number}", 1, 10))
    ingester = await bench.started(batch_rows=25, batch_objects=7)
    await ingester.drain()
    assert len(bench.tables.rows("logs")) == 120
    assert max(len(part.rows) for part in bench.tables.parts["logs"]) <= 25


async def test_what_was_pending_longest_is_told_as_backlog(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10))
    await bench.put(("observability/readme.txt", b"hello"))
    ingester = await bench.started()
    bench.tables.weather.away = True
    await ingester.list_once()
    backlog = ingester.pending.backlog
    assert (backlog.objects, backlog.foreign, backlog.complete) == (2, 1, True)
    assert backlog.bytes > 5
    assert backlog.oldest_ns > 0


async def test_it_waits_for_the_warehouse_and_goes_on_by_itself(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10))
    ingester = await bench.started()
    tables = bench.tables
    tables.weather.away = True
    sleep = bench.clock.sleep

    async def come_back(seconds: float) -> None:
        await sleep(seconds)
        if bench.clock.now > 1600:
            tables.weather.away = False

    bench.clock.sleep = come_back  # type: ignore[method-assign]
    await ingester.drain()
    assert bench.clock.now > 1600
    assert bench.seqs("w") == list(range(1, 11))
    assert ingester.not_ready() is None


async def test_why_it_waits_is_told(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10))
    ingester = await bench.started()
    bench.tables.weather.away = True

    async def look(seconds: float) -> None:
        assert "connection refused" in (ingester.not_ready() or "")
        raise DatabaseUnavailableError("enough of waiting")

    bench.clock.sleep = look  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailableError, match="enough"):
        await ingester.drain()


async def test_rows_of_another_project_than_the_keys_are_not_taken(bench: Bench) -> None:
    forged = log_line("w", 3, project="team.bank")
    await bench.put(log_chunk("w", 1, 5, instead={3: forged}))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == [1, 2, 4, 5]
    assert {row["project"] for row in bench.tables.rows("logs")} == {"team.shop"}
    [row] = bench.bad.values()
    assert "project is 'team.bank'" in row.reason
    assert (row.line, row.bytes) == (3, forged.strip())


async def test_no_object_is_moved_before_the_copy_of_the_ledger_has_it(bench: Bench) -> None:
    """Also when it was loaded while another was moved: else a collector that lost its spool is told
    in between that nothing of its file is stored.
    """
    await bench.put(log_chunk("a", 1, 10))
    ingester = await bench.started()
    await ingester.list_once()
    await ingester.examine_once()
    assert await ingester.load_once()
    settle, moved = ingester.settler._settle, list[str]()

    async def settled(key: str) -> None:
        assert ingester.copier.waiting == 0, key
        moved.append(key)
        if len(moved) == 1:
            await bench.put(log_chunk("b", 1, 10))
            await ingester.list_once()
            await ingester.examine_once()
            assert await ingester.load_once()
            assert ingester.copier.waiting
        await settle(key)

    ingester.settler._settle = settled  # type: ignore[method-assign]
    await ingester.settle_once()
    assert len(moved) == 2


def test_names_parse_wherever_an_object_is_moved() -> None:
    key, _ = log_chunk("w", 1, 5)
    assert parse_key(processed_key(key)).root == "processed"
    assert parse_key(quarantine_key(key)).root == "quarantine"
