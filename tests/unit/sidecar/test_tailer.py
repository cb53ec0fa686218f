"""The tailer: files that come, grow, change their names and go."""

import pytest

from spanyard_sidecar.model import Gap
from spanyard_sidecar.tailer import READ_SIZE
from tests.unit.sidecar.tails import Tail, messages, records, tail

__all__ = ["tail"]


class TestReading:
    def test_lines_come_as_they_are_written(self, tail: Tail) -> None:
        tail.log.line("one")
        assert tail.read() == ["one"]
        assert tail.read() == []
        tail.log.line("two")
        assert tail.read() == ["two"]

    def test_a_block_says_which_bytes_it_was_made_of(self, tail: Tail) -> None:
        tail.log.line("one")
        first = tail.source.read(1 << 20)
        tail.log.piece("two")
        second = tail.source.read(1 << 20)
        assert first is not None
        assert second is not None
        assert first.range is not None
        assert second.range is not None
        size = tail.log.path.stat().st_size
        assert (first.range.from_offset, second.range.to_offset) == (0, size)
        assert first.range.to_offset == second.range.from_offset
        assert second.range.pending == [(first.range.to_offset, size - first.range.to_offset)]
        assert first.range.fingerprint == second.range.fingerprint
        assert (first.records, second.records) == (1, 0)
        assert (first.cut, first.new_file) == (False, False)

    def test_nothing_new_costs_one_fstat(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.files.calls.clear()
        for _ in range(10):
            assert tail.source.read(1 << 20) is None
        assert dict(tail.files.calls) == {"fstat": 10}

    def test_blocks_are_of_a_limited_size(self, tail: Tail) -> None:
        for _ in range(40):
            tail.log.line("x" * 10_000)
        sizes = [b.range.to_offset - b.range.from_offset for b in tail.blocks() if b.range]
        assert sum(sizes) == tail.log.path.stat().st_size
        assert max(sizes) <= READ_SIZE

    def test_a_line_longer_than_a_block_is_read_whole(self, tail: Tail) -> None:
        tail.log.piece("x" * 3 * READ_SIZE, full=True)
        tail.log.line("after")
        assert [len(text) for text in tail.read()] == [3 * READ_SIZE, 5]

    def test_a_line_without_end_is_read_in_bounded_parts(self, tail: Tail) -> None:
        tail.log.raw(f"{tail.log.clock.next()} stdout F ".encode())
        got = []
        for _ in range(30):
            tail.log.raw(b"x" * 100_000)
            got += [len(text) for text in tail.read()]
        assert got == [1 << 20, 1 << 20]
        tail.restart()
        tail.log.raw(b"\n")
        tail.log.line("after")
        rest = 30 * 100_000 - 2 * (1 << 20)
        assert [len(text) for text in tail.read()] == [rest, 5]

    def test_half_a_line_waits_for_its_other_half(self, tail: Tail) -> None:
        raw = f"{tail.log.clock.next()} stdout F whole\n".encode()
        tail.log.raw(raw[:20])
        assert tail.read() == []
        tail.log.raw(raw[20:])
        assert tail.read() == ["whole"]

    def test_the_end_counts_bytes_and_records(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.line("two")
        tail.read()
        end = tail.source.end()
        assert (end.last_seq, end.bytes_read) == (2, tail.log.path.stat().st_size)


class TestRotation:
    def test_a_rotated_file_is_read_to_its_end_first(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        tail.log.rename()
        tail.log.line("three")
        tail.log.reopen()
        tail.log.line("four")
        assert tail.read() == ["two", "three"]
        tail.clock.advance(1)
        assert tail.read() == ["four"]

    def test_the_next_files_first_block_is_cut(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.rotate()
        tail.log.line("two")
        tail.log.line("three")
        blocks = list(tail.blocks())
        assert [messages(block) for block in blocks] == [["one"], ["two", "three"]]
        assert [(b.cut, b.new_file) for b in blocks] == [(False, False), (True, True)]

    def test_an_old_file_may_still_grow_after_the_new_one_has_begun(self, tail: Tail) -> None:
        tail.log.line("one")
        old = tail.log.rename()
        tail.log.reopen()
        tail.log.line("three")
        assert tail.read() == ["one", "three"]
        with old.open("ab") as late:
            late.write(f"{tail.log.clock.next()} stdout F two\n".encode())
        (block,) = tail.blocks()
        assert (messages(block), block.cut, block.new_file) == (["two"], True, True)

    def test_even_after_its_minute_while_it_is_there(self, tail: Tail) -> None:
        tail.log.line("one")
        old = tail.log.rename()
        tail.log.reopen()
        tail.log.line("two")
        tail.read()
        tail.clock.advance(61)
        tail.read()
        assert tail.files.open == 1
        with old.open("ab") as late:
            late.write(f"{tail.log.clock.next()} stdout F three\n".encode())
        tail.clock.advance(1)
        assert tail.read() == ["three"]

    def test_a_file_is_held_through_compression_and_deletion(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        packed = tail.log.compress(tail.log.rename())
        tail.log.reopen()
        packed.unlink()
        tail.log.line("three")
        assert tail.read_with_gaps()[0] == "two"

    def test_a_line_may_span_two_files(self, tail: Tail) -> None:
        tail.log.piece("be")
        tail.read()
        tail.log.rotate()
        tail.log.piece("gin", full=True)
        tail.clock.advance(1)
        tail.restart()
        (line,) = records(next(tail.blocks()))
        assert (line["message"], line.get("marks")) == ("begin", None)

    def test_a_line_that_stays_half_in_the_old_file_is_given_up(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.raw(f"{tail.log.clock.next()} stdout F ha".encode())
        tail.log.rotate()
        tail.log.line("two")
        assert tail.read() == ["one", "two"]
        tail.clock.advance(59)
        assert tail.read() == []
        tail.clock.advance(2)
        (block,) = tail.blocks()
        (line,) = records(block)
        assert (line["message"], line["marks"], block.cut) == ("ha", ["unterminated"], True)

    def test_an_undone_rotation_changes_nothing(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        renamed = tail.log.rename()
        tail.clock.advance(1)
        assert tail.read() == []
        tail.log.undo(renamed)
        tail.log.line("two")
        tail.clock.advance(1)
        assert tail.read_with_gaps() == ["two"]

    def test_many_rotations_behind_all_files_are_read_in_order(self, tail: Tail) -> None:
        for n in range(6):
            tail.log.line(str(n))
            tail.log.rotate(keep=9)
        tail.log.line("last")
        assert tail.read() == [*map(str, range(6)), "last"]

    def test_no_more_than_three_files_are_held_while_nothing_is_read(self, tail: Tail) -> None:
        for n in range(8):
            tail.log.line(str(n))
            tail.log.rotate(keep=20)
            tail.clock.advance(1)
            tail.source.look()
            assert tail.files.open <= 3


class TestRestart:
    def test_it_goes_on_where_it_was(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.restart()
        tail.log.line("two")
        (line,) = records(next(tail.blocks()))
        assert (line["message"], line["seq"]) == ("two", 2)

    @pytest.mark.parametrize("keep", [False, True])
    def test_it_finds_its_place_in_a_compressed_file(self, tail: Tail, keep: bool) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        tail.log.compress(tail.log.rename(), keep=keep)
        tail.log.reopen()
        tail.log.line("three")
        tail.restart()
        assert tail.read_with_gaps() == ["two", "three"]

    def test_a_temporary_file_of_the_compression_is_ignored(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        (tail.folder / "0.log.20261121-144501.tmp").write_bytes(b"half a gzip file")
        (tail.folder / "0.log.20261121-144501.gz.tmp").write_bytes(b"half a gzip file")
        tail.log.line("two")
        tail.restart()
        assert tail.read_with_gaps() == ["two"]

    def test_what_was_read_to_its_end_is_not_read_again_as_gz(self, tail: Tail) -> None:
        for n in range(3):
            tail.log.line(str(n))
            tail.log.rotate(keep=9)
        tail.log.line("last")
        assert len(tail.read()) == 4
        tail.clock.advance(61)
        tail.read()
        tail.log.tidy(keep=9)
        tail.restart()
        assert tail.read_with_gaps() == []

    def test_a_file_that_is_gone_is_a_gap(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("lost")
        tail.log.path.unlink()
        tail.log.reopen()
        tail.log.line("two")
        size = tail.source.end().bytes_read
        tail.restart()
        gap, text = tail.read_with_gaps()
        assert text == "two"
        assert isinstance(gap, Gap)
        assert (gap.cause, gap.from_offset, gap.lines) == ("rotated-away", size, None)
        assert gap.source

    def test_a_gap_comes_in_a_cut_block_of_its_own(self, tail: Tail) -> None:
        tail.log.piece("pending")
        tail.read()
        tail.log.path.unlink()
        tail.log.reopen()
        tail.log.line("two")
        tail.restart()
        given_up, told, after = tail.blocks()
        assert (messages(given_up), given_up.cut) == (["pending"], True)
        assert (told.records, len(told.gaps), told.cut) == (0, 1, True)
        assert messages(after) == ["two"]

    def test_a_reused_inode_is_another_file(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        state = tail.source.state()
        # Another file with the same inode, as ext4 makes them: here by writing it anew.
        data = f"{tail.log.clock.next()} stdout F a line of another file\n".encode() * 3
        tail.log.truncate()
        tail.log.raw(data)
        tail.source.close()
        tail.source = tail.opened(state)
        gap, *texts = tail.read_with_gaps()
        assert isinstance(gap, Gap)
        assert texts == ["a line of another file"] * 3

    def test_files_that_came_and_went_unseen_are_a_gap(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        for n in range(6):
            tail.log.rotate(keep=1)
            tail.log.line(str(n))
        tail.clock.advance(1)
        got = tail.read_with_gaps()
        causes = [item.cause for item in got if isinstance(item, Gap)]
        assert causes == ["rotated-away"]
        assert [item for item in got if isinstance(item, str)] == ["3", "4", "5"]
