"""The Native format for clients that name a protocol revision (`client_protocol_version`).

The embedded engine writes blocks of revision 0: columns, rows, then name, type and data of each
column. A client of a later revision expects a few bytes more: the block's info before it (any
revision), and after each type whether it is serialised in a special way (from 54454 on: never).
So blocks are walked, not decoded: only where a column ends must be known, which the types tell.
"""

import re
import struct
from collections.abc import Callable

REVISION_OF_CUSTOM_SERIALIZATION = 54454
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
"""Field 1: no overflows; field 2: bucket -1; end."""

_FIXED = {
    "Bool": 1, "Int8": 1, "UInt8": 1, "Enum8": 1, "Nothing": 1,
    "Int16": 2, "UInt16": 2, "Enum16": 2, "Date": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "IPv4": 4, "Time": 4,
    "Decimal32": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Time64": 8, "Decimal64": 8,
    "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16,
    "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_SAME_AS = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}
_TYPE = re.compile(r"([A-Za-z0-9_]+)(?:\((.*)\))?", re.DOTALL)
_NAMED = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.)*`) +(?=\S)")
_INDEX_BYTES = (1, 2, 4, 8)
_ADDITIONAL_KEYS = 1 << 9
_LONGEST_VARINT = 10


class UnknownTypeError(ValueError):
    """A column of a type whose end this module does not know."""


def with_revision(data: bytes, revision: int) -> bytes:
    """Blocks of revision 0 as a client of `revision` expects them. Raises UnknownTypeError."""
    if revision <= 0:
        return data
    mark = b"\x00" if revision >= REVISION_OF_CUSTOM_SERIALIZATION else b""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        start = at
        columns, at = _varint(data, at)
        rows, at = _varint(data, at)
        parts += [_BLOCK_INFO, data[start:at]]
        for _ in range(columns):
            start = at
            size, at = _varint(data, at)
            at += size
            size, at = _varint(data, at)
            kind = data[at : at + size].decode()
            at += size
            parts += [data[start:at], mark]
            start = at
            if rows:
                at = _data_end(data, _prefix_end(at, kind), kind, rows)
            parts.append(data[start:at])
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise ValueError("a number is too long")


def _taken_apart(kind: str) -> tuple[str, list[str]]:
    match = _TYPE.fullmatch(kind)
    if match is None:
        raise UnknownTypeError(kind)
    name, inner = match[1], match[2]
    if name in _SAME_AS:
        return _taken_apart(_SAME_AS[name])
    return name, _arguments(inner) if inner else []


def _arguments(text: str) -> list[str]:
    """Cut at commas outside brackets and quotes."""
    parts = []
    depth = start = at = 0
    while at < len(text):
        sign = text[at]
        if sign in "'`":
            at += 1
            while at < len(text) and text[at] != sign:
                at += 2 if text[at] == "\\" else 1
        elif sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
        at += 1
    parts.append(text[start:].strip())
    return parts


def _element(text: str) -> str:
    """The type of a tuple's element, which may have a name before it."""
    return _NAMED.sub("", text, count=1) if _NAMED.match(text) else text


def _inner(name: str, arguments: list[str]) -> list[str]:
    """The types that a type consists of; a map is an array of pairs, Nested one of tuples."""
    if name in {"Tuple", "Nested"}:
        return [_element(argument) for argument in arguments]
    if name == "SimpleAggregateFunction":
        return arguments[1:2]
    if name in {"Array", "Nullable", "Map", "LowCardinality"}:
        return arguments
    return []


def _prefix_end(at: int, kind: str) -> int:
    """Behind what stands once before a column's data: the version of each LowCardinality."""
    name, arguments = _taken_apart(kind)
    if name == "LowCardinality":
        return at + 8
    for inner in _inner(name, arguments):
        at = _prefix_end(at, inner)
    return at


def _data_end(data: bytes, at: int, kind: str, rows: int) -> int:
    name, arguments = _taken_apart(kind)
    if name in _FIXED:
        return at + rows * _FIXED[name]
    if name.startswith("Interval"):
        return at + rows * 8
    if name == "FixedString":
        return at + rows * int(arguments[0])
    if name == "Decimal":
        digits = int(arguments[0])
        return at + rows * (4 if digits <= 9 else 8 if digits <= 18 else 16 if digits <= 38 else 32)
    walk = _WALKS.get(name)
    if walk is None:
        raise UnknownTypeError(kind)
    return walk(data, at, _inner(name, arguments), rows)


def _strings(data: bytes, at: int, inner: list[str], rows: int) -> int:
    for _ in range(rows):
        size = data[at]
        if size < 0x80:
            at += size + 1
        else:
            size, at = _varint(data, at)
            at += size
    return at


def _elements(data: bytes, at: int, inner: list[str], rows: int) -> int:
    if not inner:
        return at + rows  # an empty tuple takes a byte
    for kind in inner:
        at = _data_end(data, at, kind, rows)
    return at


def _arrays(data: bytes, at: int, inner: list[str], rows: int) -> int:
    if not rows:
        return at
    (total,) = struct.unpack_from("<Q", data, at + (rows - 1) * 8)
    return _elements(data, at + rows * 8, inner, total)


def _nullable(data: bytes, at: int, inner: list[str], rows: int) -> int:
    return _elements(data, at + rows, inner, rows)


def _low_cardinality(data: bytes, at: int, inner: list[str], rows: int) -> int:
    if not rows:
        return at
    (flags,) = struct.unpack_from("<Q", data, at)
    at += 8
    if flags & _ADDITIONAL_KEYS:
        (keys,) = struct.unpack_from("<Q", data, at)
        name, arguments = _taken_apart(inner[0])
        kind = arguments[0] if name == "Nullable" else inner[0]
        at = _data_end(data, at + 8, kind, keys)
    (indexes,) = struct.unpack_from("<Q", data, at)
    return at + 8 + int(indexes) * _INDEX_BYTES[flags & 0xFF]


_WALKS: dict[str, Callable[[bytes, int, list[str], int], int]] = {
    "String": _strings,
    "Array": _arrays,
    "Map": _arrays,
    "Nested": _arrays,
    "Tuple": _elements,
    "Nullable": _nullable,
    "LowCardinality": _low_cardinality,
    "SimpleAggregateFunction": _elements,
}
