"""Recovery: whatever a crash does to the log's end, what was acknowledged is there."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanyard_sidecar.otlp.waiting import LogSettings
from tests.unit.sidecar.otlp.machine import DIRECTORY, Machine, expected

SMALL = LogSettings(segment_bytes=3000)


def data_of(machine: Machine, name: str) -> bytearray:
    return machine.disk.inode(f"{DIRECTORY}/{name}").data


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_cut_or_flip_of_an_unacknowledged_end_keeps_what_was_acknowledged(
    data: st.DataObject,
) -> None:
    asyncio.run(_torn_end(data))


async def _torn_end(data: st.DataObject) -> None:
    machine = Machine(settings=SMALL)
    acknowledged = data.draw(st.integers(0, 6))
    sent: list[str] = []
    async with machine.running():
        for i in range(acknowledged):
            await machine.send(2, name=f"r{i}", size=200)
            sent += expected(2, f"r{i}")
        before = {name: len(data_of(machine, name)) for name in machine.segments()}
        # A last group of some requests, which reaches the disk but is never answered.
        group = data.draw(st.integers(1, 4))
        await asyncio.gather(*(machine.send(2, name=f"late{i}", size=200) for i in range(group)))
        last = machine.segments()[-1]
    tail = data_of(machine, last)
    start = before.get(last, 0)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(start, len(tail) - 1))
        tail[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del tail[data.draw(st.integers(start, len(tail))) :]
    if data.draw(st.booleans()):
        tail += data.draw(st.sampled_from([bytes(500), b"SPF1" * 20, b"\xff" * 33]))
    async with machine.running():
        found = machine.names()
        assert found[: len(sent)] == sent
        late = [name for i in range(group) for name in expected(2, f"late{i}")]
        assert found[len(sent) :] == late[: len(found) - len(sent)]
        # The clients send again what they saw no answer to; then all of it is there once.
        for i in range(group):
            assert (await machine.send(2, name=f"late{i}", size=200)).status == 200
    async with machine.running():
        assert sorted(machine.names()) == sorted(sent + late)


@pytest.mark.parametrize("seed", range(30))
async def test_damage_to_what_was_acknowledged_is_told_and_the_rest_kept(seed: int) -> None:
    rng = random.Random(seed)
    machine = Machine(settings=SMALL)
    async with machine.running():
        for i in range(7):
            await machine.send(2, name=f"r{i}", size=200)
        # Not in the last frame of all: that could not be told from a torn one.
        sizes = {name: len(data_of(machine, name)) for name in machine.segments()}
        await machine.send(2, name="r7", size=200)
        assert len(machine.segments()) >= 3
    name = rng.choice(sorted(sizes))
    data_of(machine, name)[rng.randrange(sizes[name])] ^= 0xFF
    async with machine.running():
        lines, gaps = machine.drain_with_gaps()
        lost = sum(gap.lines or 0 for gap in gaps)
        assert len(lines) + lost == 16
        if lost:
            assert {gap.cause for gap in gaps} == {"damaged"}
        assert (await machine.send(1, name="after")).status == 200
        lines, _ = machine.drain_with_gaps()
    async with machine.running():
        lines, gaps = machine.drain_with_gaps()
        assert lines[-1]["name"] == "after 0"
        assert lines[-1]["seq"] == 17
        assert len({line["seq"] for line in lines}) == len(lines)
        assert len(lines) + sum(gap.lines or 0 for gap in gaps) == 17


async def test_a_segment_whose_making_was_interrupted_is_removed() -> None:
    machine = Machine(settings=SMALL)
    async with machine.running():
        await machine.send(2, name="a")
    machine.files().open_append(f"{DIRECTORY}/{2:016d}.log").write(b"SPF1 rubbish")
    async with machine.running():
        assert len(machine.segments()) == 1
        await machine.send(1, name="b")
        assert machine.names() == [*expected(2, "a"), "b 0"]


async def test_foreign_files_in_the_directory_are_left_alone() -> None:
    machine = Machine()
    async with machine.running():
        await machine.send(1)
    machine.files().open_append(f"{DIRECTORY}/notes.txt").write(b"hello")
    async with machine.running():
        assert machine.names() == expected(1)
    assert "notes.txt" in machine.segments()


@pytest.mark.parametrize("seed", range(40))
async def test_random_crashes_keep_every_acknowledged_record_once(seed: int) -> None:
    """Crashes and power cuts at any await, resends by the client: stored once, in the end."""
    rng = random.Random(seed)
    machine = Machine(settings=SMALL, seed=seed)
    wanted: list[str] = []
    pending: list[str] = []
    number = 0
    for _ in range(12):
        async with machine.running():
            while pending:
                if (await machine.send(2, name=pending[0], size=150)).status == 200:
                    wanted += expected(2, pending.pop(0))
            requests: dict[str, asyncio.Task[object]] = {}
            for _ in range(rng.randint(1, 5)):
                number += 1
                name = f"r{number}"
                requests[name] = asyncio.create_task(machine.send(2, name=name, size=150))
            for _ in range(rng.randint(0, 12)):
                await asyncio.sleep(0)
            for name, task in requests.items():
                if task.done():
                    wanted += expected(2, name)
                else:
                    task.cancel()
                    pending.append(name)
            await asyncio.gather(*requests.values(), return_exceptions=True)
        if rng.random() < 0.5:
            machine.power_loss(rng)
    async with machine.running():
        for name in pending:
            assert (await machine.send(2, name=name, size=150)).status == 200
            wanted += expected(2, name)
        assert sorted(machine.names()) == sorted(wanted)
