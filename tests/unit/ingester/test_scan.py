"""Finding bad lines: in any cutting into blocks, with the right places, in bounded memory."""

from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.chunks import encode_facts
from spanyard_core.errors import BadRecordError
from spanyard_ingester.frames import decoded_bound
from spanyard_ingester.linecheck import BadLineError, parse_object
from spanyard_ingester.scan import Scan, Scanned
from spanyard_ingester.splitter import LineSplitter
from tests.fakes.objects import chunk, log_line


def scanned(lines: list[bytes], first: int = 1, last: int | None = None, **more: Any) -> Scanned:
    last = first + len(lines) - 1 if last is None else last
    facts, data = chunk(lines, writer="w", first=first, last=last)
    options: dict[str, Any] = {"most_bytes": 10**8, "most_bad": 100, "longest_line": 10_000}
    scan = Scan("observability/k", facts, **{**options, **more})
    for _ in scan.steps(data):
        pass
    return scan.result


def places(result: Scanned) -> list[tuple[int, int]]:
    """Line and seq of what is bad."""
    return [(bad.line, bad.seq) for bad in result.bad]


class TestSplitter:
    @given(
        lines=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b""))),
        cuts=st.lists(st.integers(0, 200)),
        end=st.booleans(),
    )
    def test_any_cutting_gives_the_same_lines(
        self, lines: list[bytes], cuts: list[int], end: bool
    ) -> None:
        data = b"\n".join(lines) + (b"\n" if lines and end else b"")
        splitter = LineSplitter(8)
        found = []
        at = 0
        for cut in sorted(cut for cut in cuts if cut < len(data)):
            found += list(splitter.feed(data[at:cut]))
            at = cut
        found += list(splitter.feed(data[at:]))
        rest = splitter.finish()
        found += [rest] if rest is not None else []
        expected = data.split(b"\n")
        if expected[-1] == b"":
            expected.pop()
        assert [line.size for line in found] == list(map(len, expected))
        assert [line.data for line in found] == [
            line if len(line) <= 8 else None for line in expected
        ]
        assert [line.number for line in found] == list(range(1, len(found) + 1))
        for line in found:
            assert data[line.offset : line.offset + line.size] == expected[line.number - 1]


class TestScan:
    def test_good_lines_are_good(self) -> None:
        result = scanned([log_line("w", seq) for seq in range(5, 9)], first=5)
        assert (list(result.good), result.bad, result.lines) == ([(5, 8)], [], 4)

    def test_bad_lines_get_the_seq_of_their_place(self) -> None:
        lines = [log_line("w", 1), b"{\n", b"\n", log_line("w", 4), b'{"seq":5}\n']
        assert places(scanned(lines)) == [(2, 2), (3, 3), (5, 5)]

    def test_a_guess_never_contradicts_a_good_line(self) -> None:
        """Lines in another order than a collector writes."""
        lines = [b"{\n", log_line("w", 1), log_line("w", 3)]
        assert places(scanned(lines)) == [(1, 0)]

    def test_a_bad_lines_own_word_counts_before_a_guess(self) -> None:
        lines = [b'{"seq":2}\n', b'{"seq":2}\n', log_line("w", 3)]
        assert places(scanned(lines)) == [(1, 2), (2, 0)]

    def test_a_number_out_of_the_objects_range(self) -> None:
        result = scanned([log_line("w", 1), log_line("w", 9), log_line("w", 3)])
        assert places(result) == [(2, 2)]
        assert "the object holds 1…3" in result.bad[0].reason

    def test_a_line_cut_in_two_is_two_bad_lines_and_no_more(self) -> None:
        whole = log_line("w", 2)
        result = scanned([log_line("w", 1), whole[:20] + b"\n" + whole[20:], log_line("w", 3)])
        assert [bad.line for bad in result.bad] == [2, 3]
        assert list(result.good) == [(1, 1), (3, 3)]

    def test_a_last_line_without_newline_is_a_line(self) -> None:
        result = scanned([log_line("w", 1), log_line("w", 2).strip()])
        assert list(result.good) == [(1, 2)]

    def test_a_long_line_is_bad_and_the_next_one_is_not(self) -> None:
        result = scanned([log_line("w", 1, message="x" * 20_000), log_line("w", 2)])
        assert places(result) == [(1, 1)]
        assert "bytes; 10000 is most" in result.bad[0].reason

    def test_known_bad_lines_are_passed_over(self) -> None:
        result = scanned([b"{\n", log_line("w", 2), b"{\n"], known_bad=[1])
        assert [bad.line for bad in result.bad] == [3]

    def test_too_many_are_an_error(self) -> None:
        with pytest.raises(
            BadRecordError, match="more than 3 bad lines; the first, line 1: not JSON"
        ):
            scanned([b"{\n"] * 5, most_bad=3)

    def test_too_much_is_an_error(self) -> None:
        with pytest.raises(BadRecordError, match="unpacks to more than 1000 bytes"):
            scanned([log_line("w", seq) for seq in range(1, 100)], most_bytes=1_000)


class TestParse:
    @pytest.mark.parametrize(
        ("raw", "why"),
        [
            (b"\xff{}", "invalid UTF-8 at byte 0"),
            (b'{"a":1}{"a":2}', "more than one JSON value"),
            (b'{"a":1,"a":2}', "'a' stands twice"),
            (b'{"a":1e999}', "beyond a 64-bit float"),
            (b'{"a":NaN}', "NaN is not JSON"),
            (b'{"a":-Infinity}', "-Infinity is not JSON"),
            (b'{"a":"\x01"}', "not JSON: Invalid control character"),
            (b'{"a":' + b"9" * 5_000 + b"}", "not a number"),
            (b"[" * 100_000, "nested too deeply"),
            (b"[1]", "not a JSON object"),
            (b"nul", "not JSON"),
        ],
    )
    def test_what_is_said_of_what_is_wrong(self, raw: bytes, why: str) -> None:
        with pytest.raises(BadLineError) as caught:
            parse_object(raw)
        assert why in caught.value.reason

    def test_a_name_twice_within_attributes_is_what_loggers_write(self) -> None:
        """The engine takes it, so a scan must, or a neighbour's fault would cost this line."""
        assert parse_object(b'{"a":{"b":1,"b":2}}') == {"a": {"b": 2}}


class TestFrames:
    @pytest.mark.slow
    @given(
        parts=st.lists(
            st.tuples(st.sampled_from([b"x", b"abc", b"\0"]), st.integers(0, 300_000)), max_size=3
        ),
        level=st.sampled_from([1, 3, 19]),
        sized=st.booleans(),
    )
    def test_the_bound_holds_and_is_tight(
        self, parts: list[tuple[bytes, int]], level: int, sized: bool
    ) -> None:
        data = b"".join(piece * count for piece, count in parts)
        if sized:
            packed = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(data)
        else:
            stream = zstandard.ZstdCompressor(level=level).compressobj()
            packed = stream.compress(data) + stream.flush()
        assert len(data) <= decoded_bound(packed) <= len(data) + 2 * 128 * 1024
        assert decoded_bound(packed + packed) == 2 * decoded_bound(packed)
        for cut in {1, 3, len(packed) // 2, len(packed) - 1}:
            with pytest.raises(BadRecordError):
                decoded_bound(packed[:cut])

    def test_our_own_chunks_pass(self) -> None:
        facts, data = chunk(
            (log_line("w", n) for n in range(1, 5_000)), writer="w", first=1, last=4_999
        )
        assert facts.decoded <= decoded_bound(data) <= facts.decoded + 2 * 128 * 1024
        assert len(encode_facts(facts)) > 100

    def test_a_bomb_shows(self) -> None:
        packed = zstandard.compress(b"\0" * 50_000_000, 1)
        assert decoded_bound(packed) >= 50_000_000

    def test_something_else_is_refused(self) -> None:
        with pytest.raises(BadRecordError, match="no zstd frame"):
            decoded_bound(b"PK\x03\x04 not zstd")

    def test_a_huge_window_is_refused(self) -> None:
        parameters = zstandard.ZstdCompressionParameters(window_log=27)
        stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = stream.compress(b"x" * 1_000) + stream.flush()
        with pytest.raises(BadRecordError, match="window of 134217728 bytes"):
            decoded_bound(packed)


def test_facts_survive_being_changed_by_hand() -> None:
    facts, _ = chunk([log_line("w", 1)], writer="w", first=1, last=1)
    assert msgspec.structs.replace(facts, last=2).name != facts.name
