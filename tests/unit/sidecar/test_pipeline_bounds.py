"""The pipeline: a full spool, sources that fail, and what must not pile up."""

import asyncio
import errno
import random

import pytest

from spanyard_sidecar.committer import DrainDeadlineError
from tests.unit.sidecar.machine import (
    FakeSource,
    FakeSources,
    Machine,
    messages,
    virtual,
)


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
