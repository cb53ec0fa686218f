"""A search of live records: the same query, with the same answers, as of stored ones.

A channel may give lines and spans. A query holds for those that have all of its fields: `level:error`
picks lines, `tool:mail` spans, a word both.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from spanyard_core.clickhouse.lines import SPAN_COST, SPAN_COUNTS, SPAN_TEXTS
from spanyard_gateway.live.records import LiveSignal, LogRecord, Picks, Record, SpanRecord
from spanyard_gateway.params import time_ns
from spanyard_gateway.queries.revisions import revision_of
from spanyard_gateway.search.bound import Bound, Compare, Holds, Leaf, bound
from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.search.fields import WORDS, Signal
from spanyard_gateway.search.nodes import All, AnyOf, Not
from spanyard_gateway.search.values import attribute_text, number_test, text_test

_MOST_COUNTED = 2**64 - 1
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)


def searches(query: str, signals: Sequence[LiveSignal]) -> Mapping[Signal, Bound]:
    """The query for each of the signals that it can be asked of.

    Raises SearchError when that is none: of the one that made most of it.
    """
    found: dict[Signal, Bound] = {}
    wrong: list[SearchError] = []
    for signal in signals:
        if signal:
            try:
                found[signal] = bound(query, signal)
            except SearchError as error:
                wrong.append(error)
    if wrong and not found:
        raise max(wrong, key=lambda error: error.start)
    return found


def search_test(query: str, signals: Sequence[LiveSignal]) -> Picks:
    """Whether a record is one that the query asks for. Raises SearchError."""
    trees = searches(query, signals)
    of_line = _test(trees["logs"], _LINES) if "logs" in trees else _never
    of_span = _test(trees["spans"], _SPANS) if "spans" in trees else _never

    def test(record: Record) -> bool:
        seen = _Seen(record)
        return of_line(seen) if isinstance(record, LogRecord) else of_span(seen)

    return test


class _Seen:
    """A record under test; its attributes are read once, when the first condition asks."""

    __slots__ = ("_attributes", "_texts", "record")

    def __init__(self, record: Any) -> None:
        self.record = record
        self._attributes: dict[str, Any] | None = None
        self._texts: dict[str, str] = {}

    def attribute(self, key: str) -> str:
        """As text; empty where it is not there."""
        if self._attributes is None:
            self._attributes = _object(bytes(self.record.attributes))
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = attribute_text(self._attributes.get(key))
        return text

    def first(self, keys: Sequence[str]) -> str:
        """The first of these attributes that is there and not empty."""
        return next((text for text in map(self.attribute, keys) if text), "")

    def count(self, keys: Sequence[str]) -> int:
        """As a whole number; 0 where it is none."""
        text = self.first(keys)
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
        return number if number <= _MOST_COUNTED else 0

    def cost(self) -> float:
        text = self.first(SPAN_COST)
        return float(text) if _FLOAT.fullmatch(text) else 0.0

    def duration(self) -> int | None:
        """In ns; None of a span that has not ended."""
        span: SpanRecord = self.record
        if not span.end_time:
            return None
        try:
            return max(0, time_ns(span.end_time, 0) - time_ns(span.start_time, 0))
        except ValueError:
            return None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
    except (msgspec.DecodeError, RecursionError):
        return {}  # the engine finds no attributes in it either


Asked = Callable[[_Seen], bool]


def _never(_: _Seen) -> bool:
    return False


def _test(tree: Bound, fields: Mapping[str, Callable[[_Seen], Any]]) -> Asked:
    match tree:
        case Leaf():
            return _leaf(tree, fields)
        case Not(part):
            inner = _test(part, fields)
            return lambda seen: not inner(seen)
        case All(parts):
            every = [_test(part, fields) for part in parts]
            return lambda seen: all(test(seen) for test in every)
        case AnyOf(parts):
            some = [_test(part, fields) for part in parts]
            return lambda seen: any(test(seen) for test in some)


def _leaf(leaf: Leaf, fields: Mapping[str, Callable[[_Seen], Any]]) -> Asked:
    test = leaf.test
    if leaf.key:
        key, of_text = leaf.key, text_test(test)
        return lambda seen: of_text(seen.attribute(key))
    value = fields[leaf.field.name]
    if isinstance(test, Holds):
        wanted = test.wanted
        return lambda seen: bool(value(seen)) is wanted
    if isinstance(test, Compare):
        of_number = number_test(test)
        return lambda seen: (number := value(seen)) is not None and of_number(number)
    of_text = text_test(test)
    if leaf.field.kind in {"words", "part"}:
        return lambda seen: any(map(of_text, value(seen)))
    return lambda seen: of_text(value(seen))


def _own(name: str) -> Callable[[_Seen], Any]:
    return lambda seen: getattr(seen.record, name)


def _found(column: str) -> Callable[[_Seen], str]:
    keys = SPAN_TEXTS[column]
    return lambda seen: seen.first(keys)


def _texts(seen: _Seen) -> tuple[str, ...]:
    span: SpanRecord = seen.record
    texts = (seen.first(SPAN_TEXTS["input"]), seen.first(SPAN_TEXTS["output"]))
    return (span.name, span.status_message, *texts)


_INPUT, _OUTPUT = SPAN_COUNTS["input_tokens"], SPAN_COUNTS["output_tokens"]
_BOTH: dict[str, Callable[[_Seen], Any]] = {
    **{name: _own(name) for name in ("service", "deployment", "build", "pod", "container")},
    "revision": lambda seen: revision_of(seen.record.deployment, seen.record.pod),
    "trace": _own("trace_id"),
}
_LINES: dict[str, Callable[[_Seen], Any]] = {
    **_BOTH,
    **{name: lambda seen: (seen.record.message,) for name in (WORDS, "message", "text")},
    "level": _own("level"),
    "stream": _own("stream"),
    "span": _own("span_id"),
}
_SPANS: dict[str, Callable[[_Seen], Any]] = {
    **_BOTH,
    WORDS: _texts,
    "text": _texts,
    "message": lambda seen: (seen.record.status_message,),
    "input": lambda seen: (seen.first(SPAN_TEXTS["input"]),),
    "output": lambda seen: (seen.first(SPAN_TEXTS["output"]),),
    "name": _own("name"),
    "kind": lambda seen: seen.record.span_kind or "internal",
    "status": lambda seen: seen.record.status or "unset",
    "error": lambda seen: seen.record.status == "error",
    "open": lambda seen: not seen.record.end_time,
    "root": lambda seen: not seen.record.parent_span_id,
    "duration": _Seen.duration,
    "tokens": lambda seen: seen.count(_INPUT) + seen.count(_OUTPUT),
    "input_tokens": lambda seen: seen.count(_INPUT),
    "output_tokens": lambda seen: seen.count(_OUTPUT),
    "cost": _Seen.cost,
    **{name: _found(name) for name in ("operation", "provider", "model", "agent", "tool")},
    "session": _found("conversation"),
    "span": _own("id"),
    "parent": _own("parent_span_id"),
}
