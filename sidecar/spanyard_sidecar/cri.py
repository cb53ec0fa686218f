"""CRI log lines to records: a pure function of bytes and state, in whole blocks.

The runtime writes `2026-11-21T14:45:00.123456789Z stdout F message` (Kubernetes CRI log format):
an RFC 3339 time whose zeros containerd trims and whose zone may be local, the stream, `P` for a
piece of a line (containerd splits at 16 KiB) or `F` for its end, the text. What follows from the
bytes alone is decided here; what time or circumstance decides (a line given up) is asked for by
name: `give_up`, `last_line`.

How fast the loop is decides how fast the collector is: docs/collector-design.md has the numbers
behind its shape.
"""

from collections.abc import Iterator, Sequence
from operator import length_hint
from typing import Any

import msgspec

from spanyard_core.records import Level
from spanyard_sidecar.cri_time import normal_time, time_ns
from spanyard_sidecar.lines import (
    LEVEL_WORDS_SEEN,
    ids_of_text,
    json_fields,
    level_of_text,
    level_of_word,
    level_of_words,
)
from spanyard_sidecar.model import Identity

MAX_LINE = 1024 * 1024
"""Bytes of a line that stay in one record (C1); longer lines are split, and marked so."""
MAX_PREFIX = 64
"""Bytes before the text: at most 35 of time, the stream, the tags, three spaces."""
UNKNOWN_TIME = "1970-01-01T00:00:00Z"
"""Time of a malformed line with no good line before it."""

STREAMS = ("stdout", "stderr")
_MARKS = {stream: f" {stream} F " for stream in STREAMS}
"""What stands between time and text of a whole line."""


class Pending(msgspec.Struct, frozen=True):
    """Pieces of a line whose end was not read yet, of one stream."""

    time: str
    """Of the first piece."""
    parts: tuple[bytes, ...]
    size: int
    """Bytes in `parts`."""
    pieces: tuple[tuple[int, int], ...] = ()
    """Offset and length, in the file being read, of the CRI lines that `parts` came from."""
    level: Level | None = None
    """Set once a part of the line was sent: all parts have the level of the first."""


class Inside(msgspec.Struct, frozen=True):
    """The reader stands within a physical line that is longer than a record may be."""

    stream: str
    """Empty: within a malformed line."""
    time: str
    full: bool
    level: Level


class CriState(msgspec.Struct, frozen=True):
    """What the transformation of the next bytes depends on besides the bytes."""

    seq: int = 0
    """The last record's."""
    time: str = UNKNOWN_TIME
    """The last good line's."""
    pending: dict[str, Pending] = {}
    inside: Inside | None = None

    def elsewhere(self) -> "CriState":
        """This state as the next file begins: the pieces' offsets mean nothing there."""
        return msgspec.structs.replace(
            self,
            pending={
                stream: msgspec.structs.replace(p, pieces=()) for stream, p in self.pending.items()
            },
        )

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """All pending pieces in the order of the file."""
        return sorted(piece for p in self.pending.values() for piece in p.pieces)


class Batch(msgspec.Struct, frozen=True):
    """What a block became."""

    lines: bytes
    records: int
    first: int
    """seq of the first record."""
    time_ns: int
    """Time of the first record; 0 when there is none."""
    consumed: int
    """Bytes of the block that are done with; the rest is to be shown again, with more behind."""
    state: CriState


class _Record(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
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
_Raw = msgspec.Raw


def same_in_all(identity: Identity, writer: str, container: str, service: str, stream: str) -> Any:
    """The fields that are the same in all lines of a stream, ready to follow `{"type":`."""
    fields = {
        "project": identity.project,
        "writer": writer,
        "uid": identity.uid,
        "deployment": identity.deployment,
        "build": identity.build,
        "pod": identity.pod,
        "container": container,
        "service": service,
        "stream": stream,
    }
    given = {name: text for name, text in fields.items() if text}
    return _Raw(b'"log",' + msgspec.json.encode(given)[1:-1])


class CriTransformer:
    """The transformation for one writer. Holds constants only: all that changes is in CriState."""

    def __init__(
        self, identity: Identity, writer: str, container: str, *, service: str = ""
    ) -> None:
        self._heads = {
            stream: same_in_all(identity, writer, container, service, stream)
            for stream in (*STREAMS, "")
        }

    def transform(self, block: bytes, state: CriState, offset: int = 0) -> Batch:
        """Records of the whole lines in `block`, which begins at `offset` of the file.

        An unfinished last line is left for the next call, unless it is longer than a record may
        be: then its parts are records as they come, cut after MAX_LINE bytes wherever blocks end.
        """
        work = _Work(self._heads, state)
        at = work.go_on_inside(block, 0) if work.inside is not None else 0
        if work.inside is None:
            end = block.rfind(b"\n") + 1
            if end > at:
                whole = block if at == 0 and end == len(block) else block[at:end]
                self._whole_lines(whole, work, offset + at)
                at = end
            if len(block) - at > MAX_LINE + MAX_PREFIX:
                at = work.enter(block, at)
        return work.batch(at)

    def give_up(self, state: CriState) -> Batch:
        """The pieces that wait for their line's end, as records marked `unterminated`."""
        work = _Work(self._heads, state)
        work.give_up()
        return work.batch(0)

    def last_line(self, rest: bytes, state: CriState, offset: int = 0) -> Batch:
        """The unfinished last line of a file that will not grow any more, then `give_up`."""
        work = _Work(self._heads, state)
        if work.inside is not None:
            work.end_inside(rest, ["unterminated"])
        elif rest:
            work.line(rest, offset, ["unterminated"])
        work.give_up()
        return work.batch(len(rest))

    def _whole_lines(self, block: bytes, work: "_Work", offset: int) -> None:
        try:
            text = block.decode()
        except UnicodeDecodeError:
            # Also where a character was cut between two pieces: joined, it is whole again.
            work.each_line(block, offset)
            return
        if len(block) > MAX_LINE:  # only then may a line in it have to be split
            work.each_line(block, offset)
            return
        lines = text.split("\n")
        lines.pop()
        coming = iter(lines)
        place = _Place(lines, coming, offset, single_bytes=len(text) == len(block))
        heads = self._heads
        pending = work.pending
        colours = "\x1b" in text
        add = work.records.append
        seq = work.seq
        usual, other = STREAMS
        mark, other_mark = _MARKS[usual], _MARKS[other]
        head = heads[usual]
        second = ""
        for line in coming:
            time, found, message = line.partition(mark)
            if not found:
                time, found, message = line.partition(other_mark)
                if found:
                    usual, other, mark, other_mark = other, usual, other_mark, mark
                    head = heads[usual]
            if not found or pending or time[:20] != second or time[-1] != "Z" or len(time) > 30:
                # Pieces, bad lines, another zone; once per second its time's checking.
                time = normal_time(time) if found and not pending else ""
                if not time:
                    work.seq = seq
                    work.line(line.encode(), place.of_current())
                    seq = work.seq
                    continue
                second = time[:20]
            seq += 1
            if message[:1] == "{":
                fields = json_fields(message)
                if fields is not None:
                    text, level, trace, span = fields
                    raw = _Raw(message if message[-1] == "}" else message.rstrip())
                    add(_Record(head, seq, time, level, text, trace, span, raw))
                    continue
            if colours:
                level = level_of_text(message)
            else:
                words = message.split(" ", LEVEL_WORDS_SEEN - 1)
                level = level_of_word(words[0]) or level_of_words(words)
            if "race" in message:
                add(_Record(head, seq, time, level, message, *ids_of_text(message)))
            else:
                add(_Record(head, seq, time, level, message))
        work.seq = seq


class _Place:
    """Where in the file the line stands that an iterator over decoded lines gave last."""

    def __init__(
        self, lines: list[str], coming: Iterator[str], offset: int, *, single_bytes: bool
    ) -> None:
        self._lines = lines
        self._coming = coming
        self._single_bytes = single_bytes
        self._index = 0
        self._offset = offset

    def of_current(self) -> int:
        index = len(self._lines) - length_hint(self._coming) - 1
        passed = self._lines[self._index : index]
        size = sum(map(len, passed if self._single_bytes else map(str.encode, passed)))
        self._offset += size + len(passed)
        self._index = index
        return self._offset


class _Work:
    """A state being worked on, line by line: the thorough and slow way."""

    def __init__(self, heads: dict[str, Any], state: CriState) -> None:
        self._heads = heads
        self._before = state
        self.seq = state.seq
        self.pending = dict(state.pending)
        self.inside = state.inside
        self.records: list[_Record] = []

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
        if so_far.size + len(text) > MAX_LINE:
            so_far = self._send_part(stream, so_far)
        self.pending[stream] = Pending(
            so_far.time,
            (*so_far.parts, text),
            so_far.size + len(text),
            (*so_far.pieces, piece),
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
                raw = _Raw(message.rstrip())
                message, level, trace, span = fields
        if raw is None:
            level = level or level_of_text(message)
            trace, span = ids_of_text(message)
        assert level is not None
        if not time:
            time = self.records[-1].timestamp if self.records else self._before.time
        self.seq += 1
        self.records.append(
            _Record(
                self._heads[stream], self.seq, time, level, message, trace, span, raw, marks or None
            )
        )
        return level


def _parse(line: bytes) -> tuple[str, str, bool, bytes]:
    """Stream, time in UTC, whether the line ends here, text. Stream "": no CRI line, all is text."""
    row = line.split(b" ", 3)
    if len(row) >= 3 and row[1] in _STREAM_OF:
        time = normal_time(row[0].decode(errors="replace"))
        tag = row[2].partition(b":")[0]  # tags after the first are for later versions of CRI
        if time and tag in {b"F", b"P"}:
            return _STREAM_OF[row[1]], time, tag == b"F", row[3] if len(row) == 4 else b""
    return "", "", True, line


_STREAM_OF = {stream.encode(): stream for stream in STREAMS}


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
