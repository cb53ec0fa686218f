"""Form: how the two encodings of OTLP hold what the mapping to lines asks for.

The mapping (spans, logs, metrics) is written once, on messages with the field names of the
Protobuf schema. Protobuf gives such messages itself; for JSON, `messages.py` declares structs
with the same names. What differs (ids, any-values, presence) is behind `Form`.
"""

import base64
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, Literal, Protocol

import msgspec

from spanyard_core.clock import rfc3339
from spanyard_core.records import Number

OtlpSignal = Literal["traces", "logs", "metrics"]
"""The last part of the request's path."""

MAX_DEPTH = 16
"""Any-values nested deeper become their JSON text at this level: nothing is lost, and no reader
of the line meets a nesting that it cannot parse."""

MAX_TIME_NS = 9_214_646_400_000_000_000 - 1
"""The end of 2261, the last whole year that ClickHouse's DateTime64(9) can hold."""


class UnreadableRequestError(Exception):
    """The whole request is not what it says it is; the text says why. Sending again won't help."""


class RefusedRecordError(Exception):
    """One record cannot be taken; the text says why. The others of the request can."""


Group = tuple[Any, list[tuple[Any, Sequence[Any]]]]
"""Resource, and its scopes, each with its records as `Form.record` takes them."""


class Form(Protocol):
    """One request in one encoding."""

    repaired: bool
    """The record at hand (or its whole request) had invalid UTF-8, now U+FFFD."""
    repairs: int
    """Times that something was repaired in this request."""

    @property
    def groups(self) -> "list[Group]":
        """The request's records by resource and scope."""
        ...

    def record(self, element: Any, kind: str) -> Any:
        """An element of a repeated record field → message. Raises RefusedRecordError."""
        ...

    def attributes(self, pairs: Iterable[Any]) -> dict[str, Any]:
        """Key-values → JSON-able dict."""
        ...

    def value(self, value: Any) -> Any:
        """Any-value → JSON-able value."""
        ...

    def trace_id(self, field: Any) -> str:
        """32 lower-case hex digits, or empty when it is no valid trace id."""
        ...

    def span_id(self, field: Any) -> str:
        """16 lower-case hex digits, or empty when it is no valid span id."""
        ...

    def optional(self, message: Any, name: str) -> Any:
        """An optional scalar field's value, None when it is not there."""
        ...

    def which(self, message: Any, names: tuple[str, ...]) -> str | None:
        """Which field of a oneof is there."""
        ...


def number(value: float) -> Number:
    """The value as JSON can say it."""
    if isfinite(value):
        return value
    if value != value:  # noqa: PLR0124 - that is what NaN is
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def text_of(value: Any) -> str:
    """Anything JSON-able as a message: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def base64_text(value: bytes) -> str:
    """Bytes as OTLP's JSON says them."""
    return base64.b64encode(value).decode()


class Times:
    """Nanoseconds → RFC 3339, five times as fast as from scratch: seconds repeat in a request."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def __call__(self, ns: int) -> str:
        """RFC 3339 with nine digits. Raises RefusedRecordError beyond the year 2261."""
        if ns > MAX_TIME_NS:
            raise RefusedRecordError("a time is beyond the year 2261 (is it in nanoseconds?)")
        seconds, fraction = divmod(ns, 1_000_000_000)
        prefix = self._seconds.get(seconds)
        if prefix is None:
            if len(self._seconds) >= 10_000:
                self._seconds.clear()
            prefix = self._seconds[seconds] = rfc3339(seconds * 1_000_000_000)[:20]
        return f"{prefix}{fraction:09d}Z"
