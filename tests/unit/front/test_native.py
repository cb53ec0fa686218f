"""Blocks of the Native format for clients of later revisions."""

import struct

import pytest

from spanyard_gateway.front.native import UnknownTypeError, with_revision

INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def block(rows: int, *columns: tuple[str, str, bytes]) -> bytes:
    """A block of revision 0."""
    parts = [bytes([len(columns), rows])]
    for name, kind, data in columns:
        parts += [text(name), text(kind), data]
    return b"".join(parts)


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def test_revision_zero_is_what_the_engine_writes() -> None:
    data = block(1, ("a", "UInt8", b"\x07"))
    assert with_revision(data, 0) == data


def test_an_early_revision_has_only_the_blocks_info() -> None:
    data = block(1, ("a", "UInt8", b"\x07"))
    assert with_revision(data + data, 54405) == INFO + data + INFO + data


def test_a_later_revision_has_a_mark_after_each_type() -> None:
    data = block(2, ("a", "UInt8", b"\x07\x08"), ("b", "String", text("x") + text("yz")))
    assert with_revision(data, 54460) == (
        INFO + b"\x02\x02" + text("a") + text("UInt8") + b"\x00\x07\x08"
        + text("b") + text("String") + b"\x00" + text("x") + text("yz")
    )  # fmt: skip


def test_a_block_without_rows_has_no_data() -> None:
    data = block(0, ("a", "LowCardinality(String)", b""))
    assert with_revision(data, 54460) == (
        INFO + b"\x01\x00" + text("a") + text("LowCardinality(String)") + b"\x00"
    )


LONG = b"\xac\x02" + b"x" * 300
LOW = numbers(1) + numbers(1 << 9, 2) + text("") + text("k") + numbers(2) + b"\x01\x01"
NO_LOW = numbers(1)

COLUMNS = [
    ("FixedString(3)", b"abcdef"),
    ("String", text("") + LONG),
    ("Decimal(18, 3)", numbers(1, 2)),
    ("Decimal(76, 3)", bytes(64)),
    ("DateTime64(9, 'Europe/Berlin')", numbers(1, 2)),
    ("DateTime('a,b)')", bytes(8)),
    ("Enum8('a, (' = 1, 'b\\'' = 2)", b"\x01\x02"),
    ("IntervalSecond", numbers(1, 2)),
    ("Nullable(String)", b"\x01\x00" + text("") + text("v")),
    ("Nullable(Nothing)", b"\x01\x01" + b"00"),
    ("Array(UInt16)", numbers(1, 3) + b"aabbcc"),
    ("Array(Array(UInt8))", numbers(1, 2) + numbers(2, 3) + b"abc"),
    ("Array(String)", numbers(0, 0)),
    ("Map(String, UInt8)", numbers(1, 2) + text("k") + text("l") + b"\x01\x02"),
    ("Tuple(a UInt8, `b c` String)", b"\x01\x02" + text("x") + text("y")),
    ("Tuple(UInt8, DateTime64(3))", b"\x01\x02" + numbers(1, 2)),
    ("Nested(a UInt8, b String)", numbers(1, 2) + b"\x01\x02" + text("x") + text("y")),
    ("Tuple()", b"00"),
    ("LowCardinality(String)", LOW),
    ("LowCardinality(Nullable(String))", LOW),
    ("Array(LowCardinality(String))", numbers(1) + numbers(0, 2) + LOW[8:]),
    ("Array(LowCardinality(String))", NO_LOW + numbers(0, 0)),
    ("Map(LowCardinality(String), String)", numbers(1) + numbers(0, 2) + LOW[8:] + text("p") + text("q")),
    ("SimpleAggregateFunction(max, UInt64)", numbers(1, 2)),
    ("Point", bytes(32)),
    ("Ring", numbers(1, 2) + bytes(32)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data"), COLUMNS)
def test_the_end_of_a_column_is_found(kind: str, data: bytes) -> None:
    after = block(1, ("z", "UInt8", b"\x63"))
    got = with_revision(block(2, ("a", kind, data), ("b", "UInt8", b"\x41\x42")) + after, 54460)
    assert got == (
        INFO + b"\x02\x02" + text("a") + text(kind) + b"\x00" + data
        + text("b") + text("UInt8") + b"\x00\x41\x42"
        + INFO + b"\x01\x01" + text("z") + text("UInt8") + b"\x00\x63"
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["JSON", "Dynamic", "Variant(String, UInt8)", "AggregateFunction(sum, UInt8)", "x y"]
)
def test_a_type_whose_end_is_unknown_is_told(kind: str) -> None:
    with pytest.raises(UnknownTypeError, match=r"\w"):
        with_revision(block(1, ("a", kind, b"....")), 54460)
