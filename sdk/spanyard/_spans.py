"""Spans and traces: what is going on, nested by context variables."""

import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from spanyard import _otel, _process
from spanyard._encode import Event, as_text, attributes_of, clean
from spanyard._guard import guarded, itself, nothing
from spanyard._places import (
    Foreign,
    Place,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    place,
    stand,
    standing,
)
from spanyard._sink import Sink
from spanyard_core.clock import rfc3339

Kind = Literal["internal", "server", "client", "producer", "consumer"]
KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("ok", "error", "unset")
MAX_ITEMS = 1000
"""Events, and links, that one span keeps; more are counted in `spanyard.dropped_events`."""


class _Timed:
    """What spans and traces share: they begin, hold their place in the context, and end once."""

    __slots__ = ("_began", "_generation", "_here", "_origin", "_sink", "_state", "name", "start_ns")

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._state: Literal["new", "open", "ended"] = "new"
        self._here: Place | None = None
        self._origin: _otel.Otel = None
        self._generation = _process.generation
        self._began = 0.0
        self.name = name if isinstance(name, str) else as_text(name)
        self.start_ns = 0

    def _enter(self, trace_id: str, span_id: str) -> None:
        self.start_ns = time.time_ns()
        self._began = time.monotonic()
        self._state = "open"
        self._here = Place(trace_id, span_id, standing(), self._origin)
        stand(self._here)
        _otel.enter(self._here)

    def _leave(self) -> bool:
        """Give the place back; whether the end is ours to tell."""
        here, self._here = self._here, None
        if here is not None:
            here.ended = True
            # Nearest of those around it, so that a chain of tasks that start each other stays short.
            here.above = here.above.nearest_open() if here.above else None
            # Where it ends in another context than it began in, or out of order (generators),
            # something else is open here, and stays so.
            if standing() is here:
                stand(here.above)
            _otel.leave(here)
        if self._state != "open":
            self._sink.refuse(f"span {self.name[:80]!r} was ended twice, or never begun")
            return False
        self._state = "ended"
        # A fork in the middle: parent and child both come here, the span is the parent's.
        return self._generation == _process.generation

    def _end_time(self) -> str:
        # By the monotonic clock: a clock set back must not make a span end before it began.
        return rfc3339(self.start_ns + int((time.monotonic() - self._began) * 1e9))


def exception_attributes(error: BaseException) -> dict[str, str]:
    """OpenTelemetry's attributes of an exception, also of one that cannot be shown."""
    try:
        text = str(error)
        stack = "".join(traceback.format_exception(error))[-16_384:]
    except Exception as broken:
        text, stack = f"<{type(broken).__name__} in its text>", ""
    return {
        "exception.type": type(error).__qualname__,
        "exception.message": text,
        "exception.stacktrace": stack,
    }


class Span(_Timed):
    """One span, for a `with` block. Attributes may be set until it ends."""

    __slots__ = (
        *("_attributes", "_dropped", "_events", "_links", "_status", "_status_message"),
        *("id", "kind", "parent_id", "trace_id"),
    )

    def __init__(
        self, sink: Sink, name: str, kind: Kind, attributes: Event, parent: Place | None
    ) -> None:
        super().__init__(sink, name)
        here = parent or place()
        self.id = new_span_id()
        self.trace_id = here.trace_id if here else new_trace_id()
        self.parent_id = here.span_id if here else ""
        self._origin = here.origin if here else None
        self.kind: Kind = kind
        self._attributes = attributes
        self._events: list[Event] = []
        self._links: list[Event] = []
        self._dropped = 0
        self._status = "unset"
        self._status_message = ""

    @property
    def recording(self) -> bool:
        """Whether what is set here arrives anywhere."""
        return self._state == "open"

    @property
    def traceparent(self) -> str:
        """The W3C header that carries this span to another service."""
        return self.as_parent().traceparent

    def as_parent(self) -> Place:
        """Where its children belong."""
        return Place(self.trace_id, self.id, origin=self._origin)

    @guarded(itself)
    def set(self, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Set attributes; names with dots in the mapping, others as keywords."""
        if self._may_change("set"):
            self._attributes.update(attributes_of(attributes, more))
        return self

    @guarded(itself)
    def event(self, name: str, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Something happened now, inside this span."""
        if self._may_change("event"):
            if len(self._events) >= MAX_ITEMS:
                self._dropped += 1
            else:
                event: Event = {"name": as_text(name), "timestamp": rfc3339(time.time_ns())}
                if attributes or more:
                    event["attributes"] = attributes_of(attributes, more)
                self._events.append(event)
        return self

    @guarded(itself)
    def link(self, trace_id: str, span_id: str, /, **attributes: Any) -> Self:
        """Refer to another span, of this trace or another."""
        if self._may_change("link"):
            if len(self._links) >= MAX_ITEMS:
                self._dropped += 1
            else:
                link: Event = {"traceId": as_text(trace_id), "spanId": as_text(span_id)}
                if attributes:
                    link["attributes"] = attributes_of(None, attributes)
                self._links.append(link)
        return self

    @guarded(itself)
    def status(self, status: Literal["ok", "error", "unset"], message: str = "") -> Self:
        """Say how it went. Without this, the end of the block says: ok, or error by exception."""
        if status not in _STATUSES:
            self._sink.refuse(f"status {as_text(status)[:40]!r} is not ok, error or unset")
        elif self._may_change("status"):
            self._status, self._status_message = status, as_text(message)
        return self

    @guarded(itself)
    def update(self) -> Self:
        """Write what is known so far, so that a long span can be watched."""
        if self._may_change("update"):
            self._sink.emit("spans", self._line(None))
        return self

    def _may_change(self, what: str) -> bool:
        if self._state == "ended":
            self._sink.refuse(f"span {self.name[:80]!r}: {what} after its end")
            return False
        return True

    @guarded(itself)
    def __enter__(self) -> Self:
        if self._state != "new":
            self._sink.refuse(f"span {self.name[:80]!r} was begun twice; make a new one")
            return self
        self._enter(self.trace_id, self.id)
        if self._sink.settings.starts:
            self._sink.emit("spans", self._line(None))
        return self

    @guarded(nothing)
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, (GeneratorExit, StopIteration)):
            self._failed(error)
        elif self._status == "unset" and error is None and not self._status_message:
            self._status = "ok"
        if self._leave():
            if self._dropped:
                self._attributes["spanyard.dropped_events"] = self._dropped
            self._sink.emit("spans", self._line(self._end_time()))

    def _failed(self, error: BaseException) -> None:
        about = exception_attributes(error)
        if self._status == "unset":
            self._status = "error"
            self._status_message = about["exception.message"] or about["exception.type"]
        self.event("exception", about)

    def _line(self, end_time: str | None) -> Event:
        line: Event = {
            "type": "span",
            "id": self.id,
            "traceId": self.trace_id,
            "name": self.name,
            "startTime": rfc3339(self.start_ns),
            "endTime": end_time,
            "spanKind": self.kind,
        }
        if self.parent_id:
            line["parentSpanId"] = self.parent_id
        if self._status != "unset":
            line["status"] = self._status
        if self._status_message:
            line["statusMessage"] = self._status_message
        if self._attributes:
            line["attributes"] = self._attributes
        if self._events:
            line["events"] = self._events
        if self._links:
            line["links"] = self._links
        return line


class Trace(_Timed):
    """A whole trace with input and output, for a `with` block; spans inside belong to it."""

    __slots__ = ("_input", "_metadata", "_output", "_parent_id", "_status", "id")

    def __init__(self, sink: Sink, name: str, given: Any, metadata: Event) -> None:
        super().__init__(sink, name)
        # A new trace, unless OpenTelemetry has begun it: then this reports that one.
        here = place()
        joins = here if isinstance(here, Foreign) else None
        self.id = joins.trace_id if joins else new_trace_id()
        self._parent_id = joins.span_id if joins else ""
        self._origin = joins.origin if joins else None
        self._input = clean(given)
        self._output: Any = None
        self._metadata = metadata
        self._status = "unset"

    def as_parent(self) -> Place:
        """Where its children belong."""
        return Place(self.id, self._parent_id, origin=self._origin)

    @guarded(itself)
    def output(self, value: Any) -> Self:
        """What came out, any JSON."""
        self._output = clean(value)
        return self

    @guarded(itself)
    def set(self, metadata: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Add to the metadata."""
        self._metadata.update(attributes_of(metadata, more))
        return self

    @guarded(itself)
    def status(self, status: Literal["ok", "error", "unset"]) -> Self:
        """Say how it went. Without this, the end of the block says: ok, or error by exception."""
        if status in _STATUSES:
            self._status = status
        else:
            self._sink.refuse(f"status {as_text(status)[:40]!r} is not ok, error or unset")
        return self

    @guarded(itself)
    def __enter__(self) -> Self:
        if self._state != "new":
            self._sink.refuse(f"trace {self.name[:80]!r} was begun twice; make a new one")
            return self
        self._enter(self.id, self._parent_id)
        if self._sink.settings.starts:
            self._sink.emit("traces", self._line(None))
        return self

    @guarded(nothing)
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status == "unset":
            self._status = "ok" if error is None else "error"
        if self._leave():
            self._sink.emit("traces", self._line(self._end_time()))

    def _line(self, end_time: str | None) -> Event:
        line: Event = {
            "type": "trace",
            "id": self.id,
            "name": self.name,
            "startTime": rfc3339(self.start_ns),
            "endTime": end_time,
            "status": self._status,
        }
        if self._input is not None:
            line["input"] = self._input
        if self._output is not None:
            line["output"] = self._output
        if self._metadata:
            line["metadata"] = self._metadata
        return line


class NoSpan:
    """Stands for a span or trace where nothing is recorded; every method does nothing."""

    __slots__ = ()
    id = trace_id = parent_id = name = traceparent = ""
    recording = False

    def _nothing(self, *args: Any, **more: Any) -> Self:
        return self

    set = event = link = status = update = output = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return


NO_SPAN = NoSpan()


def _no_span(*args: Any, **more: Any) -> Span | NoSpan:
    return NO_SPAN


def _no_trace(*args: Any, **more: Any) -> Trace | NoSpan:
    return NO_SPAN


@guarded(_no_span)
def span(
    name: str,
    *,
    kind: Kind = "internal",
    attributes: Mapping[str, Any] | None = None,
    parent: "Span | Trace | NoSpan | None" = None,
    traceparent: str = "",
) -> Span | NoSpan:
    """A span for a `with` block: child of the innermost open one, else the root of a new trace.

    `parent` names another parent (work handed to another thread); `traceparent` is the W3C header
    of a request that came in, ignored when it is not well-formed.
    """
    sink = _process.sink()
    if sink is None:
        return NO_SPAN
    if kind not in KINDS:
        sink.refuse(f"span kind {as_text(kind)[:40]!r} is not one of {', '.join(KINDS)}")
        kind = "internal"
    above = None
    if isinstance(parent, (Span, Trace)):
        above = parent.as_parent()
    elif parent is not None and not isinstance(parent, NoSpan):
        sink.refuse(f"a {type(parent).__name__} cannot be the parent of a span")
    if traceparent:
        above = parse_traceparent(traceparent) or above
    return Span(sink, name, kind, attributes_of(attributes, {}), above)


@guarded(_no_trace)
def trace(
    name: str,
    *,
    input: Any = None,  # noqa: A002 - T1's name
    metadata: Mapping[str, Any] | None = None,
) -> Trace | NoSpan:
    """A new trace for a `with` block, reported as a whole: input, output, metadata, duration."""
    sink = _process.sink()
    if sink is None:
        return NO_SPAN
    return Trace(sink, name, input, attributes_of(metadata, {}))
