"""CRI lines to records: every kind of line, and the same records however the bytes are cut."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanyard_core.records import LogLine
from spanyard_sidecar import cri, cri_work
from spanyard_sidecar.cri import CriTransformer
from spanyard_sidecar.cri_state import MAX_LINE, UNKNOWN_TIME, Batch, CriState
from spanyard_sidecar.model import Identity

IDENTITY = Identity(
    "team-a.agent", uid="u-1", deployment="agent", pod="agent-0", pod_uid="0b6e1c9a"
)
TRANSFORMER = CriTransformer(IDENTITY, "0b6e1c9a/server/0@e", "server", service="agent")
T1 = "2026-11-21T14:45:00.123456789Z"
T2 = "2026-11-21T14:45:00.2Z"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

_decode_line = msgspec.json.Decoder(LogLine).decode


def records(batch: Batch) -> list[LogLine]:
    """The lines as readers see them; numbers are checked on the way."""
    lines = [_decode_line(line) for line in batch.lines.splitlines()]
    assert [line.seq for line in lines] == list(range(batch.first, batch.first + batch.records))
    return lines


def whole(data: bytes, state: CriState | None = None) -> list[LogLine]:
    batch = TRANSFORMER.transform(data, state or CriState())
    assert batch.consumed == len(data)
    return records(batch)


def one(text: str | bytes) -> LogLine:
    """The record of one line with this text."""
    text = text.encode() if isinstance(text, str) else text
    (line,) = whole(f"{T1} stdout F ".encode() + text + b"\n")
    return line


def cut_anywhere(data: bytes, cuts: list[int]) -> tuple[bytes, CriState, bytes]:
    """What comes of bytes that arrive in pieces; also the state, and the rest that is no line."""
    state, lines, waiting, offset = CriState(), b"", b"", 0
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        waiting += data[begin:end]
        batch = TRANSFORMER.transform(waiting, state, offset)
        lines, state = lines + batch.lines, batch.state
        waiting = waiting[batch.consumed :]
        offset += batch.consumed
    return lines, state, waiting


class TestUsualLines:
    def test_a_line_carries_identity_time_level_and_text(self) -> None:
        (line,) = whole(f"{T1} stderr F hello  world \n".encode())
        assert line == LogLine(
            project="team-a.agent",
            writer="0b6e1c9a/server/0@e",
            seq=1,
            uid="u-1",
            deployment="agent",
            pod="agent-0",
            container="server",
            stream="stderr",
            service="agent",
            timestamp=T1,
            level="info",
            message="hello  world ",
        )

    def test_numbers_go_on_from_the_state(self) -> None:
        batch = TRANSFORMER.transform(f"{T1} stdout F a\n".encode(), CriState(seq=41))
        assert (batch.first, batch.records, batch.state.seq) == (42, 1, 42)

    def test_the_time_of_a_batch_is_its_first_records(self) -> None:
        batch = TRANSFORMER.transform(f"{T1} stdout F a\n{T2} stdout F b\n".encode(), CriState())
        assert batch.time_ns == 1_795_272_300_123_456_789

    def test_nothing_makes_no_records(self) -> None:
        batch = TRANSFORMER.transform(b"", CriState(seq=3))
        assert (batch.lines, batch.records, batch.consumed, batch.state.seq) == (b"", 0, 0, 3)

    def test_an_unfinished_line_waits(self) -> None:
        data = f"{T1} stdout F a\n{T2} stdout F b".encode()
        batch = TRANSFORMER.transform(data, CriState())
        assert [line.message for line in records(batch)] == ["a"]
        assert data[batch.consumed :] == f"{T2} stdout F b".encode()

    @pytest.mark.parametrize("end", ["F \n", "F\n"])
    def test_an_empty_line_is_a_record(self, end: str) -> None:
        (line,) = whole(f"{T1} stdout {end}".encode())
        assert (line.message, line.marks) == ("", [])

    def test_streams_may_change_with_every_line(self) -> None:
        streams = ["stdout", "stderr", "stderr", "stdout", "stderr"]
        lines = whole("".join(f"{T1} {s} F x\n" for s in streams).encode())
        assert [line.stream for line in lines] == streams

    def test_a_text_may_look_like_a_line_of_another_stream(self) -> None:
        text = f"{T1} stderr F inner stdout F more"
        assert one(text).message == text
        (line,) = whole(f"{T1} stderr F x{T1} stdout F y\n".encode())
        assert (line.stream, line.message) == ("stderr", f"x{T1} stdout F y")

    def test_later_tags_are_allowed(self) -> None:
        (line,) = whole(f"{T1} stdout F:new:tags text\n".encode())
        assert (line.message, line.marks) == ("text", [])

    def test_control_characters_and_nul_are_kept(self) -> None:
        assert one("a\x00b\x1f\tc\r").message == "a\x00b\x1f\tc\r"

    def test_spanning_years_the_batch_tells_the_right_time(self) -> None:
        batch = TRANSFORMER.transform(b"2024-02-29T23:59:59Z stdout F x\n", CriState())
        assert batch.time_ns == 1_709_251_199_000_000_000


class TestTimes:
    def test_a_local_zone_becomes_utc(self) -> None:
        lines = whole(
            b"2026-11-21T15:45:00.5+01:00 stdout F a\n"
            b"2026-11-21T23:30:00.25-07:00 stderr F b\n"
            b"2026-11-21T15:45:00.75+01:00 stdout F c\n"
        )
        assert [line.timestamp for line in lines] == [
            "2026-11-21T14:45:00.5Z",
            "2026-11-22T06:30:00.25Z",
            "2026-11-21T14:45:00.75Z",
        ]

    def test_trimmed_zeros_stay_trimmed(self) -> None:
        times = [
            "2026-11-21T14:45:00.12Z",
            "2026-11-21T14:45:01Z",
            "2026-11-21T14:45:01.000000001Z",
        ]
        lines = whole("".join(f"{t} stdout F x\n" for t in times).encode())
        assert [line.timestamp for line in lines] == times

    @pytest.mark.parametrize(
        "time",
        [
            "2026-13-21T14:45:00Z", "2026-02-30T14:45:00Z", "2026-11-21T24:00:00Z", "2026-11-21",
            "2026-11-21T14:45:00", "2026-W47-6T14:45:00Z", "0001-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z", "2026-11-21T14:45:00.5+99:00", "1795272300", "x", "-",
        ],
    )  # fmt: skip
    def test_what_is_no_time_makes_the_line_malformed(self, time: str) -> None:
        raw = f"{time} stdout F text"
        good, bad = whole(f"{T1} stderr F before\n{raw}\n".encode())
        assert good.marks == []
        assert (bad.message, bad.marks, bad.stream) == (raw, ["malformed"], "")
        assert bad.timestamp == T1


class TestMalformedLines:
    @pytest.mark.parametrize(
        "raw",
        ["", " ", "garbage", f"{T1}", f"{T1} stdout", f"{T1} stdlog F x", f"{T1} stdout X x",
         f"{T1}  stdout F x", " stdout F x", f"{T1} stdout FF x", '{"json": "but no CRI"}',
         "\x00\x00\x00"],
    )  # fmt: skip
    def test_they_are_kept_as_they_are(self, raw: str) -> None:
        (line,) = whole(f"{raw}\n".encode())
        assert (line.message, line.marks, line.stream) == (raw, ["malformed"], "")
        assert line.timestamp == UNKNOWN_TIME

    def test_they_do_not_stop_what_follows(self) -> None:
        lines = whole(f"junk\n{T1} stdout F a\njunk\n{T2} stdout F b\n".encode())
        assert [line.message for line in lines] == ["junk", "a", "junk", "b"]
        assert [line.timestamp for line in lines] == [UNKNOWN_TIME, T1, T1, T2]

    def test_bytes_that_are_no_utf8_become_replacement_characters(self) -> None:
        line = one(b"a\xff\xfeb")
        assert (line.message, line.marks) == ("a\ufffd\ufffdb", ["invalid-utf8"])

    def test_invalid_utf8_leaves_other_lines_of_the_block_alone(self) -> None:
        data = f"{T1} stdout F ä\n".encode() + T2.encode() + b" stdout F \xe4\n"
        assert [(line.message, line.marks) for line in whole(data)] == [
            ("ä", []),
            ("\ufffd", ["invalid-utf8"]),
        ]

    def test_a_json_line_with_invalid_utf8_is_plain_and_marked(self) -> None:
        line = one(b'{"msg":"\xff","level":"error"}')
        assert (line.message, line.marks) == ('{"msg":"\ufffd","level":"error"}', ["invalid-utf8"])
        assert line.attributes == {}


class TestPieces:
    def test_pieces_are_joined_per_stream(self) -> None:
        lines = whole(
            f"{T1} stdout P one \n{T2} stderr P a\n{T2} stdout P two \n"
            f"{T2} stderr F b\n{T2} stdout F three\n{T2} stdout F alone\n".encode()
        )
        assert [(line.stream, line.message, line.timestamp) for line in lines] == [
            ("stderr", "ab", T2),
            ("stdout", "one two three", T1),
            ("stdout", "alone", T2),
        ]

    def test_they_are_joined_amid_usual_lines_of_the_same_second(self) -> None:
        lines = whole(
            f"{T1} stdout F a\n{T1} stdout P b\n{T1} stdout F c\n{T1} stdout F d\n".encode()
        )
        assert [line.message for line in lines] == ["a", "bc", "d"]

    def test_a_piece_may_look_like_a_whole_line(self) -> None:
        (first, second) = whole(
            f"{T1} stdout F a\n{T1} stdout P atZ stdout F b\n{T1} stdout F c\n".encode()
        )
        assert (first.message, second.message) == ("a", "atZ stdout F bc")
        assert second.timestamp == T1

    def test_the_state_says_where_the_pieces_stand(self) -> None:
        data = f"{T1} stdout F ä\n{T1} stdout P x\n{T1} stderr F é\n{T1} stdout P y\n".encode()
        batch = TRANSFORMER.transform(data, CriState(), 1000)
        pieces = batch.state.pieces
        assert [data[at - 1000 : at - 1000 + size] for at, size in pieces] == [
            f"{T1} stdout P x\n".encode(),
            f"{T1} stdout P y\n".encode(),
        ]

    def test_reading_the_pieces_again_gives_the_same_state(self) -> None:
        data = f"{T1} stdout P x\n{T1} stderr P a\n{T1} stdout P y\n".encode()
        state = TRANSFORMER.transform(data, CriState()).state
        again = CriState()
        for at, size in state.pieces:
            again = TRANSFORMER.transform(data[at : at + size], again, at).state
        assert again == state

    def test_a_progress_bar_of_dots_costs_no_more_than_a_line(self) -> None:
        """CRI-O makes a piece of each dot; an object's first frame has to say where they are."""
        dots = f"{T1} stdout P .\n".encode() * 3_000
        batch = TRANSFORMER.transform(dots, CriState(), 700)
        assert batch.state.pieces == [(700, len(dots))]
        again = TRANSFORMER.transform(dots, CriState(), 700)
        assert again.state == batch.state
        (line,) = whole(f"{T1} stdout F done\n".encode(), batch.state)
        assert line.message == "." * 3_000 + "done"
        assert not line.marks

    def test_dots_without_end_are_split(self) -> None:
        lines = whole(f"{T1} stdout P .\n".encode() * 10_000 + f"{T1} stdout F \n".encode())
        assert [(len(line.message), line.marks) for line in lines] == [
            (4096, ["split"]),
            (4096, ["split"]),
            (10_000 - 2 * 4096, ["split", "split-end"]),
        ]

    def test_dots_on_both_streams_fit_into_an_objects_first_frame(self) -> None:
        turns = f"{T1} stdout P .\n{T1} stderr P !\n".encode() * 2_500
        batch = TRANSFORMER.transform(turns, CriState(), 10**12)
        assert [line.marks for line in records(batch)] == [["split"]] * 4
        assert len(msgspec.json.encode(batch.state.pieces)) < 60_000

    def test_a_character_cut_between_pieces_is_whole_again(self) -> None:
        text = "ä€😀".encode()
        for cut in range(len(text) + 1):
            lines = whole(
                f"{T1} stdout P ".encode() + text[:cut] + f"\n{T1} stdout F ".encode() + text[cut:]
                + b"\n"
            )  # fmt: skip
            assert [(line.message, line.marks) for line in lines] == [("ä€😀", [])]

    def test_a_json_line_in_pieces_is_a_json_line(self) -> None:
        (line,) = whole(f'{T1} stdout P {{"msg":"long\n{T1} stdout F er","a":1}}\n'.encode())
        assert (line.message, line.attributes) == ("longer", {"msg": "longer", "a": 1})

    def test_the_state_survives_json(self) -> None:
        data = f"{T1} stdout P ".encode() + "ä".encode()[:1] + b"\n"
        state = TRANSFORMER.transform(data, CriState()).state
        restored = msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(state))), CriState)
        assert restored == state

    def test_what_is_given_up_is_marked(self) -> None:
        data = f"{T1} stdout P half\n{T2} stderr P other\n".encode()
        state = TRANSFORMER.transform(data, CriState()).state
        batch = TRANSFORMER.give_up(state)
        assert [(line.message, line.marks) for line in records(batch)] == [
            ("other", ["unterminated"]),
            ("half", ["unterminated"]),
        ]
        assert batch.state.pending == {}

    def test_the_unfinished_last_line_of_a_file_is_marked(self) -> None:
        state = TRANSFORMER.transform(f"{T1} stdout P a\n".encode(), CriState()).state
        batch = TRANSFORMER.last_line(f"{T2} stdout F b".encode(), state)
        assert [(line.message, line.marks) for line in records(batch)] == [("ab", ["unterminated"])]
        assert batch.consumed == len(f"{T2} stdout F b")


class TestLongLines:
    def test_a_line_of_one_mebibyte_is_whole(self) -> None:
        piece = "x" * 16384
        data = f"{T1} stdout P {piece}\n" * 63 + f"{T1} stdout F {piece}\n"
        (line,) = whole(data.encode())
        assert (len(line.message), line.marks) == (MAX_LINE, [])

    def test_a_longer_one_is_split_and_marked(self) -> None:
        piece = "x" * 16384
        data = f"{T1} stdout P {piece}\n" * 130 + f"{T1} stdout F end\n{T1} stdout F next\n"
        lines = whole(data.encode())
        assert [(len(line.message), line.marks) for line in lines] == [
            (MAX_LINE, ["split"]),
            (MAX_LINE, ["split"]),
            (2 * 16384 + 3, ["split", "split-end"]),
            (4, []),
        ]

    def test_no_character_is_cut_by_splitting(self) -> None:
        piece = "€" * 5461  # 16383 bytes; pieces of 16384 cut a character
        text = (piece * 70).encode()
        parts = [text[i : i + 16384] for i in range(0, len(text), 16384)]
        data = b"".join(T1.encode() + b" stdout P " + p + b"\n" for p in parts[:-1])
        data += T1.encode() + b" stdout F " + parts[-1] + b"\n"
        lines = whole(data)
        assert "".join(line.message for line in lines) == text.decode()
        assert all("invalid-utf8" not in line.marks for line in lines)

    def test_all_parts_have_the_level_of_the_first(self) -> None:
        data = f"{T1} stdout P ERROR {'x' * 16000}\n" + f"{T1} stdout P {'y' * 16384}\n" * 70
        lines = whole((data + f"{T1} stdout F z\n").encode())
        assert [line.level for line in lines] == ["error", "error"]

    @pytest.mark.parametrize("tag", ["F", "P"])
    def test_a_physical_line_without_end_is_split_as_it_comes(self, tag: str) -> None:
        size = 3 * MAX_LINE + 17
        data = f"{T1} stdout {tag} {'x' * size}\n{T1} stdout F after\n".encode()
        steps = list(range(0, len(data), 100_000))[1:]
        lines, state, rest = cut_anywhere(data, steps)
        assert rest == b""
        assert lines == TRANSFORMER.transform(data, CriState()).lines
        sizes = [len(json.loads(line)["message"]) for line in lines.splitlines()]
        if tag == "F":
            assert sizes == [MAX_LINE, MAX_LINE, MAX_LINE, 17, 5]
        else:
            assert sizes == [MAX_LINE, MAX_LINE, MAX_LINE, 17, 5]
            assert state.pending == {}

    def test_an_endless_malformed_line_is_split_too(self) -> None:
        data = b"\x00" * (2 * MAX_LINE + 5) + b"\n"
        lines = whole(data)
        assert [(len(line.message), line.marks) for line in lines] == [
            (MAX_LINE, ["malformed", "split"]),
            (MAX_LINE, ["malformed", "split"]),
            (5, ["malformed", "split", "split-end"]),
        ]


# -- the same records however the bytes are cut ---------------------------------------------------

_TIMES = st.sampled_from(
    [T1, T2, "2026-11-21T14:45:00Z", "2026-11-21T14:45:01.5Z", "2026-11-21T16:45:00.25+02:00",
     "2026-11-21T14:45:00.12x4Z", "2026-11-21T14:45:00ZzzZ", "2026-02-30T00:00:00Z", ""]
)  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=30).filter(lambda t: "\n" not in t).map(str.encode),
    st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")),
    st.sampled_from(
        [b'{"msg":"hi","level":"warn"}', b'{"msg":"hi","n":1e999}', b"{", b'{"a":1} ', b"ERROR x",
         b"ts ERROR stdout F x", f"{T1} stderr F x".encode(), b"\x1b[31merror:\x1b[0m x",
         f"trace_id={TRACE} span_id={SPAN}".encode(), "ä€😀".encode() * 5, b"x" * 70]
    ),
)  # fmt: skip
_LINES = st.one_of(
    st.tuples(
        _TIMES,
        st.sampled_from(["stdout", "stdout", "stderr", "std"]),
        st.sampled_from(["F", "F", "F", "P", "F:x", "X", ""]),
        _TEXTS,
    ).map(lambda row: f"{row[0]} {row[1]} {row[2]} ".encode() + row[3]),
    _TEXTS,
)


@st.composite
def _cut_logs(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    data = b"".join(line + b"\n" for line in draw(st.lists(_LINES, max_size=12))) + draw(_LINES)
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    return data, cuts


def _same_however_cut(data: bytes, cuts: list[int]) -> None:
    batch = TRANSFORMER.transform(data, CriState())
    lines, state, rest = cut_anywhere(data, cuts)
    assert lines == batch.lines
    assert (state, rest) == (batch.state, data[batch.consumed :])
    for line in lines.splitlines():
        _decode_line(line)
    # And as the thorough way alone has it.
    work = cri_work.Work(TRANSFORMER._heads, CriState())
    end = data.rfind(b"\n") + 1
    if end and batch.state.inside is None:
        work.each_line(data[:end], 0)
        assert work.batch(0).lines == batch.lines


@pytest.mark.slow
@given(_cut_logs())
@settings(max_examples=150)
def test_records_do_not_depend_on_where_blocks_are_cut(log: tuple[bytes, list[int]]) -> None:
    _same_however_cut(*log)


@pytest.mark.slow
@given(_cut_logs())
@settings(max_examples=150)
def test_nor_do_those_of_split_lines(log: tuple[bytes, list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cri, "MAX_LINE", 24)
        patch.setattr(cri_work, "MAX_LINE", 24)
        _same_however_cut(*log)


@given(_cut_logs())
@settings(max_examples=80)
def test_no_text_is_lost(log: tuple[bytes, list[int]]) -> None:
    """Every byte of every text is in some record, in order, per stream."""
    data, _ = log
    data = data[: data.rfind(b"\n") + 1]
    batch = TRANSFORMER.transform(data, CriState())
    given_up = TRANSFORMER.give_up(batch.state)
    got: dict[str, str] = {"stdout": "", "stderr": "", "": ""}
    for line in [*records(batch), *records(given_up)]:
        got[line.stream] += _as_written(line)
    expected: dict[str, bytes] = {"stdout": b"", "stderr": b"", "": b""}
    for raw in data[:-1].split(b"\n") if data else []:
        stream, _, _, text = cri_work._parse(raw)
        expected[stream] += text
    for stream, text in expected.items():
        assert _ascii(got[stream]) == _ascii(text.decode(errors="replace"))


def _as_written(line: LogLine) -> str:
    # Of a JSON line the text is in the attributes; compared as values below.
    raw: Any = line.attributes
    return json.dumps(raw, separators=(",", ":"), ensure_ascii=False) if raw else line.message


def _ascii(text: str) -> str:
    """What every form of a text has in common: spaces between JSON's parts may differ, and so
    does the number of replacement characters for what was no UTF-8."""
    return "".join(c for c in text if "!" <= c <= "~")
