"""The tailer: what it could not read is told, once it is sure; a new epoch begins."""

import os
from pathlib import Path

import pytest

from spanyard_sidecar.holding import HoldSettings
from spanyard_sidecar.model import Continues, Gap, Stored
from tests.unit.sidecar.tails import Tail, records, tail

__all__ = ["tail"]


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
