"""The log: what is acknowledged is there, once, in order, within its limits."""

import asyncio
import contextlib
import errno
import random
from collections.abc import Iterator
from typing import Any

import pytest

from spanyard_core import faults
from spanyard_sidecar.otlp.waiting import LogSettings
from tests.sim.diskfiles import SimAppendFile
from tests.sim.inodes import Inode
from tests.unit.sidecar.otlp.machine import DIRECTORY, Machine, expected, settled

SMALL = LogSettings(segment_bytes=2000)


async def test_acknowledged_records_come_back_in_order_and_without_holes() -> None:
    async with Machine().running() as machine:
        for i in range(3):
            assert (await machine.send(4, name=f"r{i}")).status == 200
        assert machine.names() == expected(4, "r0") + expected(4, "r1") + expected(4, "r2")


async def test_requests_that_wait_together_share_one_write_and_one_sync() -> None:
    async with Machine().running() as machine:
        await machine.send(1, name="first")
        writes = syncs = 0
        write, sync = SimAppendFile.write, SimAppendFile.sync

        def counted_write(self: SimAppendFile, data: Any) -> None:
            nonlocal writes
            writes += 1
            write(self, data)

        async def counted_sync(self: SimAppendFile) -> None:
            nonlocal syncs
            syncs += 1
            await sync(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "write", counted_write)
            patch.setattr(SimAppendFile, "sync", counted_sync)
            answers = await asyncio.gather(*(machine.send(2, name=f"r{i}") for i in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert (writes, syncs) == (1, 1)
        assert len(machine.names()) == 41


async def test_nothing_is_answered_or_read_before_its_sync() -> None:
    machine = Machine()
    gate = asyncio.Event()
    sync = SimAppendFile.sync

    async def slow_sync(self: SimAppendFile) -> None:
        await gate.wait()
        await sync(self)

    async with machine.running():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "sync", slow_sync)
            request = asyncio.create_task(machine.send(3))
            await settled()
            assert not request.done()
            assert machine.names() == []
            gate.set()
            assert (await request).status == 200
        assert machine.names() == expected(3)


async def acknowledged_survive(seed: int) -> bool:
    """Send, pull the plug right after the last answer, start again: is everything there?"""
    machine = Machine(settings=SMALL, seed=seed)
    sent: list[str] = []
    async with machine.running():
        for i in range(6):
            assert (await machine.send(2, name=f"r{i}")).status == 200
            sent += expected(2, f"r{i}")
    machine.power_loss(random.Random(seed))
    async with machine.running():
        lines, gaps = machine.drain_with_gaps()
        return not gaps and [line["name"] for line in lines] == sent


@pytest.mark.parametrize("seed", range(20))
async def test_what_was_acknowledged_survives_a_power_loss(seed: int) -> None:
    assert await acknowledged_survive(seed)


async def test_without_the_sync_before_the_answer_a_power_loss_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forgotten(self: SimAppendFile) -> None:
        pass

    monkeypatch.setattr(SimAppendFile, "sync", forgotten)
    outcomes = [await acknowledged_survive(seed) for seed in range(20)]
    assert not all(outcomes)


async def test_without_the_sync_of_the_directory_a_power_loss_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forgotten(self: Any, path: str) -> None:
        pass

    monkeypatch.setattr("tests.sim.disk.SimFiles.sync_dir", forgotten)
    outcomes = [await acknowledged_survive(seed) for seed in range(20)]
    assert not all(outcomes)


class Died(BaseException):
    """Stands for kill -9: nothing catches it."""


@contextlib.contextmanager
def dying_at(point: str, n: int = 1) -> Iterator[None]:
    """The n-th pass of a fault point raises, as if the process died there."""
    passes = 0

    def hook(name: str) -> None:
        nonlocal passes
        passes += name == point
        if name == point and passes == n:
            raise Died(point)

    faults.set_hook(hook)
    try:
        yield
    finally:
        faults.set_hook(None)


@pytest.mark.parametrize("point", ["otlp.appended", "otlp.durable"])
@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_a_resend_after_a_crash_is_stored_once(point: str, power: bool, seed: int) -> None:
    machine = Machine(seed=seed)
    with contextlib.suppress(Died):
        async with machine.running():
            await machine.send(2, name="before")
            with dying_at(point):
                await machine.send_to_death(3, name="lost answer")
    if power:
        machine.power_loss(random.Random(seed))
    async with machine.running():
        answer = await machine.send(3, name="lost answer")
        assert answer.status == 200
        if point == "otlp.durable":
            assert answer.duplicate
        assert machine.names() == expected(2, "before") + expected(3, "lost answer")
        assert (await machine.send(1, name="after")).status == 200
    async with machine.running():
        assert machine.names()[-1] == "after 0"


async def test_a_full_disk_takes_nothing_and_leaves_nothing() -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(2, name="before")
        machine.disk.capacity["/spool"] = machine.disk.used("/spool") + 300
        answer = await machine.send(5, name="too much", size=1000)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert machine.disk.used("/spool") < machine.disk.capacity["/spool"]
        del machine.disk.capacity["/spool"]
        assert (await machine.send(5, name="too much", size=1000)).status == 200
        assert machine.names() == expected(2, "before") + expected(5, "too much")
    async with machine.running():
        assert len(machine.names()) == 7


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("seed", range(15))
async def test_a_failed_sync_is_no_acknowledgement_and_poisons_nothing(
    seed: int, at_once: bool
) -> None:
    # After EIO the kernel may have dropped the pages; a later fsync of the same file succeeds.
    machine = Machine(seed=seed)
    sent = expected(2, "before")
    async with machine.running():
        await machine.send(2, name="before")
        machine.disk.refuse = lambda operation, path: errno.EIO if operation == "sync" else None
        assert (await machine.send(3, name="during")).status == 503
        machine.disk.refuse = lambda operation, path: None
        if not at_once:
            for name in ("after", "during"):
                assert (await machine.send(3, name=name)).status == 200
                sent += expected(3, name)
            assert machine.names() == sent
    machine.power_loss(random.Random(seed))
    async with machine.running():
        answer = await machine.send(3, name="during")
        assert answer.status == 200
        if at_once:
            sent += expected(3, "during")
        else:
            assert answer.duplicate
        assert machine.names() == sent


@pytest.mark.parametrize("seed", range(15))
async def test_what_a_crash_left_unsynced_is_durable_before_anyone_sees_it(seed: int) -> None:
    machine = Machine(seed=seed)
    with contextlib.suppress(Died):
        async with machine.running():
            await machine.send(2, name="before")
            with dying_at("otlp.appended"):
                await machine.send_to_death(3, name="unsynced")
    async with machine.running():
        [source] = machine.scan().values()
        block = source.read(1 << 20)
        assert block is not None
        assert block.records == 5
        machine.states[source.writer] = source.state()  # and it is uploaded
        source.close()
    machine.power_loss(random.Random(seed))
    async with machine.running():
        assert (await machine.send(3, name="unsynced")).duplicate
        await machine.send(1, name="next")
        [line] = machine.drain()
        assert (line["name"], line["seq"]) == ("next 0", 6)


async def test_a_truncation_that_fails_comes_again_before_the_next_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(2, name="before")
        machine.disk.capacity["/spool"] = machine.disk.used("/spool") + 300
        cut = Inode.cut

        def refused(self: Inode, size: int) -> None:
            raise OSError(errno.EIO, "no")

        monkeypatch.setattr(Inode, "cut", refused)
        assert (await machine.send(5, name="a", size=1000)).status == 503
        del machine.disk.capacity["/spool"]
        assert (await machine.send(1, name="b")).status == 503
        monkeypatch.setattr(Inode, "cut", cut)
        assert (await machine.send(1, name="c")).status == 200
        assert machine.names() == [*expected(2, "before"), "c 0"]
    async with machine.running():
        assert machine.names() == [*expected(2, "before"), "c 0"]


async def test_the_log_never_passes_its_budget_and_empties_when_it_is_read() -> None:
    machine = Machine(settings=SMALL, limit=40_000)
    async with machine.running():
        statuses = [(await machine.send(3, name=f"r{i}", size=300)).status for i in range(40)]
        assert set(statuses) == {200, 503}
        assert machine.disk.used("/spool") <= machine.budget.used <= 40_000
        [source] = machine.scan().values()
        while source.read(10_000) is not None:
            source.stored(source.state())
        assert len(machine.segments()) == 1
        assert machine.budget.used < 10_000
        assert (await machine.send(3, name="again", size=300)).status == 200
        source.close()


async def test_what_still_fits_is_taken_when_a_group_does_not() -> None:
    machine = Machine(limit=20_000)
    async with machine.running():
        answers = await asyncio.gather(
            machine.send(1, name="large", size=30_000), machine.send(1, name="small")
        )
        assert [answer.status for answer in answers] == [503, 200]
        assert machine.names() == ["small 0"]


async def test_a_queue_beyond_its_bytes_turns_requests_away() -> None:
    machine = Machine(settings=LogSettings(waiting_bytes=3000))
    gate = asyncio.Event()
    sync = SimAppendFile.sync

    async def slow_sync(self: SimAppendFile) -> None:
        await gate.wait()
        await sync(self)

    async with machine.running():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "sync", slow_sync)
            first = asyncio.create_task(machine.send(1, name="first"))
            await settled()
            second = asyncio.create_task(machine.send(1, name="second", size=2000))
            await settled()
            assert machine.log.waiting > 2000
            third = await machine.send(1, name="third", size=2000)
            gate.set()
            assert [(await first).status, (await second).status, third.status] == [200, 200, 503]
        assert machine.log.waiting == 0
        assert machine.log.counts.turned_away == 1


async def test_segments_go_when_all_their_writers_are_stored_and_not_before() -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(5):
            await machine.send(3, name=f"r{i}", size=500)
            if i == 0:
                logs = ExportLogsServiceRequest()
                logs.resource_logs.add().scope_logs.add().log_records.add()
                assert (await machine.send_json("logs", logs)).status == 200
        before = machine.segments()
        assert len(before) == 5
        by_signal = {source.signal: source for source in machine.scan().values()}
        spans, log_records = by_signal["spans"], by_signal["logs"]
        while spans.read(1_000_000) is not None:
            pass
        spans.stored(spans.state())
        # The one that the log record is in, and the last, which is written to.
        assert machine.segments() == [before[1], before[-1]]
        assert log_records.read(1_000_000) is not None
        log_records.stored(log_records.state())
        assert machine.segments() == [before[-1]]
        spans.close()
        log_records.close()


async def test_numbers_go_on_when_all_segments_but_the_last_are_gone() -> None:
    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(6):
            await machine.send(3, name=f"r{i}", size=500)
        [source] = machine.scan().values()
        while source.read(1_000_000) is not None:
            pass
        machine.states[source.writer] = source.state()
        source.stored(source.state())
        source.close()
    async with machine.running():
        await machine.send(1, name="next")
        [line] = machine.drain()
        assert (line["name"], line["seq"]) == ("next 0", 19)


async def test_numbers_go_on_from_the_spool_when_the_log_is_gone() -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(3)
        [source] = machine.scan().values()
        assert source.read(1_000_000) is not None
        machine.states[source.writer] = source.state()
        source.close()
    for name in machine.segments():
        machine.files().unlink(f"{DIRECTORY}/{name}")
    async with machine.running():
        await machine.send(1, name="next")
        [line] = machine.drain()
        assert (line["name"], line["seq"]) == ("next 0", 4)


async def test_stopping_turns_waiting_requests_away() -> None:
    machine = Machine()
    gate = asyncio.Event()

    async def stuck(self: SimAppendFile) -> None:
        await gate.wait()

    async with machine.running():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "sync", stuck)
            first = asyncio.create_task(machine.send(1, name="first"))
            await settled()
            second = asyncio.create_task(machine.send(1, name="second"))
            await settled()
    assert [(await first).status, (await second).status] == [503, 503]
    assert (await machine.send(1)).status == 503


async def test_refusing_waits_for_what_was_taken_and_takes_no_more() -> None:
    machine = Machine()
    gate = asyncio.Event()
    sync = SimAppendFile.sync

    async def slow_sync(self: SimAppendFile) -> None:
        await gate.wait()
        await sync(self)

    async with machine.running():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "sync", slow_sync)
            first = asyncio.create_task(machine.send(1, name="first"))
            await settled()
            second = asyncio.create_task(machine.send(1, name="second"))
            await settled()
            refusing = asyncio.create_task(machine.log.refuse())
            await settled()
            assert not refusing.done()
            assert (await machine.send(1, name="third")).status == 503
            gate.set()
            await refusing
        assert [(await first).status, (await second).status] == [200, 200]
        assert machine.names() == ["first 0", "second 0"]
        await machine.log.refuse()


async def test_the_pipeline_is_woken_after_each_group() -> None:
    machine = Machine()
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    async with machine.running():
        machine.log.on_durable.append(wake)
        await machine.send(1, name="a")
        await machine.send(1, name="b")
    assert woken == 2


async def test_the_budget_counts_what_is_found_at_the_start() -> None:
    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(4):
            await machine.send(3, name=f"r{i}", size=500)
        used = machine.budget.used
        assert used >= machine.disk.used("/spool")
    async with machine.running():
        assert machine.budget.used == used
