"""The pipeline: cutting, committing, showing, standing still, and going on after a restart."""

import errno

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
