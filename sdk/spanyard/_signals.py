"""Logs, metrics and scores: one event per call, tied to the span that is open."""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import partialmethod
from typing import Any, Literal

from spanyard import _sink
from spanyard._encode import Event, attributes_of, number
from spanyard._spans import mark
from spanyard_core.clock import rfc3339

MILLISECOND_BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
"""OpenTelemetry's default buckets."""
SECOND_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""OpenTelemetry's advice for durations in seconds."""

Attributes = Mapping[str, Any] | None


class Log:
    """`spanyard.log`: `log.info("stored", {"order.id": 7}, took=0.2)`."""

    __slots__ = ()

    def _log(self, level: str, message: str, attributes: Attributes = None, /, **more: Any) -> None:
        sink = _sink.sink()
        if sink is None:
            return
        event: Event = {
            "type": "log",
            "timestamp": rfc3339(time.time_ns()),
            "level": level,
            "message": str(message),
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


class _Instrument:
    __slots__ = ("_shared", "name")
    kind: Literal["counter", "updowncounter", "gauge", "histogram"]

    def __init__(self, name: str, unit: str, description: str) -> None:
        self.name = name
        self._shared: Event = {"type": "metric", "name": name, "kind": self.kind}
        if unit:
            self._shared["unit"] = unit
        if description:
            self._shared["description"] = description

    def _emit(self, value: float, attributes: Attributes, **more: Any) -> None:
        sink = _sink.sink()
        if sink is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            sink.refuse(f"metric {self.name!r}: a {type(value).__name__} is not a number")
            return
        event = {
            **self._shared,
            "value": number(float(value)),
            "timestamp": rfc3339(time.time_ns()),
            **more,
        }
        if attributes:
            event["attributes"] = attributes_of(attributes, {})
        mark(event)
        sink.emit("metrics", event)


class Counter(_Instrument):
    """A sum that only grows. Each `add` is one line with what was added."""

    __slots__ = ()
    kind = "counter"

    def add(self, amount: float, attributes: Attributes = None) -> None:
        """Count `amount` ≥ 0."""
        if isinstance(amount, (int, float)) and amount < 0:
            sink = _sink.sink()
            if sink is not None:
                sink.refuse(f"counter {self.name!r}: cannot add a negative amount")
            return
        self._emit(amount, attributes, temporality="delta")


class UpDownCounter(_Instrument):
    """A sum that grows and shrinks. Each `add` is one line with the change."""

    __slots__ = ()
    kind = "updowncounter"

    def add(self, amount: float, attributes: Attributes = None) -> None:
        """Change the sum by `amount`."""
        self._emit(amount, attributes, temporality="delta")


class Gauge(_Instrument):
    """A value as it is now."""

    __slots__ = ()
    kind = "gauge"

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
        self._bounds = [float(b) for b in (default if bounds is None else bounds)]
        if self._bounds != sorted(set(self._bounds)):
            raise ValueError(f"histogram {name!r}: bounds must grow")

    def record(self, value: float, attributes: Attributes = None) -> None:
        """One measured value."""
        counts = [0] * (len(self._bounds) + 1)
        if isinstance(value, (int, float)):
            counts[bisect_left(self._bounds, value)] = 1
            low = number(float(value))
            shape = {"count": 1, "min": low, "max": low, "bounds": self._bounds}
            self._emit(value, attributes, temporality="delta", bucketCounts=counts, **shape)
        else:
            self._emit(value, attributes)


class Metrics:
    """`spanyard.metrics`: makes instruments; keep them, or ask again by the same name."""

    __slots__ = ()

    def counter(self, name: str, *, unit: str = "", description: str = "") -> Counter:
        """For what only grows: requests, tokens, errors."""
        return Counter(_name(name), unit, description)

    def updown_counter(self, name: str, *, unit: str = "", description: str = "") -> UpDownCounter:
        """For what grows and shrinks: open connections."""
        return UpDownCounter(_name(name), unit, description)

    def gauge(self, name: str, *, unit: str = "", description: str = "") -> Gauge:
        """For what is measured as it is: a temperature, a queue's length."""
        return Gauge(_name(name), unit, description)

    def histogram(
        self,
        name: str,
        *,
        unit: str = "",
        description: str = "",
        bounds: Sequence[float] | None = None,
    ) -> Histogram:
        """For distributions: latencies, sizes. With unit `s` the buckets suit seconds."""
        return Histogram(_name(name), unit, description, bounds)


def _name(name: str) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 255:
        raise ValueError(f"{str(name)[:80]!r} is not the name of a metric: 1 to 255 characters")
    return name


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
    sink = _sink.sink()
    if sink is None:
        return
    if not isinstance(value, (int, float)):
        sink.refuse(f"score {str(name)[:80]!r}: a {type(value).__name__} is not a number")
        return
    event: Event = {
        "type": "score",
        "name": str(name),
        "value": number(float(value)),
        "timestamp": rfc3339(time.time_ns()),
    }
    if trace_id or span_id:
        event["traceId"], event["spanId"] = str(trace_id), str(span_id)
    else:
        mark(event)
    if comment:
        event["comment"] = str(comment)
    if attributes:
        event["attributes"] = attributes_of(attributes, {})
    sink.emit("scores", event)
