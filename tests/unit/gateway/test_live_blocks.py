"""Blocks that are made fewer: the same records, in messages that are not too large."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_gateway.live import records
from spanyard_gateway.live.records import Block, LogRecord, merged

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from([0, 0, 0, 1, 9]), st.integers(1, 5),
        st.integers(1, 600), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip
"""A writer's next block: what it skips, how many records of how many bytes, whether they are shown."""


def made(steps: list[tuple[str, int, int, int, bool]]) -> list[Block]:
    blocks, last = list[Block](), dict[str, int]()
    for writer, skipped, count, size, shown in steps:
        first = last.get(writer, 0) + skipped + 1
        last[writer] = first + count - 1
        seqs = range(first, first + count) if shown else ()
        found = [LogRecord(seq, "2026-11-21T10:00:00Z", "info", "m") for seq in seqs]
        blocks.append(Block(writer, first, count, found, size))
    return blocks


def numbers(blocks: list[Block]) -> dict[str, list[int]]:
    """Each writer's, as far as its blocks say."""
    found: dict[str, list[int]] = {}
    for block in blocks:
        found.setdefault(block.writer, []).extend(range(block.first, block.last + 1))
    return found


@given(steps=STEPS)
def test_what_is_merged_is_the_same_without_holes_in_order_and_not_too_large(
    steps: list[tuple[str, int, int, int, bool]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MESSAGE_BYTES", 1_000)
        before = made(steps)
        after = merged(before)
        assert numbers(after) == numbers(before)
        assert sum(block.size for block in after) == sum(block.size for block in before)
        assert {id(r) for b in after for r in b.records} == {
            id(r) for b in before for r in b.records
        }
        for block in after:
            seqs = [record.seq for record in block.records]
            assert seqs in ([], [*range(block.first, block.last + 1)])
            assert block.size <= 1_000
        sizes = {(block.writer, block.first): block.size for block in before}
        last: dict[str, Block] = {}
        for block in after:
            one = last.get(block.writer)
            if one and one.signal == block.signal and one.last + 1 == block.first:
                assert one.size + sizes[block.writer, block.first] > 1_000, "else they were one"
            last[block.writer] = block
