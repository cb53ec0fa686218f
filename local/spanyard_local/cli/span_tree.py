"""Spans as a tree of rows, as `spanyard trace` prints it, whole or while it grows."""

from collections.abc import Iterator, Sequence
from typing import Any

from spanyard_local.cli.formats import cost, duration, number, one_line, parse_time
from spanyard_local.cli.tables import Cell, Column, Row

DRAWN_DEPTH = 40
"""A chain of 6,000 spans, each drawn further in, took two minutes, and no screen is that wide."""
_STYLES = {"ok": ("green",), "error": ("red",)}


def span_table(spans: list[dict[str, Any]], begin: str) -> tuple[Sequence[Column], list[Row]]:
    """Spans as a tree; `begin`: of the trace, where it has none."""
    begin = min((span["startTime"] for span in spans), default=begin)
    columns = (
        Column("SPAN", flexible=True),
        Column("START", right=True),
        Column("DURATION", right=True),
        Column("STATUS"),
        Column("MODEL"),
        Column("TOKENS", right=True),
        Column("COST", right=True),
    )
    return columns, [_span_row(branch, span, begin) for branch, span in tree(spans)]


def tree(spans: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Spans with the lines that lead to them, parents first, children by their start.

    A span whose parent is not there begins a tree of its own; so does one of a circle. What lies
    deeper than is drawn has its depth before its name.
    """
    known = {span["id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda s: (s["startTime"], s["id"])):
        parent = span["parentSpanId"]
        children.setdefault(parent if parent in known and parent != span["id"] else "", []).append(
            span
        )
    shown: set[str] = set()

    def below(first: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        # By hand, not by recursion: a trace may be deeper than Python's stack.
        waiting = [("", "", 0, span) for span in reversed(first)]
        while waiting:
            lead, branch, depth, span = waiting.pop()
            if span["id"] in shown:
                continue
            shown.add(span["id"])
            yield lead + branch + (f"({depth}) " if depth > DRAWN_DEPTH else ""), span
            inner = lead
            if depth < DRAWN_DEPTH:
                inner += {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
            under = children.get(span["id"], [])
            for i, child in enumerate(reversed(under)):
                waiting.append((inner, "├─ " if i else "└─ ", depth + 1, child))

    yield from below(children.get("", []))
    for span in spans:
        if span["id"] not in shown:
            yield from below([span])


def _span_row(branch: str, span: dict[str, Any], begin: str) -> Row:
    tokens = span["inputTokens"] + span["outputTokens"]
    error = span["status"] == "error"
    return (
        Cell(branch + one_line(span["name"]), ("red",) if error else ()),
        "+" + (_offset(begin, span["startTime"]) or "0"),
        duration(span["durationNs"]),
        status_cell(span["status"], span["endTime"]),
        span["model"],
        number(tokens) if tokens else "",
        cost(span["cost"]),
    )


def _offset(begin: str, start: str) -> str:
    first, then = parse_time(begin), parse_time(start)
    return duration(then - first) if first is not None and then is not None and then > first else ""


def status_cell(status: str, end: str | None) -> Cell:
    """How a span or trace went."""
    if end is None:
        return Cell("unfinished", ("yellow",))
    return Cell("-" if status == "unset" else status, _STYLES.get(status, ()))
