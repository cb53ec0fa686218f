"""How values, tables and trees look; what a terminal must never be told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_local.cli.formats import (
    age,
    between,
    clean,
    clock,
    cost,
    duration,
    number,
    one_line,
    parse_time,
    short,
    size,
)
from spanyard_local.cli.span_tree import DRAWN_DEPTH, tree
from spanyard_local.cli.tables import Cell, Column, cut, print_table
from spanyard_local.terminal import Terminal, as_json, width

NOW = 1_795_000_000 * 10**9


class Tty:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        return


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (age("2026-11-18T11:06:40Z", NOW), "0s"),
        (age("2026-11-18T11:04:41Z", NOW), "119s"),
        (age("2026-11-18T11:04:40Z", NOW), "2m"),
        (age("2026-11-18T08:06:40Z", NOW), "3h"),
        (age("2026-11-16T11:06:40.5Z", NOW), "47h"),
        (age("2026-11-14T11:06:40Z", NOW), "4d"),
        (age("2027-11-14T11:06:40Z", NOW), "0s"),  # a clock that is ahead
        (age(None, NOW), ""),
        (age("yesterday", NOW), ""),
        (duration(None), ""),
        (duration(1_500), "2µs"),
        (duration(1_240_000), "1.2ms"),
        (duration(53_400_000), "53ms"),
        (duration(1_239_000_000), "1.24s"),
        (duration(61_000_000_000), "61.0s"),
        (duration(125_000_000_000), "2m05s"),
        (duration(11_520_000_000_000), "3h12m"),
        (between("2026-11-18T11:06:38Z", None, NOW), "2.00s"),
        (between("", None, NOW), ""),
        (number(1204), "1,204"),
        (number(0.04168341), "0.0416834"),
        (number(27.0), "27"),
        (number("NaN"), "NaN"),
        (cost(0.0), ""),
        (cost(0.01234), "$0.0123"),
        (size(812), "812 B"),
        (size(1_250_000), "1.2 MB"),
        (size(3e12), "3000.0 GB"),
        (short("0af7651916cd43dd8448eb211c80319c"), "0af7651916cd"),
        (short("order-17"), "order-17"),
        (one_line(" a\n  b\r\nc "), "a ⏎ b ⏎ c"),
        (clock("2026-11-18T11:06:40.123456789Z", utc=True, now_ns=NOW), "11:06:40.123Z"),
        (clock("2026-11-17T11:06:40Z", utc=True, now_ns=NOW), "2026-11-17 11:06:40.000Z"),
        (clock("odd", utc=True, now_ns=NOW), "odd"),
    ],
)  # fmt: skip
def test_values_look_as_people_say_them(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_a_time_is_read_to_the_nanosecond() -> None:
    assert parse_time("2026-11-18T11:06:40.000000007Z") == NOW + 7
    assert parse_time("2026-11-18T11:06:40.7Z") == NOW + 700_000_000
    assert parse_time("2026-13-18T11:06:40Z") is None


def test_colours_of_programs_stay_on_a_terminal_and_nothing_else_steers_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TERM", raising=False)
    out: Any = Tty()
    text = "\x1b[31mred\x1b[0m\t\x1b[2Jcleared\r"
    assert clean(Terminal.of(out), text) == "\x1b[31mred\x1b[0m    ␛[2Jcleared\x1b[0m"
    assert clean(Terminal.of(), text) == "red    ␛[2Jcleared"
    assert clean(Terminal.of(out), "plain") == "plain"


@given(st.recursive(st.text() | st.integers(), st.lists, max_leaves=5), st.sampled_from([None, 2]))
def test_json_says_the_same_and_steers_no_terminal(value: Any, indent: int | None) -> None:
    shown = as_json(value, indent)
    assert json.loads(shown) == value
    assert all(c.isprintable() for c in shown.replace("\n", ""))


def test_json_is_readable_where_it_may_be() -> None:
    assert as_json({"漢字 é 🎉": "\x9b2J \u202e\U000e0041"}) == (
        '{"漢字 é 🎉": "\\u009b2J \\u202e\\udb40\\udc41"}'
    )


COLUMNS = (Column("NAME", flexible=True), Column("N", right=True), Column("NOTE"))


def table(rows: list[Any], monkeypatch: pytest.MonkeyPatch, room: int = 0) -> list[str]:
    out: Any = Tty()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setenv("COLUMNS", str(room or 200))
    terminal = Terminal.of(out)
    print_table(terminal, COLUMNS, rows)
    return out.text.splitlines()  # type: ignore[no-any-return]  # of a stream for tests


def test_columns_are_aligned_and_empty_ones_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table([("a", "1", ""), ("漢字", Cell("23", ("red",)), "")], monkeypatch) == [
        "NAME   N",
        "a      1",
        "漢字  23",
    ]
    assert table([("a", "1", "x")], monkeypatch)[0] == "NAME  N  NOTE"


def test_a_narrow_terminal_cuts_the_flexible_column_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = table([("a long name, 漢字漢字漢字", "12345", "whole")], monkeypatch, room=26)
    assert shown[1] == "a long name…  12345  whole"
    assert all(width(line) <= 26 for line in shown)


@pytest.mark.parametrize("room", [13, 16, 20, 40])
def test_no_line_wraps_however_narrow_the_terminal(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = table([("some name", "1234567890", "a note of some length")], monkeypatch, room)
    assert all(width(line) <= room for line in shown), shown


@given(st.text(max_size=30), st.integers(1, 20))
def test_what_is_cut_fits(text: str, room: int) -> None:
    assert width(cut(text, room)) <= max(room, 1)
    if width(text) <= room:
        assert cut(text, room) == text


def span(name: int, parent: int | None, start: int) -> dict[str, Any]:
    return {"id": str(name), "parentSpanId": "" if parent is None else str(parent),
            "startTime": f"2026-11-18T11:06:{start:02}Z"}  # fmt: skip


def test_a_trace_is_a_tree_with_children_by_their_start() -> None:
    spans = [span(1, None, 0), span(2, 1, 5), span(3, 1, 1), span(4, 3, 2), span(5, 9, 3)]
    assert [(branch, s["id"]) for branch, s in tree(spans)] == [
        ("", "1"),
        ("├─ ", "3"),
        ("│  └─ ", "4"),
        ("└─ ", "2"),
        ("", "5"),  # its parent is not there
    ]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 59)), max_size=14))
def test_every_span_is_shown_once_whatever_its_parents_are(
    drawn: list[tuple[int, int, int]],
) -> None:
    spans = [span(n, parent, start) for n, parent, start in {d[0]: d for d in drawn}.values()]
    shown = [s["id"] for _, s in tree(spans)]
    assert sorted(shown) == sorted(s["id"] for s in spans)


def test_a_trace_may_be_deeper_than_pythons_stack() -> None:
    spans = [span(n, n - 1 if n else None, 0) for n in range(5_000)]
    drawn = [branch for branch, _ in tree(spans)]
    assert len(drawn) == 5_000
    assert max(map(len, drawn)) < 4 * DRAWN_DEPTH, "nothing is wider than what a screen may have"
    assert drawn[DRAWN_DEPTH] == " " * 3 * (DRAWN_DEPTH - 1) + "└─ "
    assert drawn[4_999].endswith("└─ (4999) ")
