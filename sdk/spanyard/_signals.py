"""Logs, metrics and scores: one event per call, tied to the span that is open."""

import math
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import partialmethod
from typing import Any, Literal

from spanyard import _process
from spanyard._encode import Event, as_float, as_text, attributes_of, number
from spanyard._guard import guarded, nothing
from spanyard._places import mark
from spanyard._spans import exception_attributes
from spanyard_core.clock import rfc3339

MILLISECOND_BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
"""OpenTelemetry's default buckets."""
SECOND_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""OpenTelemetry's advice for durations in seconds."""

Attributes = Mapping[str, Any] | None
_DELTA = {"temporality": "delta"}


class Log:
    """`spanyard.log`: `log.info("stored", {"order.id": 7}, took=0.2)`.

    Also as with `logging`: `log.info("stored %s", order)`.
    """

    __slots__ = ()

    @guarded(nothing)
    def _log(self, level: str, message: object, /, *given: Any, **more: Any) -> None:
        sink = _process.sink()
        if sink is None:
            return
        text = message if isinstance(message, str) else as_text(message)
        attributes: Attributes = None
        if len(given) == 1 and (given[0] is None or isinstance(given[0], Mapping)):
            attributes = given[0]
        elif given:
            try:
                text %= given
            except Exception:
                sink.refuse(f"log message {text[:80]!r} does not fit its {len(given)} arguments")
                more = {"spanyard.arguments": list(given), **more}
        event: Event = {
            "type": "log",
            "timestamp": rfc3339(time.time_ns()),
            "level": level,
            "message": text,
        }
        if attributes or more:
            event["attributes"] = attributes_of(attributes, more)
        mark(event)
        sink.emit("logs", event)

    debug = partialmethod(_log, "debug")
    info = partialmethod(_log, "info")
    warn = partialmethod(_log, "warn")
    warning = warn
    error = partialmethod(_log, "error")
    fatal = partialmethod(_log, "fatal")
    critical = fatal

    def exception(self, message: object, /, *given: Any, **more: Any) -> None:
        """An error with the exception that is being handled."""
        error = sys.exc_info()[1]
        if error is not None:
            more = {**exception_attributes(error), **more}
        self.error(message, *given, **more)


class _Instrument:
    __slots__ = ("_mute", "_shared", "name")
    kind: Literal["counter", "updowncounter", "gauge", "histogram"]

    def __init__(self, name: str, unit: str, description: str) -> None:
        self.name = as_text(name)
        # Misuse is counted where it is used, which is also when it is known that it matters.
        self._mute = ""
        if not isinstance(name, str) or not name.strip() or len(name) > 255:
            self._mute = f"{self.name[:80]!r} is not the name of a metric: 1 to 255 characters"
        self._shared: Event = {"type": "metric", "name": self.name, "kind": self.kind}
        for field, text in (("unit", as_text(unit)), ("description", as_text(description))):
            if text:
                self._shared[field] = text

    def _emit(
        self,
        given: object,
        attributes: Attributes,
        more: Mapping[str, Any] | None = None,
        *,
        least: float | None = None,
    ) -> None:
        sink = _process.sink()
        if sink is None:
            return
        value = as_float(given)
        if self._mute:
            sink.refuse(self._mute)
        elif value is None:
            sink.refuse(f"metric {self.name!r}: {_shown(given)} is not a number")
        elif least is not None and value < least:
            sink.refuse(f"{self.kind} {self.name!r}: cannot add a negative amount")
        else:
            event = {
                **self._shared,
                "value": number(value),
                "timestamp": rfc3339(time.time_ns()),
                **(more or {}),
            }
            if attributes:
                event["attributes"] = attributes_of(attributes, {})
            mark(event)
            sink.emit("metrics", event)

    def _refuse(self, what: str) -> None:
        sink = _process.sink()
        if sink is not None:
            sink.refuse(self._mute or what)


class Counter(_Instrument):
    """A sum that only grows. Each `add` is one line with what was added."""

    __slots__ = ()
    kind = "counter"

    @guarded(nothing)
    def add(self, amount: float, attributes: Attributes = None) -> None:
        """Count `amount` ≥ 0."""
        self._emit(amount, attributes, _DELTA, least=0)


class UpDownCounter(_Instrument):
    """A sum that grows and shrinks. Each `add` is one line with the change."""

    __slots__ = ()
    kind = "updowncounter"

    @guarded(nothing)
    def add(self, amount: float, attributes: Attributes = None) -> None:
        """Change the sum by `amount`."""
        self._emit(amount, attributes, _DELTA)


class Gauge(_Instrument):
    """A value as it is now."""

    __slots__ = ()
    kind = "gauge"

    @guarded(nothing)
    def set(self, value: float, attributes: Attributes = None) -> None:
        """The value is now `value`."""
        self._emit(value, attributes)


class Histogram(_Instrument):
    """A distribution. Each `record` is one line with one value in its bucket."""

    __slots__ = ("_bounds",)
    kind = "histogram"

    def __init__(
        self, name: str, unit: str, description: str, bounds: Sequence[float] | None
    ) -> None:
        super().__init__(name, unit, description)
        default = SECOND_BOUNDS if unit == "s" else MILLISECOND_BOUNDS
        growing = _growing(default if bounds is None else bounds)
        self._bounds = growing or []
        if growing is None and not self._mute:
            self._mute = f"histogram {self.name[:80]!r}: its bounds are not numbers that grow"

    @guarded(nothing)
    def record(self, value: float, attributes: Attributes = None) -> None:
        """One measured value."""
        measured = as_float(value)
        if measured is None:
            self._emit(value, attributes)
            return
        if math.isnan(measured):
            self._refuse(f"histogram {self.name!r}: NaN is in no bucket")
            return
        counts = [0] * (len(self._bounds) + 1)
        counts[bisect_left(self._bounds, measured)] = 1
        low = number(measured)
        shape = {"count": 1, "min": low, "max": low, "bounds": self._bounds}
        self._emit(measured, attributes, {**_DELTA, "bucketCounts": counts, **shape})


def _growing(bounds: Sequence[float]) -> list[float] | None:
    """The bounds as floats; None when they do not grow."""
    try:
        given = [float(bound) for bound in bounds]
    except Exception:
        return None
    return given if given == sorted(set(given)) else None


def _shown(value: object) -> str:
    return f"a {type(value).__name__}" if not isinstance(value, (int, float)) else "a huge number"


class Metrics:
    """`spanyard.metrics`: makes instruments; keep them, or ask again by the same name."""

    __slots__ = ()

    @guarded(lambda *_, **__: Counter("", "", ""))
    def counter(self, name: str, *, unit: str = "", description: str = "") -> Counter:
        """For what only grows: requests, tokens, errors."""
        return Counter(name, unit, description)

    @guarded(lambda *_, **__: UpDownCounter("", "", ""))
    def updown_counter(self, name: str, *, unit: str = "", description: str = "") -> UpDownCounter:
        """For what grows and shrinks: open connections."""
        return UpDownCounter(name, unit, description)

    @guarded(lambda *_, **__: Gauge("", "", ""))
    def gauge(self, name: str, *, unit: str = "", description: str = "") -> Gauge:
        """For what is measured as it is: a temperature, a queue's length."""
        return Gauge(name, unit, description)

    @guarded(lambda *_, **__: Histogram("", "", "", None))
    def histogram(
        self,
        name: str,
        *,
        unit: str = "",
        description: str = "",
        bounds: Sequence[float] | None = None,
    ) -> Histogram:
        """For distributions: latencies, sizes. With unit `s` the buckets suit seconds."""
        return Histogram(name, unit, description, bounds)


@guarded(nothing)
def score(
    name: str,
    value: float,
    *,
    trace_id: str = "",
    span_id: str = "",
    comment: str = "",
    attributes: Attributes = None,
) -> None:
    """Judge a trace or a span; without ids, the span that is open here."""
    sink = _process.sink()
    if sink is None:
        return
    judged = as_float(int(value) if isinstance(value, bool) else value)
    if judged is None:
        sink.refuse(f"score {as_text(name)[:80]!r}: {_shown(value)} is not a number")
        return
    event: Event = {
        "type": "score",
        "name": as_text(name),
        "value": number(judged),
        "timestamp": rfc3339(time.time_ns()),
    }
    if trace_id or span_id:
        event["traceId"], event["spanId"] = as_text(trace_id), as_text(span_id)
    else:
        mark(event)
    if comment:
        event["comment"] = as_text(comment)
    if attributes:
        event["attributes"] = attributes_of(attributes, {})
    sink.emit("scores", event)
