"""What the transformation of CRI lines carries from one block to the next, and what it gives."""

import msgspec

from spanyard_core.records import Level

MAX_LINE = 1024 * 1024
"""Bytes of a line that stay in one record (C1); longer lines are split, and marked so."""
MAX_PIECES = 4096
"""Pieces that are joined to one line; a longer one is split like one of too many bytes. CRI-O
makes a piece of every write without a newline, so a progress bar of dots has one per dot."""
MAX_RANGES = 1000
"""Ranges of the file that they may come from, where the other stream's lines stand in between:
each object says them in its first frame, of which readers take 64 KiB."""
MAX_PREFIX = 64
"""Bytes before the text: at most 35 of time, the stream, the tags, three spaces."""
UNKNOWN_TIME = "1970-01-01T00:00:00Z"
"""Time of a malformed line with no good line before it."""


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
