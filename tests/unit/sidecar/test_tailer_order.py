"""A backlog of rotated files is read in its order, whatever the kubelet does to it meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_sidecar.model import Gap
from tests.unit.sidecar.tails import Tail, messages


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    made = Tail(tmp_path)
    yield made
    made.close()


def backlog(tail: Tail, files: int) -> list[str]:
    """Rotated files that nobody has read, one line in each, none compressed; and the latest."""
    texts = [f"line of file {n}" for n in range(files + 1)]
    for text in texts[:-1]:
        tail.log.line(text)
        tail.log.rename()
        tail.log.reopen()
    tail.log.line(texts[-1])
    return texts


@pytest.mark.parametrize("read_before", range(7))
def test_files_that_are_compressed_before_they_are_opened_keep_their_turn(
    tail: Tail, read_before: int
) -> None:
    texts = backlog(tail, 6)
    blocks = tail.blocks()
    found = [text for _ in range(read_before) for text in messages(next(blocks))]
    for path in tail.log.rotated():
        tail.log.compress(path)
    found += [text for block in blocks for text in messages(block)]
    assert found == texts


def test_a_file_that_one_listing_misses_keeps_its_turn(tail: Tail) -> None:
    texts = backlog(tail, 3)
    tail.files.hidden = {tail.log.rotated()[1].name}
    assert tail.read() == texts


def test_a_file_that_was_read_to_its_end_and_is_gone_is_told_as_what_may_have_been_lost(
    tail: Tail,
) -> None:
    tail.log.line("one")
    tail.read()
    tail.log.rename()
    tail.log.reopen()
    tail.log.line("two")
    tail.clock.advance(1)
    assert tail.read() == ["two"]
    tail.log.line("three")
    assert tail.read() == ["three"]
    for path in tail.log.rotated():
        path.unlink()
    tail.restart()
    tail.log.line("four")
    gap, text = tail.read_with_gaps()
    assert text == "four"
    assert isinstance(gap, Gap)
    assert "may have grown" in gap.message
