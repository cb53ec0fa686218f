"""CRI log lines to records: a pure function of bytes and state, in whole blocks.

The runtime writes `2026-11-21T14:45:00.123456789Z stdout F message` (Kubernetes CRI log format):
an RFC 3339 time whose zeros containerd trims and whose zone may be local, the stream, `P` for a
piece of a line (containerd splits at 16 KiB) or `F` for its end, the text. What follows from the
bytes alone is decided here; what time or circumstance decides (a line given up) is asked for by
name: `give_up`, `last_line`.

How fast the loop is decides how fast the collector is: docs/collector-design.md has the numbers
behind its shape.
"""

from collections.abc import Iterator
from operator import length_hint
from typing import Any

import msgspec

from spanyard_sidecar.cri_state import MAX_LINE, MAX_PREFIX, Batch, CriState
from spanyard_sidecar.cri_time import LONGEST, cri_time
from spanyard_sidecar.cri_work import STREAMS, Plain, Record, Work
from spanyard_sidecar.lines import (
    LEVEL_WORDS_SEEN,
    ids_of_text,
    json_fields,
    level_of_text,
    level_of_word,
    level_of_words,
)
from spanyard_sidecar.model import Identity

_MARKS = {stream: f" {stream} F " for stream in STREAMS}
"""What stands between time and text of a whole line."""
_NO_SECOND = "no twenty characters are like this"
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
        self,
        identity: Identity,
        writer: str,
        container: str,
        *,
        service: str = "",
        streams: bool = True,
    ) -> None:
        """Without `streams` the lines name one, but it is not known to be true: records have none."""
        self._heads = {
            stream: same_in_all(identity, writer, container, service, stream if streams else "")
            for stream in (*STREAMS, "")
        }

    def transform(self, block: bytes, state: CriState, offset: int = 0) -> Batch:
        """Records of the whole lines in `block`, which begins at `offset` of the file.

        An unfinished last line is left for the next call, unless it is longer than a record may
        be: then its parts are records as they come, cut after MAX_LINE bytes wherever blocks end.
        """
        work = Work(self._heads, state)
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
        work = Work(self._heads, state)
        work.give_up()
        return work.batch(0)

    def last_line(self, rest: bytes, state: CriState, offset: int = 0) -> Batch:
        """The unfinished last line of a file that will not grow any more, then `give_up`."""
        work = Work(self._heads, state)
        if work.inside is not None:
            work.end_inside(rest, ["unterminated"])
        elif rest:
            work.line(rest, offset, ["unterminated"])
        work.give_up()
        return work.batch(len(rest))

    def _whole_lines(self, block: bytes, work: Work, offset: int) -> None:
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
        second = _NO_SECOND
        for line in coming:
            time, found, message = line.partition(mark)
            if not found:
                time, found, message = line.partition(other_mark)
                if found:
                    usual, other, mark, other_mark = other, usual, other_mark, mark
                    head = heads[usual]
            if (
                not found
                or pending
                or time[:20] != second
                or time[-1] != "Z"
                or len(time) > LONGEST
            ):
                # Pieces, bad lines, another zone; once per second its time's checking.
                time = cri_time(time) if found and not pending else ""
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
                    add(Record(head, seq, time, level, text, trace, span, raw))
                    continue
            if colours:
                level = level_of_text(message)
            else:
                words = message.split(" ", LEVEL_WORDS_SEEN - 1)
                level = level_of_word(words[0]) or level_of_words(words)
            if "race" in message:
                add(Record(head, seq, time, level, message, *ids_of_text(message)))
            else:
                add(Plain(head, seq, time, level, message))
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
