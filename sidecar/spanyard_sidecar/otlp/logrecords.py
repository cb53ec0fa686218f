"""Log records of OTLP → LogLine."""

from typing import Any

from spanyard_core.records import Level, LogLine
from spanyard_sidecar.otlp.context import Context
from spanyard_sidecar.otlp.form import text_of

_BY_NUMBER: tuple[Level, ...] = ("debug", "debug", "info", "warn", "error", "fatal")
"""By four: TRACE 1…4, DEBUG 5…8, INFO 9…12, WARN 13…16, ERROR 17…20, FATAL 21…24."""

_BY_TEXT: dict[str, Level] = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "information": "info",
    "notice": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "err": "error",
    "critical": "fatal",
    "fatal": "fatal",
    "panic": "fatal",
    "emergency": "fatal",
}


def level_of(number: int, text: str) -> Level:
    """The level for a severity; the text counts when the number is unspecified or unknown."""
    if 1 <= number <= 24:
        return _BY_NUMBER[(number - 1) // 4]
    return _BY_TEXT.get(text.strip().lower(), "info")


def add_log(context: Context, element: Any, lines: list[Any]) -> int:
    """Append the record's line; gives its time in nanoseconds.

    Without a time of its own it has the time when it was observed, else when it was taken here.
    Invalid trace and span ids are taken as absent, as the schema says.
    """
    form = context.form
    record = form.record(element, "log")
    time_ns = record.time_unix_nano or record.observed_time_unix_nano or context.now_ns
    attributes = context.attributes(record)
    if record.event_name:
        attributes.setdefault("event.name", record.event_name)
    if record.dropped_attributes_count:
        attributes["otel.dropped_attributes_count"] = record.dropped_attributes_count
    body = form.value(record.body)
    message = "" if body is None else text_of(body)
    lines.append(
        LogLine(
            project="",
            writer="",
            seq=0,
            timestamp=context.times(time_ns),
            level=level_of(record.severity_number, record.severity_text),
            message=message,
            trace_id=form.trace_id(record.trace_id),
            span_id=form.span_id(record.span_id),
            attributes=attributes,
            resource=context.resource,
            scope_name=context.scope_name,
            scope_version=context.scope_version,
            marks=["invalid-utf8"] if form.repaired and "\ufffd" in message else [],
        )
    )
    return time_ns
