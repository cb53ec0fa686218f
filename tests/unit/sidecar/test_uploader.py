"""The uploader: order, repeats, refusals, names that are taken."""

import asyncio
import random

import pytest

from spanyard_core.chunks import check_chunk
from spanyard_core.faults import set_hook
from spanyard_sidecar.entries import EntryHead
from tests.unit.sidecar.machine import FakeSource, FakeSources, Machine, messages, virtual


async def with_entries(*texts: str, writer: str = "w@e") -> tuple[Machine, FakeSource]:
    """A machine with one entry per text."""
    source = FakeSource(writer)
    machine = await Machine().start(FakeSources(source))
    for text in texts:
        source.add(*text.split())
        await machine.pipeline.step()
        await machine.pipeline.flush()
    return machine, source


@virtual
async def test_what_is_in_the_spool_is_stored_and_told() -> None:
    machine, source = await with_entries("a b", "c")
    await machine.upload_all()
    assert messages(machine.stored("w@e")) == ["a", "b", "c"]
    assert machine.events("w@e", where="bucket") == ["begin"]
    assert source.told == [("stored", 2), ("stored", 3), ("uploaded", 2), ("uploaded", 3)]
    assert sorted(machine.hints) == sorted(machine.bucket.objects)
    assert not machine.spool.pending


@virtual
async def test_nothing_is_uploaded_before_its_entry_is_durable() -> None:
    order: list[str] = []
    machine = await Machine().start(FakeSources(FakeSource("w@e").add("a")))
    put = machine.bucket.put

    def watched(key: str, data: bytes, if_absent: bool) -> None:
        order.append("put")
        put(key, data, if_absent)

    machine.bucket.put = watched  # type: ignore[method-assign]  # to see when
    set_hook(order.append)
    try:
        uploads = asyncio.ensure_future(machine.uploader.run())
        await machine.pipeline.step()
        await machine.pipeline.flush()
        await machine.uploader.idle()
        uploads.cancel()
    finally:
        set_hook(None)
    assert order == [
        *("spool.written", "spool.renamed", "spool.durable"),
        *("put", "upload.done", "upload.known") * 2,
        "spool.marked",
    ]


@virtual
async def test_a_lost_answer_is_found_by_its_digest() -> None:
    machine, _ = await with_entries("a")
    machine.bucket.weather.answer_lost = 1.0
    upload = asyncio.ensure_future(machine.upload_all())
    await machine.clock.sleep(0)
    machine.bucket.weather.calm()
    await upload
    assert messages(machine.stored("w@e")) == ["a"]
    assert machine.metrics.known_objects._value.get() == 1
    assert machine.metrics.conflicts._value.get() == 0


@virtual
async def test_a_restart_after_the_upload_stores_nothing_twice() -> None:
    machine, _ = await with_entries("a")
    await machine.upload_all()
    machine.disk.rename(f"/pod/spool/{1:016d}.done", f"/pod/spool/{1:016d}.entry")
    before = dict(machine.bucket.objects)
    await machine.start()
    await machine.upload_all()
    assert machine.bucket.objects == before


@virtual
async def test_an_outage_of_an_hour_is_retried_until_it_ends() -> None:
    machine, _ = await with_entries("a", "b", "c")
    machine.bucket.weather.away = True
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.clock.sleep(3600)
    assert "does not take uploads" in machine.uploader.trouble
    assert len(machine.spool.pending) == 3
    machine.bucket.weather.away = False
    await machine.clock.sleep(60)
    uploads.cancel()
    assert messages(machine.stored("w@e")) == ["a", "b", "c"]
    assert machine.uploader.trouble == ""


@virtual
async def test_a_collector_that_ends_does_not_sit_out_its_back_off() -> None:
    """Of up to 30 s, which is longer than its grace period."""
    machine, _ = await with_entries("a", "b", "c")
    machine.bucket.weather.away = True
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.clock.sleep(3600)
    machine.uploader.hurry()
    await machine.clock.sleep(10)  # still away: tries at most a second apart
    machine.bucket.weather.away = False
    await machine.clock.sleep(2)
    uploads.cancel()
    assert messages(machine.stored("w@e")) == ["a", "b", "c"]


@virtual
async def test_refused_credentials_are_told_apart_and_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine, _ = await with_entries("a")
    machine.bucket.weather.refused = True
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.clock.sleep(300)
    assert "refuses uploads" in machine.uploader.trouble
    said = [r for r in caplog.records if "refuses uploads" in r.message]
    assert 1 <= len(said) <= 6  # once a minute, not once a try
    machine.bucket.weather.refused = False
    await machine.clock.sleep(60)
    uploads.cancel()
    assert messages(machine.stored("w@e")) == ["a"]


@virtual
async def test_objects_of_one_writer_are_stored_in_order_whatever_the_network_does() -> None:
    machine, source = await with_entries(*(f"{n}" for n in range(30)))
    other = FakeSource("v@e")
    machine.pipeline.attaching._kinds[0].coming = [other]  # type: ignore[attr-defined]
    await machine.clock.sleep(2)
    for n in range(30):
        other.add(f"o{n}")
        source.add(f"{30 + n}")
        await machine.pipeline.step()
        await machine.pipeline.flush()
    weather = machine.bucket.weather
    weather.latency, weather.not_done, weather.answer_lost = 1.0, 0.2, 0.2
    stored: list[tuple[str, int]] = []
    put = machine.bucket.put

    def watched(key: str, data: bytes, if_absent: bool) -> None:
        put(key, data, if_absent)
        facts = check_chunk(data)
        stored.append((facts.writer.removesuffix("/meta"), facts.first))

    machine.bucket.put = watched  # type: ignore[method-assign]  # to see the order
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.uploader.idle()
    uploads.cancel()
    for writer in ("w@e", "v@e"):
        order = [first for w, first in stored if w == writer]
        assert order == sorted(order)
    assert machine.heads()[-1].n > 30


@virtual
async def test_entries_of_different_writers_do_not_wait_for_each_other() -> None:
    sources = [FakeSource(f"w{n}@e") for n in range(4)]
    machine = await Machine().start(FakeSources(*sources))
    for source in sources:
        source.add("x", cut=True)
    await machine.pipeline.step()
    weather = machine.bucket.weather
    weather.rng, weather.slow, weather.slow_seconds = random.Random(2), 1.0, 10.0
    done: list[int] = []
    machine.uploader._uploaded = lambda head: done.append(head.n)
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.uploader.idle()
    uploads.cancel()
    assert sorted(done) == [1, 2, 3, 4]
    assert done != sorted(done)


@virtual
async def test_uploaded_is_told_of_a_state_only_after_all_that_came_before_it() -> None:
    """An entry with a state alone must wait for earlier entries of its writer."""
    machine, source = await with_entries("a")
    source.add()
    await machine.pipeline.step()
    await machine.pipeline.flush()
    told: list[EntryHead] = []
    machine.uploader._uploaded = told.append
    machine.bucket.weather.away = True
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.clock.sleep(60)
    assert told == []
    machine.bucket.weather.away = False
    await machine.uploader.idle()
    uploads.cancel()
    assert [head.n for head in told] == [1, 2]


class TestNameTaken:
    """An object's name holds other bytes: the writer goes on in a new epoch, nothing is lost."""

    async def conflict(self) -> tuple[Machine, str]:
        machine, source = await with_entries("a b", "c d e", "f")
        await machine.uploader.upload(1)
        with machine.spool.opened(2) as entry:
            (item,) = entry.head.objects
        machine.bucket.put(item.key, b"somebody else's", False)
        await machine.upload_all()
        source.add("g")
        await machine.pipeline.step()
        await machine.pipeline.flush()
        await machine.upload_all()
        assert machine.bucket.get(item.key) == b"somebody else's"
        machine.bucket.remove(item.key)
        (rename,) = machine.spool.fold.renames.values()
        return machine, rename.to

    @virtual
    async def test_its_records_and_all_later_ones_are_stored_once_under_another(self) -> None:
        machine, to = await self.conflict()
        assert to.startswith("w@")
        assert to != "w@e"
        assert messages(machine.stored("w@e")) == ["a", "b"]
        assert messages(machine.stored(to)) == ["c", "d", "e", "f", "g"]
        assert [line["seq"] for line in machine.stored(to)] == [1, 2, 3, 4, 5]

    @virtual
    async def test_its_begin_line_tells_what_it_continues(self) -> None:
        machine, to = await self.conflict()
        (begin,) = machine.stored(to + "/meta")
        assert (begin["event"], begin["cause"]) == ("begin", "name-conflict")
        assert (begin["continues"], begin["continuesSeq"]) == ("w@e", 2)
        assert machine.metrics.conflicts._value.get() == 1

    @virtual
    async def test_a_restart_makes_the_same_objects_again(self) -> None:
        machine, to = await self.conflict()
        before = dict(machine.bucket.objects)
        for n in range(2, 6):
            machine.disk.rename(f"/pod/spool/{n:016d}.done", f"/pod/spool/{n:016d}.entry")
        await machine.start()
        await machine.upload_all()
        assert machine.bucket.objects == before
        assert messages(machine.stored(to)) == ["c", "d", "e", "f", "g"]

    @virtual
    async def test_its_end_line_follows_it_with_its_own_numbers(self) -> None:
        machine, to = await self.conflict()
        await machine.pipeline.drain(quiet=0.1, deadline=1000)
        await machine.upload_all()
        lines = machine.stored("w@e/meta")
        end = next(line for line in lines if line["event"] == "end")
        assert (end["subject"], end["afterSeq"]) == (to, 5)

    @virtual
    async def test_an_end_line_in_the_same_entry_is_told_for_the_new_name(self) -> None:
        source = FakeSource("w@e").add("a", "b")
        machine = await Machine().start(FakeSources(source))
        await machine.pipeline.drain(quiet=0.1, deadline=1000)
        with machine.spool.opened(1) as entry:
            item = entry.head.objects[-1]
        machine.bucket.put(item.key, b"somebody else's", False)
        await machine.upload_all()
        machine.bucket.remove(item.key)
        (rename,) = machine.spool.fold.renames.values()
        assert messages(machine.stored(rename.to)) == ["a", "b"]
        events = [(x["event"], x.get("afterSeq", 0)) for x in machine.stored(rename.to + "/meta")]
        assert events == [("begin", 0), ("end", 2)]

    @virtual
    async def test_a_meta_object_that_is_taken_is_renamed_as_well(self) -> None:
        machine, _ = await with_entries("a")
        with machine.spool.opened(1) as entry:
            meta, chunk = entry.head.objects
        machine.bucket.put(meta.key, b"somebody else's", False)
        await machine.upload_all()
        machine.bucket.remove(meta.key)
        assert chunk.key in machine.bucket.objects
        (rename,) = machine.spool.fold.renames.values()
        assert [line["event"] for line in machine.stored(rename.to)] == ["begin"]
        assert machine.events("w@e", where="bucket") == []


@virtual
async def test_an_object_that_the_disk_changed_is_told_as_a_gap_and_the_rest_is_stored() -> None:
    machine, source = await with_entries("a b")
    machine.disk.inode(f"/pod/spool/{1:016d}.entry").data[-3] ^= 1
    source.add("c")
    await machine.pipeline.step()
    await machine.pipeline.flush()
    await machine.upload_all()
    assert messages(machine.stored("w@e")) == ["c"]
    begin, gap = machine.stored("w@e/meta")
    assert begin["event"] == "begin"
    assert (gap["cause"], gap["lines"], gap.get("afterSeq", 0)) == ("spool-damaged", 2, 0)


@virtual
async def test_an_entry_that_the_disk_changed_is_set_aside_and_told() -> None:
    machine, source = await with_entries("a")
    machine.disk.inode(f"/pod/spool/{1:016d}.entry").data[20] ^= 1
    source.add("b")
    await machine.pipeline.step()
    await machine.pipeline.flush()
    uploads = asyncio.ensure_future(machine.uploader.run())
    await machine.uploader.idle()
    uploads.cancel()
    assert messages(machine.stored("w@e")) == ["b"]
    gaps = machine.stored(f"pod-uid/collector@{machine.spool.epoch}/meta")
    assert [line["cause"] for line in gaps] == ["spool-damaged"]
    assert f"{1:016d}.damaged" in machine.spool.files.listdir("/pod/spool")
