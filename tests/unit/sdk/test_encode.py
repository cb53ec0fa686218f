"""Whatever an application hands over becomes one line of bounded size."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard._encode import MAX_LINE, attributes_of, encode


def line_of(value: Any) -> dict[str, Any]:
    line, _ = encode({"type": "log", "message": "m", "attributes": attributes_of({"v": value}, {})})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) <= MAX_LINE
    decoded: dict[str, Any] = json.loads(line)
    return decoded


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Shown:
    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        ([float("inf")], ["Infinity"]),
        (2**70, str(2**70)),
        (2**64 - 1, 2**64 - 1),
        ({1: "a"}, {"1": "a"}),
        (b"\x00\xff", "AP8="),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (Shown(), "shown"),
        (Odd(), "<Odd: RuntimeError>"),
        ({"a": Shown()}, {"a": "shown"}),
        ("a\nb\x00", "a\nb\x00"),
        ("\ud800", "?"),
        ({"\ud800": [Shown()]}, {"?": ["shown"]}),
    ],
)
def test_unusual_values_are_carried_or_shown_as_text(value: Any, expected: Any) -> None:
    assert line_of(value)["attributes"]["v"] == expected


def test_a_cycle_ends() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert line_of(cycle)["message"] == "m"
    odd = type("List", (list,), {})()
    odd.append(odd)
    assert line_of(odd)["message"] == "m"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.just(Odd()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.sets(st.integers())
    ),
)


@pytest.mark.slow
@given(VALUES)
def test_nothing_breaks_the_line(value: Any) -> None:
    line_of(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5_000_000,
        ["y" * 1000] * 5000,
        list(range(200_000)),
        {"k" * 2_000_000: 1},
        "é" * 900_000,
    ],
)
def test_what_is_too_long_is_shortened_and_says_so(value: Any) -> None:
    line = line_of(value)
    assert line["attributes"]["spanyard.truncated"] is True
    assert line["message"] == "m"


def test_a_long_message_keeps_its_beginning() -> None:
    line, shortened = encode({"type": "log", "message": "start" + "x" * 3_000_000})
    assert shortened
    assert json.loads(line)["message"].startswith("startxxx")
    assert len(json.loads(line)["message"]) > 60_000


def test_a_line_that_just_fits_is_left_alone() -> None:
    frame = len(encode({"type": "log", "message": ""})[0])
    line, shortened = encode({"type": "log", "message": "x" * (MAX_LINE - frame)})
    assert len(line) == MAX_LINE
    assert not shortened
