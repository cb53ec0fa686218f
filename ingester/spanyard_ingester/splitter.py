"""Lines out of blocks: numbered, with their offsets, in bounded memory however long a line is."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RawLine:
    """One line without its newline."""

    number: int
    """From 1."""
    offset: int
    size: int
    data: bytes | None
    """None for a line over the limit."""


class LineSplitter:
    """Feed it blocks in order; then `finish` gives a last line without a newline."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._start: list[bytes] = []
        """What came of a line whose end has not come; empty once it is over the limit."""
        self._size = 0
        self._offset = 0
        self.number = 0

    def feed(self, block: bytes) -> Iterator[RawLine]:
        """The lines that end in this block."""
        at = 0
        while (end := block.find(b"\n", at)) >= 0:
            yield self._line(block[at:end])
            at = end + 1
        self._add(block[at:])

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._limit:
            if piece:
                self._start.append(piece)
        else:
            self._start.clear()

    def _line(self, piece: bytes) -> RawLine:
        self._add(piece)
        self.number += 1
        data = b"".join(self._start) if self._size <= self._limit else None
        line = RawLine(self.number, self._offset, self._size, data)
        self._offset += self._size + 1
        self._start.clear()
        self._size = 0
        return line

    def finish(self) -> RawLine | None:
        """The rest, when the last line has no newline."""
        return self._line(b"") if self._size else None
