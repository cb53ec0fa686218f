"""Replay and delete, pressed twice and interrupted."""

import pytest

from spanyard_core.errors import BadRecordError
from spanyard_core.faults import set_hook
from spanyard_ingester.quarantine import CannotReplayError, NotInQuarantineError
from tests.fakes.objects import log_chunk, log_line
from tests.unit.ingester.bench import Bench
from tests.unit.ingester.test_recovery import Killed

GOOD = log_line("other", 7, message="mended").decode()


async def one_bad_line(bench: Bench, **settings: object) -> str:
    """The id of a line in quarantine: the last of ten, with a time that cannot be."""
    bad = log_line("w", 10).replace(b"2026-11-21", b"9999-11-21")
    await bench.put(log_chunk("w", 1, 10, instead={10: bad}))
    ingester = await bench.started(**settings)  # type: ignore[arg-type]
    await ingester.drain()
    assert len(bench.seqs("w")) == 9
    [name] = bench.bad
    return name


async def test_a_line_is_loaded_once_however_often_the_button_is_pressed(bench: Bench) -> None:
    name = await one_bad_line(bench)
    ingester = await bench.started()
    quarantine = bench.quarantine(ingester)
    for _ in range(3):
        answer = await quarantine.replay(name, GOOD)
        await ingester.drain()
    assert answer["status"] == "replayed"
    texts = [row["message"] for row in bench.tables.rows("logs")]
    assert texts.count("mended") == 1
    assert bench.bad[name].status == "replayed"


@pytest.mark.parametrize("after_load", ["move", "keep", "delete"])
async def test_a_crash_between_the_object_and_the_ledger(bench: Bench, after_load: str) -> None:
    name = await one_bad_line(bench, after_load=after_load)
    ingester = await bench.started(after_load=after_load)

    def hook(point: str) -> None:
        if point == "replay.written":
            raise Killed

    set_hook(hook)
    try:
        with pytest.raises(Killed):
            await bench.quarantine(ingester).replay(name, GOOD)
    finally:
        set_hook(None)
    again = await bench.started(after_load=after_load)
    await again.drain()  # it is loaded already
    await bench.quarantine(again).replay(name, GOOD)
    await again.drain()
    texts = [row["message"] for row in bench.tables.rows("logs")]
    assert texts.count("mended") == 1
    assert bench.bad[name].status == "replayed"


async def test_a_line_replayed_as_it_is_comes_back_if_it_is_still_bad(bench: Bench) -> None:
    name = await one_bad_line(bench)
    ingester = await bench.started()
    await bench.quarantine(ingester).replay(name)
    await ingester.drain()
    assert len(bench.bad) == 2
    [other] = [row for row in bench.bad.values() if row.id != name]
    assert other.key.endswith(f"/replay-{name}.jsonl")
    assert other.bytes == bench.bad[name].bytes


async def test_a_replayed_line_keeps_its_identity(bench: Bench) -> None:
    name = await one_bad_line(bench)
    ingester = await bench.started()
    text = log_line("w", 10, deployment="shop", pod="shop-1", service="shop").decode()
    await bench.quarantine(ingester).replay(name, text)
    await ingester.drain()
    [row] = [row for row in bench.tables.rows("logs") if row["writer"].startswith("plain:")]
    assert (row["deployment"], row["pod"], row["service"]) == ("shop", "shop-1", "shop")


async def test_another_text_while_the_first_is_under_way_is_refused(bench: Bench) -> None:
    name = await one_bad_line(bench)
    ingester = await bench.started()
    key = f"observability/logs/team.shop/replay-{name}.jsonl"
    await bench.storage.write(key, b"something else\n")
    with pytest.raises(CannotReplayError, match="another text"):
        await bench.quarantine(ingester).replay(name, GOOD)


async def test_a_whole_object_goes_back_to_pending(bench: Bench) -> None:
    key, data = log_chunk("w", 1, 10)
    await bench.put((key, data[:-5]))
    ingester = await bench.started()
    await ingester.drain()
    [name] = bench.bad
    # Somebody mends it by hand.
    await bench.storage.write(key.replace("observability", "quarantine"), data)
    quarantine = bench.quarantine(ingester)
    await quarantine.replay(name)
    await quarantine.replay(name)
    await ingester.drain()
    assert bench.seqs("w") == list(range(1, 11))
    assert bench.bad[name].status == "replayed"
    assert await bench.keys("quarantine/") == []


async def test_a_whole_object_that_is_still_bad_is_open_again(bench: Bench) -> None:
    key, data = log_chunk("w", 1, 10)
    await bench.put((key, data[:-5]))
    ingester = await bench.started()
    await ingester.drain()
    [name] = bench.bad
    await bench.quarantine(ingester).replay(name)
    assert bench.bad[name].status == "replayed"
    await ingester.drain()
    assert bench.bad[name].status == "open"
    assert await bench.keys("quarantine/") == [key.replace("observability", "quarantine")]


async def test_deleted_means_gone(bench: Bench) -> None:
    key, data = log_chunk("w", 1, 10)
    await bench.put((key, data[:-5]))
    ingester = await bench.started()
    await ingester.drain()
    [name] = bench.bad
    quarantine = bench.quarantine(ingester)
    for _ in range(2):
        await quarantine.delete(name)
    assert await bench.keys() == []
    assert (bench.bad[name].status, bench.bad[name].bytes) == ("deleted", b"")
    with pytest.raises(CannotReplayError, match="deleted"):
        await quarantine.replay(name)


@pytest.mark.parametrize(
    ("text", "why"), [("a\nb", "one line"), ("  ", "one line"), ("\ud800", "not Unicode")]
)
async def test_a_text_that_is_no_line_is_refused(bench: Bench, text: str, why: str) -> None:
    name = await one_bad_line(bench)
    ingester = await bench.started()
    with pytest.raises(BadRecordError, match=why):
        await bench.quarantine(ingester).replay(name, text)


async def test_an_unknown_id_is_said_to_be_unknown(bench: Bench) -> None:
    ingester = await bench.started()
    with pytest.raises(NotInQuarantineError, match="'nope'"):
        await bench.quarantine(ingester).replay("nope")


async def test_a_long_line_whose_object_is_gone_needs_a_new_text(bench: Bench) -> None:
    long = log_line("w", 2, message="x" * 100_000).replace(b"2026", b"9999")
    await bench.put(log_chunk("w", 1, 3, instead={2: long}))
    ingester = await bench.started(after_load="delete")
    await ingester.drain()
    [name] = bench.bad
    assert len(bench.bad[name].bytes) == 65536
    with pytest.raises(CannotReplayError, match="keeps only the first 65536"):
        await bench.quarantine(ingester).replay(name)


async def test_what_was_sent_back_stays_there_though_another_has_filed_it(bench: Bench) -> None:
    """Both ingesters file what the ledger says; the second one comes after the button."""
    key = await bench.put(log_chunk("w", 1, 10))
    one = await bench.started("one", batch_rows=5)  # wrongly set: it takes no larger object
    await one.list_once()
    await one.examine_once()
    await one.filer.run_through()  # moved; the entry that says so is still to come
    two = await bench.started("two")
    [name] = bench.bad
    await bench.quarantine(two).replay(name)
    await two.filer.run_through()
    assert await bench.keys() == [key]
    await two.drain()
    assert bench.seqs("w") == list(range(1, 11))
