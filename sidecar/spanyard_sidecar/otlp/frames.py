"""Frames of the OTLP log as bytes. Format here, life cycle in `log`.

    magic "SPF1" | length of head, u32 LE | length of payload, u32 LE | crc32 of payload, u32 LE
    | crc32 of the twelve bytes before and the head, u32 LE | head, msgpack | payload

A frame of records holds one request's lines, numbered. Each segment opens with a frame that
carries over what older segments knew: next numbers and receipts; so older segments may go. Frames
written together are a group, counted down by `left`; a group begins when the one before is synced.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from spanyard_core.files import ReadFile
from spanyard_core.records import Signal

MAGIC = b"SPF1"
_PREFIX = struct.Struct("<4sIIII")
_FIRST_READ = 1024
"""Bytes of a first look; prefix and head of nearly all frames are in it."""
MAX_HEAD = 1 << 20
_STEP = 1 << 20


class Head(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, kw_only=True):
    """What a frame says of itself. `writer` is empty in the frame that opens a segment."""

    group: int
    left: int
    """Frames of the group that follow this one."""
    wall_ns: int
    """When it was appended."""
    writer: str = ""
    signal: Signal = "logs"
    first: int = 0
    """seq of the first record."""
    records: int = 0
    time_ns: int = 0
    """Time of the first record."""
    digest: bytes = b""
    """Which request this was; see `receipts`."""
    refused: int = 0
    message: str = ""
    """What the answer said beside success."""
    next: dict[str, int] = {}
    """Of an opening frame: writer → its next seq."""

    @property
    def last(self) -> int:
        """seq of the last record."""
        return self.first + self.records - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame found in a file."""

    head: Head
    offset: int
    payload_at: int
    payload_length: int
    payload_crc: int

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.payload_at + self.payload_length


_encoder = msgspec.msgpack.Encoder()
_heads = msgspec.msgpack.Decoder(Head)


def frame_parts(head: Head, payload: Sequence[bytes]) -> list[bytes]:
    """A frame in parts, so that a large payload is not copied."""
    encoded = _encoder.encode(head)
    payload_crc = 0
    for piece in payload:
        payload_crc = zlib.crc32(piece, payload_crc)
    lengths = struct.pack("<III", len(encoded), sum(map(len, payload)), payload_crc)
    head_crc = zlib.crc32(encoded, zlib.crc32(lengths))
    return [MAGIC + lengths + struct.pack("<I", head_crc) + encoded, *payload]


def read_frame(file: ReadFile, offset: int, end: int) -> Frame | None:
    """The frame at `offset` of a file whose good bytes end at `end`; None when there is no frame.

    The payload is not looked at.
    """
    data = file.pread(_FIRST_READ, offset)
    if len(data) < _PREFIX.size:
        return None
    magic, head_length, payload_length, payload_crc, head_crc = _PREFIX.unpack_from(data)
    at = offset + _PREFIX.size
    if magic != MAGIC or head_length > MAX_HEAD or at + head_length + payload_length > end:
        return None
    encoded = data[_PREFIX.size : _PREFIX.size + head_length]
    if len(encoded) < head_length:
        encoded = file.pread(head_length, at)
    if zlib.crc32(encoded, zlib.crc32(data[4:16])) != head_crc:
        return None
    try:
        head = _heads.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Frame(head, offset, at + head_length, payload_length, payload_crc)


def is_whole(file: ReadFile, frame: Frame) -> bool:
    """Whether the payload is what was written. Reads it, in steps of 1 MiB."""
    crc, at = 0, frame.payload_at
    while at < frame.end:
        data = file.pread(min(_STEP, frame.end - at), at)
        if not data:
            return False
        crc = zlib.crc32(data, crc)
        at += len(data)
    return crc == frame.payload_crc


def next_frame(file: ReadFile, offset: int, end: int) -> Frame | None:
    """The first whole frame that begins at `offset` or later: what is left behind damage."""
    at = offset
    while at + _PREFIX.size <= end:
        data = file.pread(_STEP, at)
        found = data.find(MAGIC)
        if found < 0:
            at += max(1, len(data) - len(MAGIC) + 1)
            continue
        frame = read_frame(file, at + found, end)
        if frame is not None and is_whole(file, frame):
            return frame
        at += found + 1
    return None
