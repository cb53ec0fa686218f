"""The join with OpenTelemetry's contexts, where the application itself has imported it.

While a span of ours is open, a span that records nothing stands for it in OpenTelemetry's context:
OpenTelemetry's spans become its children, and whichever of both worlds opened a span last is what
OpenTelemetry calls current. OpenTelemetry is never imported from here.
"""

import sys
from typing import TYPE_CHECKING, Any

from spanyard import _process

if TYPE_CHECKING:
    from spanyard._places import Place

# Its classes are not there to be named: it is no dependency.
Otel = Any

_OWNER = "_spanyard_place"


def _api() -> Otel:
    """The module `opentelemetry.trace`; None while nobody has imported it, or not all of it."""
    api = sys.modules.get("opentelemetry.trace")
    # `__all__` is the last thing that it defines: another thread may be in the midst of importing.
    return api if api is not None and hasattr(api, "__all__") else None


def current() -> Otel:
    """OpenTelemetry's current span; None without one, or when its ids are not valid."""
    api = _api()
    if api is None:
        return None
    try:
        span = api.get_current_span()
        return span if span.get_span_context().is_valid else None
    except Exception as error:
        _failed("current span", error)
        return None


def ids_of(span: Otel) -> tuple[str, str, Otel] | None:
    """Trace id and span id in hex, and the span context itself; None when they are not valid."""
    try:
        context = span.get_span_context()
        return f"{context.trace_id:032x}", f"{context.span_id:016x}", context
    except Exception as error:
        _failed("ids of a span", error)
        return None


def same(span: Otel, other: Otel) -> bool:
    """Whether both are one, or one a copy: older APIs, without SDK, copy their parent."""
    if span is other or other is None:
        return span is other
    try:
        return bool(span.get_span_context() == other.get_span_context())
    except Exception as error:
        _failed("ids of a span", error)
        return False


def owner(span: Otel) -> "Place | None":
    """The place of ours that this span stands for; None for OpenTelemetry's own."""
    found: Place | None = getattr(span, "__dict__", {}).get(_OWNER)
    return found


def enter(place: "Place") -> None:
    """Let a span stand for this place, from now on, in this context."""
    api = _api()
    if api is None:
        return
    try:
        # Should the rest fail, then this one is still known to be around ours, not inside.
        place.otel = outside = api.get_current_span()
        origin = place.origin
        stand_in = api.NonRecordingSpan(
            api.SpanContext(
                int(place.trace_id, 16),
                # A trace has no span id, and OpenTelemetry takes over no trace id without one.
                int(place.span_id or place.trace_id[-16:], 16),
                is_remote=False,
                trace_flags=api.TraceFlags(
                    origin.trace_flags if origin else api.TraceFlags.SAMPLED
                ),
                trace_state=origin.trace_state if origin else None,
            )
        )
        setattr(stand_in, _OWNER, place)
        _attach(api, stand_in)
        place.otel, place.outside = stand_in, outside
    except Exception as error:
        _failed("context", error)


def leave(place: "Place") -> None:
    """Give OpenTelemetry's context back, in whatever context this is, once the place has ended.

    Not by `detach`, which logs an error in another context than that of `attach` (a generator that
    is closed elsewhere). Where something else is current by now, it stays so.
    """
    place.otel = None  # no cycle: freed at once, not by the collector
    # Nearest of those around it, so that a chain of tasks that start each other stays short.
    place.outside = _nearest_open(place.outside)
    api = _api()
    if api is None:
        return
    try:
        now = api.get_current_span()
        around = _nearest_open(now)
        if around is not now:
            _attach(api, around)
    except Exception as error:
        _failed("context", error)


def _attach(api: Otel, span: Otel) -> None:
    # Into the context as it is now: what else it carries (baggage) is the application's.
    sys.modules["opentelemetry.context"].attach(api.set_span_in_context(span))


def _nearest_open(span: Otel) -> Otel:
    """This, or what was around it where it stands for one that has ended."""
    while (place := owner(span)) is not None and place.ended:
        span = place.outside
    return span


def _failed(what: str, error: Exception) -> None:
    _process.refuse(f"OpenTelemetry's {what}: {type(error).__name__}")
