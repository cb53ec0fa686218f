"""Sources: blocks of what is durable, from any state on, of any size."""

import json
import random
from typing import Any

import pytest

from spanyard_sidecar.otlp.source import OtlpSource
from spanyard_sidecar.otlp.waiting import LogSettings
from tests.unit.sidecar.otlp.machine import Machine, expected

SMALL = LogSettings(segment_bytes=6000)


def names(data: bytes) -> list[str]:
    return [json.loads(line)["name"] for line in data.splitlines()]


@pytest.mark.parametrize("budget", [1, 500, 5000, 1 << 20])
async def test_every_state_goes_on_exactly_where_its_block_ended(budget: int) -> None:
    rng = random.Random(budget)
    machine = Machine(settings=SMALL)
    sent: list[str] = []
    async with machine.running():
        for i in range(12):
            count = rng.randint(1, 20)
            await machine.send(count, name=f"r{i}", size=rng.randint(0, 3000))
            sent += expected(count, f"r{i}")
        [source] = machine.scan().values()
        found: list[str] = []
        states: list[tuple[int, dict[str, Any]]] = [(0, source.state())]
        while (block := source.read(budget)) is not None:
            assert block.first == len(found) + 1
            assert not block.cut
            found += names(block.lines)
            assert block.records == len(found) - block.first + 1
            states.append((len(found), source.state()))
        assert found == sent
        assert source.end().last_seq == len(sent)
        source.close()
        for count, state in rng.sample(states, min(10, len(states))):
            again = OtlpSource(machine.log, source.writer, "spans", json.loads(json.dumps(state)))
            rest: list[str] = []
            while (block := again.read(budget)) is not None:
                rest += names(block.lines)
            assert rest == sent[count:]
            again.close()


async def test_blocks_stay_near_their_budget() -> None:
    async with Machine().running() as machine:
        for i in range(50):
            await machine.send(5, name=f"r{i}", size=500)
        [source] = machine.scan().values()
        sizes = []
        while (block := source.read(20_000)) is not None:
            sizes.append(len(block.lines))
        assert len(sizes) > 5
        assert max(sizes) <= 35_000
        source.close()


async def test_a_line_larger_than_the_budget_comes_whole() -> None:
    async with Machine().running() as machine:
        await machine.send(3, size=300_000)
        [source] = machine.scan().values()
        found: list[str] = []
        while (block := source.read(1000)) is not None:
            found += names(block.lines)
        assert found == expected(3)
        source.close()


async def test_new_records_come_after_the_end_was_seen() -> None:
    async with Machine(settings=SMALL).running() as machine:
        await machine.send(1, name="a")
        [source] = machine.scan().values()
        assert source.read(10_000) is not None
        assert source.read(10_000) is None
        for i in range(10):
            await machine.send(2, name=f"b{i}", size=1000)
            block = source.read(10_000)
            assert block is not None
            assert names(block.lines) == expected(2, f"b{i}")
            assert source.read(10_000) is None
        assert not source.ended
        assert source.finish() is None
        source.close()


async def test_a_signal_is_announced_with_its_first_record_and_only_once() -> None:
    async with Machine().running() as machine:
        assert machine.scan() == {}
        await machine.send(1)
        found = machine.scan()
        assert list(found) == ["0b54dbb9/spans@abcdefgh"]
        assert {source.signal for source in found.values()} == {"spans"}
        assert {source.container for source in found.values()} == {"otlp"}
        assert machine.scan() == {}


async def test_records_of_an_earlier_epoch_are_read_under_their_own_writer() -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(3, name="old")
    machine.epoch = "bcdefghi"
    async with machine.running():
        await machine.send(2, name="new")
        found = machine.scan()
        old, new = found["0b54dbb9/spans@abcdefgh"], found["0b54dbb9/spans@bcdefghi"]
        blocks = {source.writer: source.read(1 << 20) for source in found.values()}
        assert [names(block.lines) for block in blocks.values() if block] == [
            expected(3, "old"),
            expected(2, "new"),
        ]
        assert old.ended
        assert not new.ended
        old.close()
        new.close()


async def test_a_writer_whose_state_was_lost_goes_on_where_the_log_begins() -> None:
    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(6):
            await machine.send(4, name=f"r{i}", size=1000)
        [source] = machine.scan().values()
        for _ in range(4):
            assert source.read(1) is not None
            source.stored(source.state())
        read = source.end().last_seq
        source.close()
        assert len(machine.segments()) < 6
    async with machine.running():  # no state: everything before was given back as durable
        lines = machine.drain()
        assert 1 < lines[0]["seq"] <= read + 1
        assert lines[-1]["seq"] == 24


async def test_time_of_a_block_is_that_of_its_first_record() -> None:
    from tests.unit.sidecar.otlp.requests import NOW

    async with Machine().running() as machine:
        await machine.send(3)
        [source] = machine.scan().values()
        block = source.read(1 << 20)
        assert block is not None
        assert block.time_ns == NOW
        source.close()
