"""Segments of the OTLP log: what is on disk at the start, and what of it is good.

Only what was written last can be cut or torn by a crash, and nothing of that was acknowledged: it
is truncated away. Damage before it (the disk's, or a hand's) is skipped, and the sources report
the numbers that are missing.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from spanyard_core.files import Files, ReadFile
from spanyard_core.records import Signal
from spanyard_sidecar.otlp.frames import Frame, is_whole, next_frame, read_frame
from spanyard_sidecar.otlp.receipts import Receipt, decode_receipts

log = logging.getLogger("spanyard.sidecar")

_NAME = re.compile(r"(\d{16})\.log")


@dataclass(slots=True)
class Segment:
    """One file of the log."""

    n: int
    path: str
    end: int = 0
    """Good bytes: durable, and shown to sources."""
    charge: int = 0
    """Bytes taken from the disk budget."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    """Damaged ranges, from ≤ b < to."""
    last: dict[str, int] = field(default_factory=dict)
    """Writer → last seq in here."""
    signals: dict[str, Signal] = field(default_factory=dict)
    """Writer → its signal."""

    def after_holes(self, offset: int) -> int:
        """`offset`, or the end of the damage that it is in."""
        for start, end in self.holes:
            if start <= offset < end:
                return end
        return offset


@dataclass(slots=True)
class Found:
    """All of the directory."""

    segments: list[Segment] = field(default_factory=list)
    next: dict[str, int] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    group: int = 0
    empty: list[str] = field(default_factory=list)
    """Paths without one good frame: a segment whose making was interrupted."""
    torn: bool = False
    """The last segment has bytes to be truncated after its `end`."""


def segment_path(directory: str, n: int) -> str:
    """Path of the n-th segment; sorts by number."""
    return f"{directory}/{n:016d}.log"


def read_segments(files: Files, directory: str) -> Found:
    """Look through all segments. Changes nothing. Raises OSError."""
    found = Found()
    numbers = sorted(
        int(match[1]) for name in files.listdir(directory) if (match := _NAME.fullmatch(name))
    )
    for n in numbers:
        segment = Segment(n, segment_path(directory, n))
        file = files.open_read(segment.path)
        try:
            size = file.stat().size
            for frame in _frames(file, size, segment, found, is_last=n == numbers[-1]):
                _take(file, frame, segment, found)
        finally:
            file.close()
        if segment.end == 0:
            found.empty.append(segment.path)
        else:
            found.segments.append(segment)
            found.torn = n == numbers[-1] and segment.end < size
    return found


def _frames(
    file: ReadFile, size: int, segment: Segment, found: Found, *, is_last: bool
) -> Iterator[Frame]:
    at = left = 0
    while at < size:
        frame = read_frame(file, at, size)
        if frame is None or not is_whole(file, frame):
            behind = next_frame(file, at + 1, size)
            # In the last segment, the group that was being written is what a crash tore, and its
            # parts may have reached the disk in any order. A later group behind it means that it
            # had been synced: then it is damage.
            torn = found.group if left else found.group + 1
            while is_last and behind is not None and behind.head.group <= torn:
                behind = next_frame(file, behind.end, size)
            if behind is None:
                return
            log.error("%s is damaged from byte %d to %d", segment.path, at, behind.offset)
            segment.holes.append((at, behind.offset))
            frame = behind
        yield frame
        at = segment.end = frame.end
        left = frame.head.left


def _take(file: ReadFile, frame: Frame, segment: Segment, found: Found) -> None:
    head = frame.head
    found.group = max(found.group, head.group)
    if head.writer:
        segment.last[head.writer] = head.last
        segment.signals[head.writer] = head.signal
        found.next[head.writer] = head.last + 1
        found.receipts.append(Receipt(head.digest, head.wall_ns, head.refused, head.message))
        return
    found.next.update(head.next)
    try:
        found.receipts += decode_receipts(file.pread(frame.payload_length, frame.payload_at))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Its checksum was right: another version wrote it. Costs resends, not records.
        log.warning("the receipts of the OTLP log are not readable: %s", error)
