"""The Protobuf wire format, as far as finding the records of a request needs it.

Each record is then parsed for itself: a bad one is refused alone, and a large request is never in
memory as messages all at once (a message takes about four times its encoding).
Source: protobuf.dev, "Encoding": tag = field number << 3 | wire type; types 0 varint, 1 eight
bytes, 2 length and bytes, 5 four bytes; 3 and 4 (groups) are not in OTLP.
"""


class WireError(Exception):
    """The bytes are not a Protobuf message."""


def submessages(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Fields with length and bytes in data[at:end]: field number, start, end. Raises WireError."""
    found: list[tuple[int, int, int]] = []
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(data, at - 1)
            kind = tag & 7
            if kind == 2:
                size = data[at]
                at += 1
                if size > 0x7F:
                    size, at = _varint(data, at - 1)
                found.append((tag >> 3, at, at + size))
                at += size
            elif kind == 0:
                _, at = _varint(data, at)
            elif kind == 1:
                at += 8
            elif kind == 5:
                at += 4
            else:
                raise WireError(f"wire type {kind} at byte {at}")
    except IndexError:
        raise WireError("it ends in the middle of a field") from None
    if at != end:
        raise WireError(f"a field reaches beyond the end of its message at byte {end}")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError(f"a number without end at byte {at}")
