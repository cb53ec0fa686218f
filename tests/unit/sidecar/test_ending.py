"""How a collector ends: to the end of what it reads, or saying that it did not get there."""

import asyncio
import random
from pathlib import Path

import pytest

from spanyard_core.files import SystemFiles
from spanyard_sidecar.collector import Collector
from spanyard_sidecar.committer import DrainDeadlineError
from spanyard_sidecar.model import Block, Stored
from spanyard_sidecar.nostorage import NoStorage
from spanyard_sidecar.settings import CollectorSettings
from spanyard_sidecar.spanfiles import SpanFileSources
from tests.unit.sidecar.machine import (
    DIRECTORY,
    FakeSource,
    FakeSources,
    Machine,
    OldSource,
    messages,
    virtual,
)
from tests.unit.sidecar.spanfiles import IDENTITY as SPANS_OF
from tests.unit.sidecar.spanfiles import Writer, log


class StoppingSource(FakeSource):
    """Tells the collector to end while it is being read, as a signal does: between two turns."""

    stop: asyncio.Event

    def read(self, budget: int) -> Block | None:
        if self.reads == 3:
            asyncio.get_running_loop().call_soon(self.stop.set)
        return super().read(budget)


def collector_of(
    machine: Machine, source: FakeSource, *, grace: float, quiet: float = 0.5
) -> Collector:
    settings = CollectorSettings(
        storage="sim:///",
        project="ns.app",
        pod_uid="pod-uid",
        spool=DIRECTORY,
        grace=grace,
        quiet=quiet,
    )
    return Collector(
        settings,
        files=machine.disk.view(),
        clock=machine.clock,
        storage=machine.bucket.view(),
        rng=random.Random(1),
        sources=lambda _: [FakeSources(source)],
    )


@virtual
async def test_a_busy_collector_that_is_told_to_end_reads_on_to_the_end() -> None:
    machine = Machine()
    source = StoppingSource("w@e")
    source.stop = asyncio.Event()
    texts = [f"line {n}" for n in range(200)]
    for text in texts:
        source.add(text)
    collector = collector_of(machine, source, grace=30)
    await collector.run(source.stop)
    assert not collector.leftover
    assert messages(machine.stored("w@e")) == texts
    assert machine.events("w@e", where="bucket") == ["begin", "end"]


class Answering:
    """A gateway that takes its time."""

    def __init__(self, machine: Machine, seconds: float) -> None:
        self._machine = machine
        self._seconds = seconds

    async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
        await self._machine.clock.sleep(self._seconds)
        return Stored("w@older", 5, 50)


@pytest.mark.parametrize(
    ("seconds", "cause"), [(2.0, "continues"), (1_000.0, "unverified")], ids=["soon", "never"]
)
@pytest.mark.parametrize("quiet", [0.5, 0.0])
def test_a_question_is_waited_for_at_the_end_as_long_as_there_is_time(
    seconds: float, cause: str, quiet: float
) -> None:
    """Without spinning, which this loop would notice."""

    @virtual
    async def check() -> None:
        machine = Machine()
        source = OldSource("w@e").add("a")
        collector = collector_of(machine, source, grace=30, quiet=quiet)
        collector._index = Answering(machine, seconds)
        stop = asyncio.Event()
        stop.set()
        began = machine.clock.monotonic()
        await collector.run(stop)
        assert machine.clock.monotonic() - began < 20
        assert machine.events("w@e", where="bucket") == [f"begin {cause}", "end"]
        assert (source.continued is not None) == (cause == "continues")

    check()


class EndlessSource(FakeSource):
    """Whatever is read, there is more."""

    def read(self, budget: int) -> Block | None:
        return self.block(f"line {self.reads}") if self._more() else None

    def _more(self) -> bool:
        self.reads += 1
        self.seq += 1
        return True


@virtual
async def test_who_is_not_read_to_the_end_in_time_gets_no_end_line_and_is_named() -> None:
    endless, quiet = EndlessSource("w@e"), FakeSource("q@e").add("all of it")
    machine = await Machine().start(FakeSources(endless, quiet), chunk_size=1)
    slept = machine.clock.sleep

    async def sleep(seconds: float) -> None:
        await slept(max(seconds, 0.01))  # reading takes its time

    machine.clock.sleep = sleep  # type: ignore[method-assign]  # for the deadline to come
    with pytest.raises(DrainDeadlineError, match="not read to the end: w@e"):
        await machine.pipeline.drain(quiet=0.5, deadline=2)
    assert machine.events("w@e") == ["begin"]
    assert machine.events("q@e") == ["begin", "end"]
    assert machine.spool.states["w@e"] == {"seq": endless.seq}


def test_a_program_that_ends_just_before_its_collector_leaves_no_span_file(tmp_path: Path) -> None:
    """Neither its last line nor the file itself, even when the collector ends without waiting."""

    @virtual
    async def check() -> None:
        machine = Machine()
        kind = SpanFileSources(SystemFiles(), machine.clock, SPANS_OF, str(tmp_path))
        await machine.start(kind)
        program = Writer(tmp_path)
        program.write(log("one"))
        await machine.pipeline.step()
        await machine.pipeline.step()
        program.write(log("two") + log("half a line")[:-1])
        program.close()
        await machine.pipeline.drain(quiet=0, deadline=machine.clock.monotonic() + 10)
        await machine.upload_all()
        writer = f"uid/logs/{program.stem}@{machine.spool.epoch}"
        assert messages(machine.stored(writer)) == ["one", "two", "half a line"]
        assert machine.events(writer, where="bucket")[1:] == ["end"]
        assert machine.stored(f"{writer}/meta")[-1]["afterSeq"] == 3
        assert not list(program.folder.iterdir())

    check()


class LastWord(FakeSource):
    """Its last line has no newline: what it gives last is cut, and it has ended with it."""

    @property
    def ended(self) -> bool:
        return not self.blocks


@virtual
async def test_a_source_that_ended_with_its_last_block_is_read_to_the_end() -> None:
    machine = await Machine().start(FakeSources(LastWord("w@e").add("a").add("b", cut=True)))
    await machine.pipeline.drain(quiet=0, deadline=2)
    assert messages(machine.spooled("w@e")) == ["a", "b"]
    assert machine.events("w@e") == ["begin", "end"]


class Unfinishable(FakeSource):
    """Was read so far; at the end the disk fails."""

    def finish(self) -> Block | None:
        raise OSError(5, "Input/output error")


@virtual
async def test_a_source_whose_last_bytes_cannot_be_read_gets_no_end_line() -> None:
    machine = await Machine().start(FakeSources(Unfinishable("w@e").add("a")))
    with pytest.raises(DrainDeadlineError, match="not read to the end: w@e"):
        await machine.pipeline.drain(quiet=0.1, deadline=2)
    assert messages(machine.spooled("w@e")) == ["a"]
    assert machine.events("w@e") == ["begin"]


@virtual
async def test_a_source_that_cannot_be_read_at_the_end_gets_no_end_line() -> None:
    source = FakeSource("w@e").add("a")
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    source.error = OSError(5, "Input/output error")
    with pytest.raises(DrainDeadlineError, match="w@e"):
        await machine.pipeline.drain(quiet=0.5, deadline=2)
    assert messages(machine.spooled("w@e")) == ["a"]
    assert machine.events("w@e") == ["begin"]


@pytest.mark.parametrize(
    ("announced", "ends_after"), [(None, 30.0), (20.0, 10.0), (29.9, 1.5), (500.0, 30.0)]
)
def test_the_grace_period_began_when_the_pods_end_was_announced(
    announced: float | None, ends_after: float
) -> None:
    """The server used some of it; an announcement long ago was none of this end."""

    @virtual
    async def check() -> None:
        machine = Machine()
        source = FakeSource("w@e").add("a")
        collector = collector_of(machine, source, grace=30)
        collector.storage = NoStorage("sim:///", "it is away")
        await collector.open()
        stop = asyncio.Event()
        running = asyncio.create_task(collector.run(stop))
        await machine.clock.sleep(1)
        if announced is not None:
            collector.flush_fast()
            await machine.clock.sleep(announced)
        began = machine.clock.monotonic()
        stop.set()
        await running
        assert abs(machine.clock.monotonic() - began - ends_after) < 0.5
        assert "not uploaded" in collector.leftover

    check()


@virtual
async def test_an_end_that_was_announced_and_does_not_come_is_forgotten() -> None:
    machine = Machine()
    collector = collector_of(machine, FakeSource("w@e"), grace=30)
    await collector.open()
    stop = asyncio.Event()
    running = asyncio.create_task(collector.run(stop))
    collector.flush_fast()
    assert collector.pipeline.flush_interval < 1
    await machine.clock.sleep(100)
    assert collector.pipeline.flush_interval < 1
    await machine.clock.sleep(100)
    assert collector.pipeline.flush_interval == collector.settings.flush_interval
    stop.set()
    await running
