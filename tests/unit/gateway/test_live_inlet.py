"""What waits for one listener: bounded, and what does not fit is told to the record, in order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_gateway.live import errands
from spanyard_gateway.live.inlet import Dropped, Inlet
from spanyard_gateway.live.records import Block, LogRecord

LIMIT = 1_000
Step = tuple[str, int, int] | int
"""A writer's next block, of so many records and bytes; or so many that are taken."""
STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(1, 700)) | st.integers(1, 4),
    max_size=60,
)


def record(seq: int) -> LogRecord:
    return LogRecord(seq, "2026-11-21T10:00:00Z", "info", "m")


@given(steps=STEPS)
def test_what_comes_and_what_is_told_as_dropped_is_all_in_order_and_little_waits(
    steps: list[Step],
) -> None:
    async def scene() -> None:
        inlet, last, told = Inlet(LIMIT), dict[str, int](), dict[str, int]()
        dropped = 0

        async def take() -> None:
            nonlocal dropped
            item = await inlet.get()
            assert isinstance(item, Block | Dropped)
            assert item.first == told.get(item.writer, 0) + 1
            told[item.writer] = item.last
            dropped += isinstance(item, Dropped)

        shed = False
        for step in steps:
            if isinstance(step, int):
                for _ in range(step):
                    if not inlet.empty:
                        await take()
                continue
            writer, count, size = step
            first = last.get(writer, 0) + 1
            last[writer] = first + count - 1
            records = [record(n) for n in range(first, first + count)]
            shed |= inlet.waiting > 0 and inlet.waiting + size > LIMIT
            inlet.offer(Block(writer, first, count, records, size))
            assert inlet.waiting <= max(LIMIT, size)
        while not inlet.empty:
            await take()
        assert told == last
        assert bool(dropped) == shed

    asyncio.run(scene())


def test_little_waits_with_a_writer_that_waits_for_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errands, "HELD_BYTES", LIMIT)
    held = errands._Held(0)
    for n in range(1, 101):
        held.add(Block("w", n, 1, [record(n)], 90))
    blocks = [block for block in held.waiting if isinstance(block, Block)]
    assert sum(block.size for block in blocks) == held.size <= LIMIT
    assert [block.first for block in blocks] == list(range(101 - len(blocks), 101))
