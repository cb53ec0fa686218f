"""Spans of OTLP → SpanLine."""

from typing import Any

from spanyard_core.records import SpanEvent, SpanKind, SpanLine, SpanLink, Status
from spanyard_sidecar.otlp.context import Context
from spanyard_sidecar.otlp.form import RefusedRecordError

_KINDS: dict[int, SpanKind] = {2: "server", 3: "client", 4: "producer", 5: "consumer"}
"""SPAN_KIND_*; unspecified (0) and unknown kinds may be taken as internal, says the schema."""

_STATUSES: dict[int, Status] = {1: "ok", 2: "error"}


def add_span(context: Context, element: Any, lines: list[Any]) -> int:
    """Append the span's line; gives its start in nanoseconds.

    An end of 0 is a span that has not ended. Raises RefusedRecordError: no valid ids ("all zeroes
    or of another length is invalid", says the schema), no times, times beyond 2261.
    """
    form = context.form
    times = context.times
    span = form.record(element, "span")
    trace_id = form.trace_id(span.trace_id)
    if not trace_id:
        raise RefusedRecordError("a span without a valid trace id (16 bytes, not all zero)")
    span_id = form.span_id(span.span_id)
    if not span_id:
        raise RefusedRecordError("a span without a valid span id (8 bytes, not all zero)")
    end_ns = span.end_time_unix_nano
    start_ns = span.start_time_unix_nano or end_ns
    if not start_ns:
        raise RefusedRecordError("a span without start and end time")
    start_time = times(start_ns)
    attributes = context.attributes(span)
    for name in ("attributes", "events", "links"):
        dropped = getattr(span, f"dropped_{name}_count")
        if dropped:
            attributes[f"otel.dropped_{name}_count"] = dropped
    status = span.status
    lines.append(
        SpanLine(
            project="",
            writer="",
            seq=0,
            id=span_id,
            trace_id=trace_id,
            name=span.name,
            start_time=start_time,
            end_time=times(end_ns) if end_ns else None,
            parent_span_id=form.span_id(span.parent_span_id),
            status=_STATUSES.get(status.code, "unset"),
            status_message=status.message,
            span_kind=_KINDS.get(span.kind, "internal"),
            attributes=attributes,
            events=[_event(context, event, start_ns) for event in span.events],
            links=[_link(context, link) for link in span.links],
            trace_state=span.trace_state,
            resource=context.resource,
            scope_name=context.scope_name,
            scope_version=context.scope_version,
        )
    )
    return start_ns  # type: ignore[no-any-return]


def _event(context: Context, event: Any, start_ns: int) -> SpanEvent:
    attributes = context.form.attributes(event.attributes)
    if event.dropped_attributes_count:
        attributes["otel.dropped_attributes_count"] = event.dropped_attributes_count
    return SpanEvent(
        name=event.name,
        timestamp=context.times(event.time_unix_nano or start_ns),
        attributes=attributes,
    )


def _link(context: Context, link: Any) -> SpanLink:
    attributes = context.form.attributes(link.attributes)
    if link.dropped_attributes_count:
        attributes["otel.dropped_attributes_count"] = link.dropped_attributes_count
    return SpanLink(
        trace_id=context.form.trace_id(link.trace_id),
        span_id=context.form.span_id(link.span_id),
        trace_state=link.trace_state,
        attributes=attributes,
    )
