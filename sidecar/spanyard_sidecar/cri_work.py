"""CRI lines one by one, whatever they are: the thorough and slow way.

The block loop in `cri` does the usual lines itself and hands over pieces, lines too long for a
record, bad lines and bytes that are no UTF-8.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from spanyard_core.records import Level
from spanyard_sidecar.cri_state import (
    MAX_LINE,
    MAX_PIECES,
    MAX_RANGES,
    Batch,
    CriState,
    Inside,
    Pending,
)
from spanyard_sidecar.cri_time import cri_time, time_ns
from spanyard_sidecar.lines import ids_of_text, json_fields, level_of_text

STREAMS = ("stdout", "stderr")
_STREAM_OF = {stream.encode(): stream for stream in STREAMS}


class Plain(msgspec.Struct, gc=False):
    """A Record with nothing but its text: 30 ns less to encode than looking for what it has not."""

    type: msgspec.Raw
    seq: int
    timestamp: str
    level: Level
    message: str


class Record(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """A LogLine on its way out. `type` carries the tag and, in one piece, everything that is the
    same in all lines of a stream: encoding that once costs a copy per line, not ten fields.
    """

    type: msgspec.Raw
    seq: int
    timestamp: str
    level: Level
    message: str
    trace_id: str = ""
    span_id: str = ""
    attributes: msgspec.Raw | None = None
    marks: list[str] | None = None


_encode_lines = msgspec.json.Encoder().encode_lines


class Work:
    """A state being worked on, line by line: the thorough and slow way."""

    def __init__(self, heads: dict[str, Any], state: CriState) -> None:
        self._heads = heads
        self._before = state
        self.seq = state.seq
        self.pending = dict(state.pending)
        self.inside = state.inside
        self.records: list[Record | Plain] = []

    def batch(self, consumed: int) -> Batch:
        before, records = self._before, self.records
        time = records[-1].timestamp if records else before.time
        return Batch(
            lines=_encode_lines(records),
            records=len(records),
            first=before.seq + 1,
            time_ns=time_ns(records[0].timestamp) if records else 0,
            consumed=consumed,
            state=CriState(self.seq, time, self.pending, self.inside),
        )

    def each_line(self, block: bytes, offset: int) -> None:
        for line in block[:-1].split(b"\n"):
            self.line(line, offset)
            offset += len(line) + 1

    def line(self, line: bytes, offset: int, marks: Sequence[str] = ()) -> None:
        """One physical line without its newline."""
        stream, time, full, text = _parse(line)
        if len(text) > MAX_LINE:
            self._enter(stream, time, text, full=full)
            at = self._cut_parts(text, 0)
            self.end_inside(text[at:], marks)
        elif not stream:
            self._emit("", "", text, ["malformed", *marks])
        elif full:
            self._end_line(stream, time, text, marks)
        else:
            self._add_piece(stream, time, text, (offset, len(line) + 1))

    def _add_piece(self, stream: str, time: str, text: bytes, piece: tuple[int, int]) -> None:
        so_far = self.pending.get(stream) or Pending(time, (), 0)
        too_many = len(so_far.parts) >= MAX_PIECES or len(so_far.pieces) >= MAX_RANGES
        if too_many or so_far.size + len(text) > MAX_LINE:
            so_far = self._send_part(stream, so_far)
        self.pending[stream] = Pending(
            so_far.time,
            (*so_far.parts, text),
            so_far.size + len(text),
            _with_piece(so_far.pieces, piece),
            so_far.level,
        )

    def _end_line(self, stream: str, time: str, text: bytes, marks: Sequence[str]) -> None:
        so_far = self.pending.pop(stream, None)
        if so_far is None:
            self._emit(stream, time, text, marks)
            return
        if so_far.size + len(text) > MAX_LINE:
            so_far = self._send_part(stream, so_far)
        split = ("split", "split-end") if so_far.level else ()
        joined = b"".join((*so_far.parts, text))
        self._emit(stream, so_far.time, joined, [*split, *marks], so_far.level)

    def _send_part(self, stream: str, so_far: Pending) -> Pending:
        """Send what is pending as a part; a character cut at its end goes to the next one."""
        joined = b"".join(so_far.parts)
        whole = len(joined) - _cut_character(joined)
        level = self._emit(stream, so_far.time, joined[:whole], ["split"], so_far.level)
        rest = joined[whole:]
        return Pending(so_far.time, (rest,) if rest else (), len(rest), (), level)

    def enter(self, block: bytes, at: int) -> int:
        """Begin with a line that is too long for a record, before its end was read."""
        stream, time, full, text = _parse(block[at:])
        if len(text) <= MAX_LINE:
            return at
        self._enter(stream, time, text, full=full)
        begin = len(block) - len(text)
        return begin + self._cut_parts(text, 0)

    def _enter(self, stream: str, time: str, text: bytes, *, full: bool) -> None:
        level = None
        so_far = self.pending.pop(stream, None) if stream else None
        if so_far is not None:
            time, level = so_far.time, so_far.level
            if so_far.parts:
                joined = b"".join(so_far.parts)
                level = self._emit(stream, time, joined, ["split"], level)
        if level is None:
            level = level_of_text(text[:256].decode(errors="replace"))
        self.inside = Inside(stream, time, full, level)

    def _cut_parts(self, block: bytes, at: int) -> int:
        """Send parts of MAX_LINE bytes while more than that is there; returns the place after."""
        assert self.inside is not None
        while len(block) - at > MAX_LINE:
            end = at + MAX_LINE
            while end > at + MAX_LINE - 3 and block[end] & 0xC0 == 0x80:
                end -= 1
            if block[end] & 0xC0 == 0x80:
                end = at + MAX_LINE  # that is no UTF-8 anyway
            self._emit_inside(block[at:end], ["split"])
            at = end
        return at

    def go_on_inside(self, block: bytes, at: int) -> int:
        """The next bytes of a line too long for a record; returns the place after its end."""
        end = block.find(b"\n", at)
        if end < 0:
            return self._cut_parts(block, at)
        at = self._cut_parts(block[:end], at)
        self.end_inside(block[at:end], ())
        return end + 1

    def end_inside(self, rest: bytes, marks: Sequence[str]) -> None:
        """The last part of a line too long for a record."""
        inside = self.inside
        assert inside is not None
        if inside.full or not inside.stream:
            self._emit_inside(rest, ["split", "split-end", *marks])
        else:
            self._emit_inside(rest, ["split", *marks])
            self.pending[inside.stream] = Pending(inside.time, (), 0, (), inside.level)
        self.inside = None

    def _emit_inside(self, text: bytes, marks: list[str]) -> None:
        inside = self.inside
        assert inside is not None
        if not inside.stream:
            marks = ["malformed", *marks]
        self._emit(inside.stream, inside.time, text, marks, inside.level)

    def give_up(self) -> None:
        for stream, so_far in sorted(self.pending.items()):
            if so_far.parts:
                split = ("split", "split-end") if so_far.level else ()
                joined = b"".join(so_far.parts)
                self._emit(stream, so_far.time, joined, [*split, "unterminated"], so_far.level)
        self.pending = {}

    def _emit(
        self,
        stream: str,
        time: str,
        text: bytes,
        marks: Sequence[str],
        level: Level | None = None,
    ) -> Level:
        """Make the record; `level` is given for the later parts of a split line."""
        marks = list(marks)
        try:
            message = text.decode()
        except UnicodeDecodeError:
            message = text.decode(errors="replace")
            marks.append("invalid-utf8")
        raw = None
        trace = span = ""
        if message[:1] == "{" and not marks:
            fields = json_fields(message)
            if fields is not None:
                raw = msgspec.Raw(message.rstrip())
                message, level, trace, span = fields
        if raw is None:
            level = level or level_of_text(message)
            trace, span = ids_of_text(message)
        assert level is not None
        if not time:
            time = self.records[-1].timestamp if self.records else self._before.time
        self.seq += 1
        self.records.append(
            Record(
                self._heads[stream], self.seq, time, level, message, trace, span, raw, marks or None
            )
        )
        return level


def _parse(line: bytes) -> tuple[str, str, bool, bytes]:
    """Stream, time in UTC, whether the line ends here, text. Stream "": no CRI line, all is text."""
    row = line.split(b" ", 3)
    if len(row) >= 3 and row[1] in _STREAM_OF:
        time = cri_time(row[0].decode(errors="replace"))
        tag = row[2].partition(b":")[0]  # tags after the first are for later versions of CRI
        if time and tag in {b"F", b"P"}:
            return _STREAM_OF[row[1]], time, tag == b"F", row[3] if len(row) == 4 else b""
    return "", "", True, line


def _with_piece(
    pieces: tuple[tuple[int, int], ...], new: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """The pieces with another one; what stands side by side in the file is one range."""
    if pieces:
        offset, length = pieces[-1]
        if offset + length == new[0]:
            return (*pieces[:-1], (offset, length + new[1]))
    return (*pieces, new)


def _cut_character(text: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not all there: 0 to 3."""
    for back in range(1, min(3, len(text)) + 1):
        byte = text[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if size > back else 0
        if byte < 0x80:
            return 0
    return 0
