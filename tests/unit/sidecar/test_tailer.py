"""The tailer: files that come, grow, change their names and go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_sidecar.holding import HoldSettings
from spanyard_sidecar.model import Continues, Gap, Stored
from spanyard_sidecar.tailer import READ_SIZE
from tests.unit.sidecar.tails import Tail, messages, records


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    made = Tail(tmp_path)
    yield made
    made.close()
    assert made.files.open == 0, "a file was left open"


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


class TestLosses:
    def test_truncation_is_a_gap(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.line("two")
        tail.read()
        tail.log.truncate()
        tail.log.line("3")
        gap, text = tail.read_with_gaps()
        assert isinstance(gap, Gap)
        assert (gap.cause, text) == ("truncated", "3")

    def test_so_it_is_when_more_was_written_since(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.truncate()
        for text in ("a longer line than before", "another"):
            tail.log.line(text)
        gap, *texts = tail.read_with_gaps()
        assert isinstance(gap, Gap)
        assert (gap.cause, texts) == ("truncated", ["a longer line than before", "another"])

    def test_so_it_is_when_the_size_is_the_same_again(self, tail: Tail) -> None:
        first = tail.log.piece("one", full=True)
        tail.read()
        tail.log.truncate()
        tail.log.raw(first.replace(b"one", b"two"))
        tail.clock.advance(1)
        gap, text = tail.read_with_gaps()
        assert isinstance(gap, Gap)
        assert (gap.cause, text) == ("truncated", "two")

    def test_what_a_power_cut_left_is_not_read_again(self, tail: Tail) -> None:
        for text in ("one", "two", "three"):
            tail.log.line(text)
        tail.read()
        tail.log.truncate(tail.log.path.stat().st_size * 2 // 3)
        (gap,) = tail.read_with_gaps()
        assert isinstance(gap, Gap)
        assert gap.cause == "truncated"
        tail.log.line("four")
        assert tail.read_with_gaps() == ["four"]

    @pytest.mark.parametrize("damage", ["cut", "garbage"])
    def test_a_damaged_gz_is_a_gap_and_stops_nobody(self, tail: Tail, damage: str) -> None:
        for n in range(2000):
            tail.log.line(f"{n} {os.urandom(20).hex()}")
        packed = tail.log.compress(tail.log.rename())
        tail.log.reopen()
        tail.log.line("next")
        data = packed.read_bytes()
        half = len(data) // 2
        packed.write_bytes(data[:half] + (b"\0" * 500 if damage == "garbage" else b""))
        got = tail.read_with_gaps()
        gaps = [item for item in got if isinstance(item, Gap)]
        assert [gap.cause for gap in gaps] == ["unreadable"]
        assert got[-1] == "next"
        tail.restart()
        assert tail.read_with_gaps() == []

    def test_too_much_pinned_disk_is_given_back_and_told(self, tmp_path: Path) -> None:
        tail = Tail(tmp_path, hold=HoldSettings(pinned=50_000))
        for n in range(3):
            for _ in range(30):
                tail.log.line(f"{n}" * 1000)
            tail.clock.advance(1)
            tail.source.look()
            tail.log.delete(tail.log.rename())
            tail.log.reopen()
        tail.clock.advance(1)
        tail.source.look()
        assert tail.files.open <= 2
        tail.log.line("last")
        got = tail.read_with_gaps()
        gap = got[0]
        assert isinstance(gap, Gap)
        assert gap.cause == "rotated-away"
        assert gap.bytes is not None
        assert gap.bytes > 30_000
        assert got[-1] == "last"
        tail.close()

    def test_a_name_missing_from_one_listing_is_no_loss(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        tail.restart()
        tail.files.hidden = {"0.log"}
        assert tail.read_with_gaps() == ["two"]

    def test_nor_is_one_that_vanishes_between_listing_and_opening(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        tail.log.compress(tail.log.rename(), keep=True)
        tail.log.reopen()
        tail.restart()
        tail.files.vanishing = {"0.log.20261121-140001"}
        assert tail.read_with_gaps() == ["two"]


class TestWhatTimeDecides:
    def test_a_line_whose_end_does_not_come_is_given_up(self, tail: Tail) -> None:
        tail.log.piece("half")
        tail.read()
        tail.clock.advance(29)
        assert tail.read() == []
        tail.clock.advance(2)
        (block,) = tail.blocks()
        (line,) = records(block)
        assert (line["message"], line["marks"], block.cut) == ("half", ["unterminated"], True)
        tail.log.piece("other half", full=True)
        assert tail.read() == ["other half"]

    def test_every_further_piece_gives_it_more_time(self, tail: Tail) -> None:
        for _ in range(5):
            tail.log.piece("x")
            assert tail.read() == []
            tail.clock.advance(20)
        tail.log.piece("y", full=True)
        assert tail.read() == ["xxxxxy"]

    def test_a_run_ends_when_another_has_begun_and_its_files_are_quiet(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.piece("half")
        tail.read()
        tail.clock.advance(300)
        tail.read()
        assert not tail.source.ended
        tail.log.line("late")
        tail.source.newer_restart = True
        assert tail.read() == ["late"]
        tail.clock.advance(59)
        assert tail.read() == []
        assert not tail.source.ended
        tail.clock.advance(2)
        tail.read()
        assert tail.source.ended
        assert tail.source.state()["ended"]

    def test_what_is_pending_at_the_collectors_end_is_given_up(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.log.piece("pieces ")
        tail.log.raw(f"{tail.log.clock.next()} stdout F without end".encode())
        assert tail.read() == ["one"]
        block = tail.source.finish()
        (line,) = records(block)
        assert (line["message"], line["marks"]) == ("pieces without end", ["unterminated"])
        assert block is not None
        assert block.cut
        assert tail.source.finish() is None
        tail.restart()
        assert tail.read() == []

    def test_what_was_not_read_by_then_is_left_for_the_next_start(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.read()
        tail.log.line("two")
        tail.log.piece("half")
        assert tail.source.finish() is None
        tail.restart()
        assert tail.read() == ["two"]


class TestNewEpoch:
    def test_a_source_can_say_what_it_has(self, tail: Tail) -> None:
        assert isinstance(tail.source, Continues)
        assert tail.source.first_time_ns() is None
        assert tail.source.fingerprints() == []
        tail.log.line("one")
        first = tail.source.first_time_ns()
        assert first is not None
        assert first // 10**9 == 1_795_272_300
        tail.log.rotate()
        tail.log.line("two")
        prints = tail.source.fingerprints()
        assert len(prints) == 2
        ranges = [block.range for block in tail.blocks()]
        assert [r.fingerprint for r in ranges if r] == list(reversed(prints))

    def test_it_goes_on_after_what_is_stored(self, tail: Tail) -> None:
        tail.log.line("old one")
        tail.log.rotate()
        tail.log.line("one")
        tail.log.piece("be")
        blocks = list(tail.blocks())
        stored = blocks[-1].range
        assert stored is not None
        tail.log.piece("gin", full=True)
        tail.log.line("two")
        tail.source.close()
        tail.source = tail.opened(epoch="f")
        newest = tail.source.fingerprints()[0]
        assert newest == stored.fingerprint
        tail.source.go_on_from(
            newest, Stored("uid/server/0@e", 2, stored.to_offset, stored.pending)
        )
        (block,) = tail.blocks()
        assert [(r["message"], r["seq"]) for r in records(block)] == [("begin", 1), ("two", 2)]
        assert block.range is not None
        assert block.range.from_offset == stored.to_offset

    def test_an_older_file_that_is_stored_in_part_is_read_to_its_end(self, tail: Tail) -> None:
        tail.log.line("zero")
        tail.log.rotate()
        tail.log.line("one")
        stored = list(tail.blocks())[-1].range
        assert stored is not None
        tail.log.line("two")
        tail.log.rotate()
        tail.log.line("three")
        tail.source.close()
        tail.source = tail.opened(epoch="f")
        assert stored.fingerprint in tail.source.fingerprints()
        tail.source.go_on_from(stored.fingerprint, Stored("w", 2, stored.to_offset))
        assert tail.read_with_gaps() == ["two", "three"]

    def test_a_stored_file_that_is_gone_by_now_hides_nothing(self, tail: Tail) -> None:
        tail.log.line("one")
        tail.source.fingerprints()
        tail.source.go_on_from("9:0123456789abcdef", Stored("w", 1, 100))
        assert tail.read() == ["one"]
