"""Where in a trace this context is: the innermost open span, by context variables."""

import os
from contextvars import ContextVar

from spanyard._encode import Event, as_text
from spanyard._guard import guarded


class Place:
    """Where new spans, logs, metrics and scores belong."""

    __slots__ = ("above", "ended", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, above: "Place | None" = None) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.above = above.nearest_open() if above else None
        """What was open around it in its own context."""
        self.ended = False

    def nearest_open(self) -> "Place | None":
        """This, or what is around it and has not ended."""
        place: Place | None = self
        while place is not None and place.ended:
            place = place.above
        return place


_place: ContextVar[Place | None] = ContextVar("spanyard_place", default=None)


def place() -> Place | None:
    """The innermost span of this context, if any."""
    return _place.get()


def stand(here: Place | None) -> None:
    """From now on this is the innermost one of this context."""
    _place.set(here)


def mark(event: Event) -> None:
    """Tie an event to the span that is open here."""
    here = _place.get()
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
    here = _place.get()
    return f"00-{here.trace_id}-{here.span_id}-01" if here and here.span_id else ""
