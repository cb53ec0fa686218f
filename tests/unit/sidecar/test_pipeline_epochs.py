"""The pipeline after a lost spool: it goes on where storage says that the old epoch ended."""

import asyncio

from spanyard_core.errors import StorageError
from spanyard_sidecar.model import Stored
from tests.unit.sidecar.machine import (
    FakeSource,
    FakeSources,
    Machine,
    OldSource,
    messages,
    virtual,
)


class Index:
    """A gateway that knows, or is away."""

    def __init__(self, **stored: Stored) -> None:
        self.stored = stored
        self.away = False
        self.asked: list[str] = []

    async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
        assert project == "ns.app"
        if self.away:
            raise StorageError("away")
        self.asked.append(fingerprint)
        return self.stored.get(fingerprint)


async def answered(machine: Machine, seconds: float = 10) -> None:
    """Let questions be asked and the loop run for a while."""
    stop = asyncio.Event()
    asking = asyncio.ensure_future(machine.pipeline.attaching.questions.run())
    reading = asyncio.ensure_future(machine.pipeline.run(stop))
    await machine.clock.sleep(seconds)
    stop.set()
    machine.pipeline.wake()
    await reading
    asking.cancel()
    await machine.pipeline.flush()


@virtual
async def test_a_new_epoch_goes_on_where_the_lost_one_was_stored() -> None:
    source = OldSource("w@e").add("c")
    known = Stored("w@old", 2, 100)
    index = Index(oldest=known)
    machine = await Machine().start(FakeSources(source), index=index)
    await answered(machine)
    assert index.asked == ["newest", "oldest"]
    assert source.continued == ("oldest", known)
    (begin,) = machine.spooled("w@e/meta")
    assert (begin["cause"], begin["continues"], begin["continuesSeq"]) == ("continues", "w@old", 2)


@virtual
async def test_a_file_of_which_nothing_is_stored_is_read_from_its_start() -> None:
    source = OldSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source), index=Index())
    await answered(machine)
    assert source.continued is None
    assert machine.events("w@e") == ["begin"]
    assert messages(machine.spooled("w@e")) == ["a"]


@virtual
async def test_a_file_younger_than_the_spool_is_nobody_elses() -> None:
    source, index = OldSource("w@e").add("a"), Index()
    machine = await Machine().start(FakeSources(source), index=index)
    source.first_time = machine.spool.fold.born_ns
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert index.asked == []
    assert messages(machine.spooled("w@e")) == ["a"]


@virtual
async def test_nothing_of_an_old_file_is_read_while_the_gateway_is_away_until_patience_ends() -> (
    None
):
    source, index = OldSource("w@e").add("a"), Index()
    index.away = True
    machine = await Machine().start(FakeSources(source), index=index, patience=600)
    await answered(machine, 590)
    assert source.reads == 0
    await answered(machine, 60)
    assert machine.events("w@e") == ["begin unverified"]
    assert messages(machine.spooled("w@e")) == ["a"]


@virtual
async def test_at_the_end_nobody_waits_for_the_gateway() -> None:
    source, index = OldSource("w@e").add("a"), Index()
    index.away = True
    machine = await Machine().start(FakeSources(source), index=index)
    await machine.pipeline.drain(quiet=0.5, deadline=10)
    assert machine.events("w@e") == ["begin unverified", "end"]


@virtual
async def test_questions_wait_until_entries_of_a_given_up_epoch_are_stored() -> None:
    machine = await Machine().start(FakeSources(FakeSource("w@old").add("a")))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    machine.spool.fold.unstored_before = 2
    source, index = OldSource("w@e").add("c"), Index()
    machine.pipeline.attaching.questions._index = index
    machine.pipeline.attaching.questions.hold(source)
    await answered(machine)
    assert index.asked == []
    await machine.upload_all()
    await answered(machine)
    assert index.asked == ["newest", "oldest"]


@virtual
async def test_losses_that_recovery_noticed_are_told() -> None:
    source = FakeSource("w@e")
    machine = await Machine().start(FakeSources(source))
    for text in "abc":
        source.add(text)
        await machine.pipeline.step()
        await machine.pipeline.flush()
    machine.disk.inode(f"/pod/spool/{2:016d}.entry").data[40] ^= 1
    await machine.start()
    await machine.pipeline.report_holes()
    gaps = [
        (line["subject"], line["cause"], line.get("lines"))
        for head in machine.heads()
        for item in head.objects
        if item.facts.signal == "gaps"
        for line in machine.spooled(item.facts.writer)
        if line["event"] == "gap"
    ]
    assert ("w@e", "spool-damaged", 1) in gaps
