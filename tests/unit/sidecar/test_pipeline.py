"""The pipeline: cutting, committing, showing, standing still, and going on after a restart."""

import asyncio
import errno
import random

import pytest

from spanyard_core.faults import set_hook
from spanyard_sidecar.committer import DrainDeadlineError
from spanyard_sidecar.model import Gap
from tests.unit.sidecar.machine import (
    FakeSource,
    FakeSources,
    Machine,
    messages,
    virtual,
)

LOST = Gap("rotated-away", "gone", lines=3, bytes=100)


@virtual
async def test_records_wait_for_the_flush_interval_and_go_out_in_one_entry() -> None:
    one, two = FakeSource("one@e").add("a"), FakeSource("two@e", signal="spans").add("b", "c")
    machine = await Machine().start(FakeSources(one, two), flush_interval=5.0)
    await machine.pipeline.step()
    assert machine.heads() == []
    await machine.clock.sleep(6)
    await machine.pipeline.step()
    (head,) = machine.heads()
    assert head.states["one@e"] == {"seq": 1}
    assert head.states["two@e"] == {"seq": 2}
    assert messages(machine.spooled("two@e")) == ["b", "c"]
    assert one.told == [("stored", 1)]


@virtual
async def test_a_begin_line_goes_ahead_of_a_writers_first_chunk_and_only_once() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    source.add("b")
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert [[o.facts.writer for o in head.objects] for head in machine.heads()] == [
        ["w@e/meta", "w@e"],
        ["w@e"],
    ]
    assert machine.events("w@e") == ["begin"]


@virtual
async def test_a_chunk_is_cut_at_its_size_alone() -> None:
    big, small = FakeSource("big@e"), FakeSource("small@e").add("x")
    for n in range(12):
        big.add(f"{n} " + "y" * 2000)
    machine = await Machine().start(FakeSources(big, small), chunk_size=10_000)
    for _ in range(12):
        await machine.pipeline.step()
    heads = machine.heads()
    assert len(heads) == 2
    assert all("small@e" not in head.states for head in heads)
    sizes = [o.facts.decoded for head in heads for o in head.objects if o.facts.signal == "logs"]
    assert all(10_000 <= size < 13_000 for size in sizes)


@virtual
async def test_a_chunk_never_spans_two_files_but_the_entry_may() -> None:
    source = FakeSource("w@e").add("a", file="f1").add("b", file="f1").add("c", file="f2")
    machine = await Machine().start(FakeSources(source))
    for _ in range(3):
        await machine.pipeline.step()
    await machine.pipeline.flush()
    (head,) = machine.heads()
    ranges = [
        (o.facts.source.fingerprint, o.facts.source.from_offset, o.facts.source.to_offset)
        for o in head.objects
        if o.facts.source
    ]
    assert ranges == [("f1", 10, 30), ("f2", 30, 40)]


@virtual
async def test_live_sees_a_block_at_once_but_a_cut_one_only_when_it_is_durable() -> None:
    source = FakeSource("w@e").add("a").add("b", cut=True)
    machine = await Machine().start(FakeSources(source))
    with machine.ring.subscribe() as live:
        await machine.pipeline.step()
        assert (await live.get())[1:3] == ("w@e", 1)
        assert machine.heads() == []
        machine.disk.refuse = lambda operation, path: errno.EIO
        machine.pipeline.committer.give_up_at(machine.clock.monotonic() + 3)
        with pytest.raises(DrainDeadlineError):
            await machine.pipeline.step()
        assert not live._queue


@virtual
async def test_a_cut_block_is_durable_before_its_source_is_asked_again() -> None:
    source = FakeSource("w@e").add("a", cut=True).add("b")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    assert messages(machine.spooled("w@e")) == ["a"]
    assert source.told == [("stored", 1)]


@virtual
async def test_a_gap_is_durable_at_once_with_the_last_seq_before_it() -> None:
    source = FakeSource("w@e").add("a").add("b", gaps=(LOST,))
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.step()
    begin, gap = machine.spooled("w@e/meta")
    assert begin["event"] == "begin"
    assert (gap["cause"], gap["lines"], gap["afterSeq"]) == ("rotated-away", 3, 1)
    assert messages(machine.spooled("w@e")) == ["a", "b"]


@virtual
async def test_numbers_may_be_missing_after_a_told_gap_and_nowhere_else() -> None:
    source = FakeSource("w@e").add("a")
    source.add(gaps=(LOST,))
    source._planned += 3
    source.add("b")
    other = FakeSource("v@e").add("a")
    other._planned += 1
    other.add("never")
    machine = await Machine().start(FakeSources(source, other))
    for _ in range(3):
        await machine.pipeline.step()
    await machine.pipeline.flush()
    assert [line["seq"] for line in machine.spooled("w@e")] == [1, 5]
    assert machine.pipeline.writers["v@e"].suspended
    assert machine.spooled("v@e") == []
    # Whoever removes what is drained must know that this one is not.
    with pytest.raises(DrainDeadlineError, match="not read to the end: v@e"):
        await machine.pipeline.drain(quiet=0.0, deadline=machine.clock.monotonic() + 5)


@virtual
async def test_a_restart_goes_on_after_what_was_durable() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    source.add("lost with the process")
    await machine.pipeline.step()
    kinds = FakeSources()
    await machine.start(kinds)
    await machine.pipeline.step()
    assert kinds.seen == {"w@e": {"seq": 1}}
    again = FakeSource("w@e", state=kinds.seen["w@e"]).add("b")
    kinds.coming.append(again)
    await machine.clock.sleep(2)
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("w@e")) == ["a", "b"]
    assert machine.events("w@e") == ["begin"]


@virtual
async def test_a_source_that_ends_gets_an_end_line_and_is_closed_when_it_is_stored() -> None:
    source = FakeSource("w@e").add("a", "b")
    source.ends = True
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.step()
    await machine.clock.sleep(6)
    await machine.pipeline.step()
    _, end = machine.spooled("w@e/meta")
    assert (end["event"], end["afterSeq"], end["bytes"]) == ("end", 2, 20)
    assert not source.closed
    await machine.upload_all()
    assert source.told == [("stored", 2), ("uploaded", 2)]
    assert source.closed
    assert machine.pipeline.writers == {}


@virtual
async def test_a_source_that_never_had_a_record_leaves_no_trace() -> None:
    source = FakeSource("w@e")
    source.ends = True
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.clock.sleep(60)
    await machine.pipeline.step()
    assert machine.spooled("w@e/meta") == []


@virtual
async def test_an_ended_source_found_again_is_neither_resumed_nor_ended_twice() -> None:
    source = FakeSource("w@e").add("a")
    source.ends = True
    machine = await Machine().start(FakeSources(source))
    for _ in range(2):
        await machine.pipeline.step()
    await machine.pipeline.flush()
    await machine.upload_all()
    again = FakeSource("w@e", state={"seq": 1})
    again.ends = True
    await machine.start(FakeSources(again))
    await machine.pipeline.step()
    await machine.clock.sleep(60)
    await machine.pipeline.step()
    assert machine.events("w@e") == ["begin", "end"]
    assert again.told == [("uploaded", 1)]  # it may delete its file now
    assert again.closed


@virtual
async def test_a_source_hears_of_its_last_entry_though_the_one_before_arrives_meanwhile() -> None:
    """Its span file would stay where it is until the next start."""
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    (head,) = machine.heads()
    source.ends = True
    await machine.pipeline.step()
    set_hook(lambda name: machine.pipeline.uploaded(head) if name == "spool.written" else None)
    try:
        await machine.pipeline.flush()
    finally:
        set_hook(None)
    assert not source.closed
    source.told.clear()
    await machine.upload_all()
    assert source.told == [("uploaded", 1)]
    assert source.closed


@virtual
async def test_a_source_that_goes_on_after_its_end_line_is_resumed() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.drain(quiet=0.1, deadline=10)
    again = FakeSource("w@e", state={"seq": 1}).add("b")
    await machine.start(FakeSources(again))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert machine.events("w@e") == ["begin", "end", "begin resumed"]


@virtual
async def test_at_the_end_everything_is_read_finished_and_ended() -> None:
    source = FakeSource("w@e").add("a").add("b")
    source.last = source.block("half a line", cut=True)
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.drain(quiet=0.5, deadline=10)
    assert messages(machine.spooled("w@e")) == ["a", "b", "half a line"]
    assert machine.events("w@e") == ["begin", "end"]
    assert machine.spooled("w@e/meta")[-1]["afterSeq"] == 3


@virtual
async def test_what_comes_while_it_ends_is_read_until_it_is_quiet() -> None:
    source = FakeSource("w@e")
    machine = await Machine().start(FakeSources(source))
    slept = machine.clock.sleep
    texts = iter(["late", "later", "last"])

    async def sleep(seconds: float) -> None:
        if seconds and (text := next(texts, None)):
            source.add(text)
        await slept(seconds)

    machine.clock.sleep = sleep  # type: ignore[method-assign]  # the application writes meanwhile
    await machine.pipeline.drain(quiet=0.5, deadline=100)
    assert messages(machine.spooled("w@e")) == ["late", "later", "last"]


@virtual
async def test_a_full_spool_stops_the_reader_and_says_so_once() -> None:
    source = FakeSource("w@e").add("first")
    machine = await Machine(limit=3 << 20).start(FakeSources(source), chunk_size=1)
    await machine.pipeline.step()
    for n in range(10):
        source.add(random.Random(n).randbytes(300_000).hex())
    machine.pipeline.committer.give_up_at(machine.clock.monotonic() + 120)
    with pytest.raises(DrainDeadlineError, match="is full"):
        await machine.pipeline.run(asyncio.Event())
    assert source.reads == 11 - len(source.blocks)  # none after the one that found no room
    assert len(source.blocks) > 2
    assert machine.spool.budget.used <= machine.limit
    assert machine.events("w@e") == ["begin", "gap spool-full"]
    assert machine.spooled("w@e/meta")[-1]["lines"] == 0


@virtual
async def test_reading_goes_on_when_uploads_make_room() -> None:
    source = FakeSource("w@e")
    texts = [random.Random(n).randbytes(300_000).hex() for n in range(12)]
    for text in texts:
        source.add(text)
    machine = await Machine(limit=3 << 20).start(FakeSources(source), chunk_size=1)
    machine.bucket.weather.away = True
    uploads = asyncio.ensure_future(machine.uploader.run())
    stop = asyncio.Event()
    reader = asyncio.ensure_future(machine.pipeline.run(stop))
    await machine.clock.sleep(300)
    assert len(source.blocks) > 2
    assert "is full" in machine.pipeline.committer.trouble
    machine.bucket.weather.away = False
    await machine.clock.sleep(120)
    stop.set()
    machine.pipeline.wake()
    await reader
    await machine.pipeline.flush()
    await machine.uploader.idle()
    uploads.cancel()
    assert messages(machine.stored("w@e")) == texts
    assert machine.pipeline.committer.trouble == ""


@virtual
async def test_one_source_that_fails_does_not_stop_the_others() -> None:
    bad, good = FakeSource("bad@e"), FakeSource("good@e").add("a")
    bad.error = OSError(errno.EIO, "bad disk")
    machine = await Machine().start(FakeSources(bad, good))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("good@e")) == ["a"]
    assert bad.reads == 1
    bad.error = None
    bad.add("b")
    await machine.clock.sleep(2)
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("bad@e")) == ["b"]


@virtual
async def test_a_source_with_a_bug_keeps_what_is_durable_and_is_left_alone() -> None:
    bad, good = FakeSource("bad@e").add("a"), FakeSource("good@e")
    machine = await Machine().start(FakeSources(bad, good))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    bad.add("shown, not durable")
    await machine.pipeline.step()
    bad.error = RuntimeError("a bug")
    await machine.pipeline.step()
    good.add("c")
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("bad@e")) == ["a"]
    assert machine.spool.states["bad@e"] == {"seq": 1}
    assert messages(machine.spooled("good@e")) == ["c"]


@virtual
async def test_a_kind_that_cannot_be_scanned_leaves_the_others_alone() -> None:
    broken = FakeSources()
    broken.error = OSError(errno.ENOENT, "no such directory")
    machine = await Machine().start(broken, FakeSources(FakeSource("w@e").add("a")))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("w@e")) == ["a"]


@virtual
async def test_a_writer_that_two_kinds_find_is_read_once() -> None:
    one, two = FakeSource("w@e").add("a"), FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(one), FakeSources(two))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert messages(machine.spooled("w@e")) == ["a"]
    assert two.closed


@virtual
async def test_compressors_stay_few_with_many_writers() -> None:
    sources = [FakeSource(f"w{n}@e").add("x" * 40_000) for n in range(50)]
    machine = await Machine().start(FakeSources(*sources), compressors=16)
    await machine.pipeline.step()
    assert sum(writer.compresses for writer in machine.pipeline.writers.values()) == 16
    for source in sources:
        source.add("y" * 40_000)
    await machine.pipeline.step()  # each chunk goes on in another frame
    for source in sources[:3] + sources[-3:]:
        history = machine.ring.history("app", {})
        shown = [data for writer, _, data in history if writer == source.writer]
        assert [len(line) > 40_000 for line in b"".join(shown).splitlines()] == [True, True]
    await machine.pipeline.flush()
    (head,) = machine.heads()
    assert sum(item.facts.signal == "logs" for item in head.objects) == 50
    for source in sources:
        assert [m[0] for m in messages(machine.spooled(source.writer))] == ["x", "y"]
    await machine.upload_all()
    assert len(machine.stored("w7@e")) == 2


@virtual
async def test_many_writers_of_few_lines_make_one_object_each_per_flush() -> None:
    """20 of them, 20 lines a second each, made 350 objects a second: one per line."""
    sources = [FakeSource(f"w{n}@e") for n in range(100)]
    machine = await Machine().start(FakeSources(*sources), compressors=16, flush_interval=5.0)
    for n in range(20):
        for source in sources:
            source.add(f"line {n}")
        await machine.pipeline.step()
    await machine.clock.sleep(6)
    await machine.pipeline.step()
    (head,) = machine.heads()
    assert sum(item.facts.signal == "logs" for item in head.objects) == 100
    assert all(len(machine.spooled(source.writer)) == 20 for source in sources)


@virtual
async def test_lines_that_wait_uncompressed_do_not_pile_up_in_memory() -> None:
    sources = [FakeSource(f"w{n}@e").add("x" * 10_000) for n in range(20)]
    machine = await Machine().start(FakeSources(*sources), held_bytes=100_000)
    await machine.pipeline.step()
    (head,) = machine.heads()
    assert sum(item.facts.signal == "logs" for item in head.objects) == 20
    assert machine.pipeline._held_bytes == 0


@virtual
async def test_what_a_failed_source_held_is_forgotten_with_it() -> None:
    failing = FakeSource("bad@e").add("x" * 10_000)
    machine = await Machine().start(FakeSources(failing))
    await machine.pipeline.step()
    failing.error = ValueError("a bug")
    await machine.pipeline.step()
    assert machine.pipeline._held_bytes == 0


@virtual
async def test_finished_objects_do_not_pile_up_in_memory() -> None:
    source = FakeSource("w@e")
    for n in range(20):
        source.add(random.Random(n).randbytes(5000).hex(), file=f"f{n}")
    machine = await Machine().start(FakeSources(source), held_bytes=20_000)
    for _ in range(20):
        await machine.pipeline.step()
        assert machine.pipeline.writers["w@e"].held_bytes <= 30_000
    assert len(machine.heads()) > 2


@virtual
async def test_a_state_that_moves_without_records_is_durable_in_the_end() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    source.add()
    await machine.pipeline.step()
    await machine.clock.sleep(10)
    await machine.pipeline.step()
    assert len(machine.heads()) == 1
    await machine.clock.sleep(30)
    await machine.pipeline.step()
    assert [head.objects for head in machine.heads()][1] == []


@virtual
async def test_forgotten_writers_leave_the_spool() -> None:
    source = FakeSource("w@e").add("a")
    source.ends = True
    kinds = FakeSources(source)
    machine = await Machine().start(kinds)
    for _ in range(2):
        await machine.pipeline.step()
    await machine.pipeline.flush()
    await machine.upload_all()
    assert set(machine.spool.states) == {"w@e", "w@e/meta"}
    kinds.gone = ["w@e", "unknown@e"]
    await machine.clock.sleep(100)
    await machine.pipeline.flush()
    assert set(machine.spool.states) == set()


@virtual
async def test_faster_flushes_can_be_asked_for_while_running() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    machine.pipeline.flush_interval = 0.5
    await machine.clock.sleep(0.6)
    await machine.pipeline.step()
    assert messages(machine.spooled("w@e")) == ["a"]


@virtual
async def test_what_finds_no_room_until_the_deadline_changes_nothing() -> None:
    machine = await Machine(limit=2 << 20).start(FakeSources(FakeSource("w@e").add("a")))
    machine.budget.reserve(machine.budget.free)
    machine.pipeline.committer.give_up_at(machine.clock.monotonic() + 1)
    await machine.pipeline.step()
    with pytest.raises(DrainDeadlineError):
        await machine.pipeline.flush()
    assert machine.spool.states == {}
