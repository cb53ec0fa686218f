"""Resends: acknowledged again, stored once, for fifteen minutes and over restarts."""

import asyncio
import gzip

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanyard_sidecar.otlp.receipts import Receipt, Receipts, decode_receipts, digest_of
from spanyard_sidecar.otlp.waiting import LogSettings
from tests.sim.diskfiles import SimAppendFile
from tests.unit.sidecar.otlp.machine import HandClock, Machine, expected, settled
from tests.unit.sidecar.otlp.requests import span_request

SMALL = LogSettings(segment_bytes=2000)


async def test_a_resend_is_acknowledged_and_not_stored_again() -> None:
    async with Machine().running() as machine:
        first = await machine.send(3)
        second = await machine.send(3)
        assert (first.status, second.status) == (200, 200)
        assert (first.duplicate, second.duplicate) == (False, True)
        assert first.body == second.body
        assert machine.names() == expected(3)
        assert machine.receiver.counts.duplicates == 1


async def test_gzip_of_another_level_is_the_same_request() -> None:
    body = span_request(20).SerializeToString()
    async with Machine().running() as machine:
        for data, packed in (
            (gzip.compress(body, 1), True),
            (gzip.compress(body, 9), True),
            (body, False),
        ):
            answer = await machine.receiver.receive("traces", data, json=False, gzip=packed)
            assert answer.status == 200
        assert machine.names() == expected(20)


async def test_the_same_bytes_for_another_signal_are_another_request() -> None:
    assert digest_of("traces", b"x") != digest_of("logs", b"x")


async def test_a_resend_of_a_partly_refused_request_gets_the_same_answer() -> None:
    request = span_request(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b""
    body = request.SerializeToString()
    machine = Machine(settings=SMALL)
    async with machine.running():
        first = await machine.receiver.receive("traces", body, json=False)
        told = ExportTraceServiceResponse.FromString(first.body).partial_success
        assert told.rejected_spans == 1
        assert "valid trace id" in told.error_message
        second = await machine.receiver.receive("traces", body, json=False)
        assert (second.body, second.duplicate) == (first.body, True)
        for i in range(4):  # into another segment
            await machine.send(3, name=f"r{i}", size=500)
    async with machine.running():
        third = await machine.receiver.receive("traces", body, json=False)
        assert (third.body, third.duplicate) == (first.body, True)
        assert len(machine.names()) == 2 + 12


async def test_receipts_survive_restarts_and_segments_that_are_gone() -> None:
    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(6):
            await machine.send(3, name=f"r{i}", size=500)
        [source] = machine.scan().values()
        while source.read(1 << 20) is not None:
            pass
        machine.states[source.writer] = source.state()
        source.stored(source.state())
        source.close()
        assert len(machine.segments()) == 1
    async with machine.running():
        for i in range(6):
            assert (await machine.send(3, name=f"r{i}", size=500)).duplicate
        assert machine.drain() == []


@pytest.mark.parametrize("restart", [False, True])
async def test_receipts_are_kept_for_fifteen_minutes(restart: bool) -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(1)
        machine.clock.advance(14 * 60)
        if not restart:
            assert (await machine.send(1)).duplicate
            machine.clock.advance(2 * 60)
            assert not (await machine.send(1)).duplicate
    if restart:
        async with machine.running():
            assert (await machine.send(1)).duplicate
        machine.clock.advance(2 * 60)
        async with machine.running():  # by the wall clock, and that may have been set
            assert (await machine.send(1)).duplicate
            machine.clock.advance(16 * 60)
            assert not (await machine.send(1)).duplicate


async def test_a_wall_clock_that_jumps_does_not_matter_while_running() -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(1)
        machine.clock.wall_ns += 3600 * 10**9
        assert (await machine.send(1)).duplicate
        machine.clock.wall_ns -= 7200 * 10**9
        assert (await machine.send(1)).duplicate
    async with machine.running():  # set back: kept, for at most its time from now
        assert (await machine.send(1)).duplicate
        machine.clock.advance(16 * 60)
        assert not (await machine.send(1)).duplicate


async def test_a_resend_that_comes_while_the_first_is_committed_waits_for_it() -> None:
    machine = Machine()
    gate = asyncio.Event()
    sync = SimAppendFile.sync

    async def slow_sync(self: SimAppendFile) -> None:
        await gate.wait()
        await sync(self)

    async with machine.running():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimAppendFile, "sync", slow_sync)
            first = asyncio.create_task(machine.send(2))
            await settled()
            second = asyncio.create_task(machine.send(2))
            await settled()
            assert not first.done()
            assert not second.done()
            gate.set()
            answers = [await first, await second]
        assert [answer.status for answer in answers] == [200, 200]
        assert [answer.duplicate for answer in answers] == [False, True]
        assert machine.names() == expected(2)


async def test_what_becomes_of_the_first_becomes_of_the_one_that_waits() -> None:
    machine = Machine(limit=100)
    async with machine.running():
        answers = await asyncio.gather(machine.send(2), machine.send(2))
        assert [answer.status for answer in answers] == [503, 503]


def test_receipts_are_bounded_and_early_forgetting_is_counted() -> None:
    clock = HandClock()
    receipts = Receipts(clock, most=1600)
    digests = [digest_of("traces", str(i).encode()) for i in range(5000)]
    for digest in digests:
        receipts.add(digest)
        clock.advance(0.001)
    assert len(receipts) <= 1600
    assert receipts.forgotten_early == 5000 - len(receipts)
    assert receipts.find(digests[-1]) is not None
    assert receipts.find(digests[0]) is None


def test_receipts_come_back_with_their_age() -> None:
    clock = HandClock()
    receipts = Receipts(clock)
    old, new = digest_of("traces", b"old"), digest_of("traces", b"new")
    receipts.add(old)
    clock.advance(10 * 60)
    receipts.add(new, 3, "three refused")
    others = Receipts(clock)
    for receipt in reversed(decode_receipts(receipts.encoded())):
        others.restore(receipt)
    found = others.find(new)
    assert found is not None
    assert (found.refused, found.message) == (3, "three refused")
    clock.advance(6 * 60)
    assert others.find(old) is None
    assert others.find(new) is not None
    assert len(others) == 1


@pytest.mark.parametrize("hours", [-2, 2])
def test_receipts_outlive_a_wall_clock_that_is_set_while_nobody_runs(hours: int) -> None:
    clock = HandClock()
    receipts = Receipts(clock)
    digest = digest_of("traces", b"sent again")
    receipts.restore(Receipt(digest, clock.time_ns() + hours * 3_600_000_000_000))
    assert receipts.find(digest) is not None
    clock.advance(16 * 60)
    assert receipts.find(digest) is None


def test_receipts_that_are_no_receipts_are_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_receipts(b"\xc1")
