"""Where in a trace this context is: the innermost open span, ours or OpenTelemetry's."""

import os
from contextvars import ContextVar

from spanyard import _otel
from spanyard._encode import Event, as_text
from spanyard._guard import guarded


class Place:
    """Where new spans, logs, metrics and scores belong."""

    __slots__ = ("above", "ended", "origin", "otel", "outside", "span_id", "trace_id")

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        above: "Place | None" = None,
        origin: _otel.Otel = None,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.above = above.nearest_open() if above else None
        """What was open around it in its own context."""
        self.ended = False
        self.origin = origin
        """The context of OpenTelemetry's span that is next above it in its trace, if any."""
        self.otel: _otel.Otel = None
        """OpenTelemetry's current span for as long as nothing is opened inside this place."""
        self.outside: _otel.Otel = None
        """What was OpenTelemetry's current span around it."""

    @property
    def traceparent(self) -> str:
        """The W3C header for a request that goes out from here; empty without a span."""
        flags = 1 if self.origin is None else self.origin.trace_flags & 1
        return f"00-{self.trace_id}-{self.span_id}-{flags:02x}" if self.span_id else ""

    def nearest_open(self) -> "Place | None":
        """This, or what is around it and has not ended."""
        place: Place | None = self
        while place is not None and place.ended:
            place = place.above
        return place


class Foreign(Place):
    """A span of OpenTelemetry's."""

    __slots__ = ()


_place: ContextVar[Place | None] = ContextVar("spanyard_place", default=None)


def place() -> Place | None:
    """The innermost span of this context, ours or OpenTelemetry's, if any."""
    here = _place.get()
    span = _otel.current()
    if span is None or (here is not None and _otel.same(span, here.otel)):
        return here
    # Whatever else OpenTelemetry calls current was opened, or handed over, after ours.
    ours = _otel.owner(span)
    if ours is not None:
        return here if ours.ended and here is not None else ours
    ids = _otel.ids_of(span)
    return Foreign(ids[0], ids[1], origin=ids[2]) if ids else here


def standing() -> Place | None:
    """The innermost span of ours alone."""
    return _place.get()


def stand(here: Place | None) -> None:
    """From now on this is the innermost one of this context."""
    _place.set(here)


def mark(event: Event) -> None:
    """Tie an event to the span that is open here."""
    here = place()
    if here is not None:
        event["traceId"] = here.trace_id
        if here.span_id:
            event["spanId"] = here.span_id


def new_trace_id() -> str:
    """32 hex digits."""
    return os.urandom(16).hex()


def new_span_id() -> str:
    """16 hex digits."""
    return os.urandom(8).hex()


def parse_traceparent(header: str) -> Place | None:
    """The place that a W3C `traceparent` header names; None when it is not well-formed."""
    parts = as_text(header).strip().split("-")
    if len(parts) < 4 or [len(p) for p in parts[:3]] != [2, 32, 16] or parts[0] == "ff":
        return None
    trace_id, span_id = parts[1], parts[2]
    digits = set("0123456789abcdef")
    if not (set(trace_id) | set(span_id)) <= digits or not trace_id.strip("0"):
        return None
    return Place(trace_id, span_id) if span_id.strip("0") else None


@guarded(lambda *_, **__: "")
def traceparent() -> str:
    """The header for a request that goes out from here; empty outside of any span."""
    here = place()
    return here.traceparent if here else ""
