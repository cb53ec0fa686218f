"""The ring: what it keeps, where history meets live, and what slow readers are told."""

import asyncio
import errno
from collections.abc import Iterator, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_sidecar.committer import DrainDeadlineError
from spanyard_sidecar.ring import Batch, Ring, head_of, tail_of
from tests.unit.sidecar.machine import FakeSource, FakeSources, Machine, messages, virtual


def lines(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(first, last + 1))


def numbers(batches: Iterator[Batch]) -> list[int]:
    found: list[int] = []
    for _, first, data in batches:
        values = [int(text) for text in data.split()]
        assert values[0] == first
        found += values
    return found


def test_the_newest_lines_of_each_container_are_kept_whole_blocks_at_a_time() -> None:
    ring = Ring(lines=10)
    for n in range(1, 40, 4):
        ring.publish("app", "w", n, lines(n, n + 3))
    ring.publish("other", "v", 1, lines(1, 3))
    assert numbers(ring.history("app", {})) == list(range(29, 41))
    assert numbers(ring.history("other", {})) == [1, 2, 3]


def test_a_block_larger_than_the_limit_is_kept_because_its_lines_are_the_newest() -> None:
    ring = Ring(lines=5)
    ring.publish("app", "w", 1, lines(1, 20))
    assert numbers(ring.history("app", {})) == list(range(1, 21))
    ring.publish("app", "w", 21, lines(21, 25))
    assert numbers(ring.history("app", {})) == list(range(21, 26))


def test_memory_has_a_limit_and_the_largest_container_pays_for_it() -> None:
    ring = Ring(size=10_000)
    ring.publish("quiet", "q", 1, lines(1, 2))
    for n in range(1, 2000):
        ring.publish("loud", "w", n, lines(n, n))
    assert ring.size <= 10_000
    assert numbers(ring.history("quiet", {})) == [1, 2]
    assert numbers(ring.history("loud", {}))[-1] == 1999


def test_without_lines_to_keep_nothing_is_kept() -> None:
    ring = Ring(lines=0)
    ring.publish("app", "w", 1, lines(1, 20))
    assert ring.size == 0
    assert numbers(ring.history("app", {})) == []


def test_history_begins_after_what_the_reader_has() -> None:
    ring = Ring()
    ring.publish("app", "w", 1, lines(1, 10))
    ring.publish("app", "v", 1, lines(1, 3))
    got = list(ring.history("app", {"w": 7}))
    assert got == [("w", 8, lines(8, 10)), ("v", 1, lines(1, 3))]
    assert list(ring.history("app", {"w": 10, "v": 99})) == []


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30))
def test_disk_and_memory_meet_without_gap_or_repeat(disk: int, memory: int, after: int) -> None:
    """The disk holds 1…disk, memory from `memory` on; wherever they overlap or meet."""

    def on_disk(container: str, known: Mapping[str, int]) -> Iterator[Batch]:
        if disk:
            yield "w", 1, lines(1, disk)

    ring = Ring(disk=on_disk)
    ring.publish("app", "w", memory, lines(memory, 40))
    there = {n for n in range(1, 41) if n <= disk or n >= memory}
    assert numbers(ring.history("app", {"w": after})) == sorted(n for n in there if n > after)


@given(st.integers(1, 20), st.integers(0, 25))
def test_cutting_a_block_gives_both_parts(count: int, cut: int) -> None:
    block = lines(5, 4 + count)
    head, tail = head_of(block, 5, cut + 1), tail_of(block, 5, cut)
    assert (head[1] if head else b"") + (tail[1] if tail else b"") == block
    assert tail is None or tail[0] == max(5, cut + 1)


async def test_subscribers_get_what_comes_after_they_came() -> None:
    ring = Ring()
    ring.publish("app", "w", 1, lines(1, 5))
    with ring.subscribe(frozenset({"app"})) as subscription:
        history = numbers(ring.history("app", {}))
        ring.publish("app", "w", 6, lines(6, 7))
        ring.publish("other", "v", 1, lines(1, 1))
        assert history == [1, 2, 3, 4, 5]
        assert await subscription.get() == ("app", "w", 6, lines(6, 7))
        waiting = asyncio.ensure_future(subscription.get())
        await asyncio.sleep(0)
        ring.publish("app", "w", 8, lines(8, 8))
        assert await waiting == ("app", "w", 8, lines(8, 8))
    assert ring.subscribers == 0
    ring.publish("app", "w", 9, lines(9, 9))


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    ring = Ring()
    with ring.subscribe(limit=100) as slow, ring.subscribe(limit=1 << 20) as quick:
        for n in range(1, 101):
            ring.publish("app", "w", n, lines(n, n))
        assert quick.take_dropped() == {}
        dropped = slow.take_dropped()
        assert slow.take_dropped() == {}
        first = (await slow.get())[2]
        assert dropped == {"w": first - 1}
        assert ring.dropped_lines == first - 1


@virtual
async def test_history_holds_the_open_chunk_and_never_what_is_not_shown() -> None:
    source = FakeSource("w@e").add("a").add("b").add("c", cut=True)
    machine = await Machine().start(FakeSources(source))
    await machine.pipeline.step()
    assert texts(machine) == ["a"]
    await machine.pipeline.step()
    assert texts(machine) == ["a", "b"]
    machine.disk.refuse = lambda operation, path: errno.EIO
    machine.pipeline.committer.give_up_at(machine.clock.monotonic() + 3)
    with pytest.raises(DrainDeadlineError):
        await machine.pipeline.step()
    assert texts(machine) == ["a", "b"]  # c is not durable
    assert texts(machine, {"w@e": 1}) == ["b"]


@virtual
async def test_at_any_moment_history_and_live_together_are_everything_once() -> None:
    source = FakeSource("w@e")
    machine = await Machine().start(FakeSources(source), ring_lines=4, chunk_size=700)
    for n in range(60):
        source.add(f"{2 * n}", f"{2 * n + 1}", cut=n % 7 == 3)
        with machine.ring.subscribe() as live:
            history = texts(machine)
            await machine.pipeline.step()
            _, _, _, data = await live.get()
            assert history + messages_of(data) == [str(i) for i in range(2 * n + 2)]
        if n % 10 == 9:
            await machine.upload_all()


@virtual
async def test_history_reaches_back_into_uploaded_entries_and_a_restart() -> None:
    source = FakeSource("w@e")
    machine = await Machine().start(FakeSources(source), ring_lines=3)
    for n in range(5):
        source.add(f"line {n}")
        await machine.pipeline.step()
        if n < 3:
            await machine.pipeline.flush()
    await machine.upload_all()
    assert texts(machine) == [f"line {n}" for n in range(5)]
    await machine.pipeline.flush()
    await machine.start()
    assert texts(machine) == [f"line {n}" for n in range(5)]
    assert list(machine.ring.history("otlp", {})) == []
    assert list(machine.ring.history("app", {"w@e": 5})) == []


def texts(machine: Machine, after: Mapping[str, int] | None = None) -> list[str]:
    history = machine.ring.history("app", after or {})
    return [text for _, _, data in history for text in messages_of(data)]


def messages_of(data: bytes) -> list[str]:
    return messages([msgspec.json.decode(line) for line in data.splitlines()])
