"""What a listener of `/ws` gets to see of a record: the items of its messages (docs/live.md).

Both ends of the wire add what a record says beyond that, each as it needs it: the gateway passes it
on unread.
"""

import msgspec


class LineItem(msgspec.Struct, rename="camel", frozen=True):
    """A log line."""

    seq: int
    line: str
    timestamp: str
    level: str
    stream: str = ""
    container: str = ""
    pod: str = ""
    trace_id: str = ""
    span_id: str = ""
    marks: tuple[str, ...] = ()
    deployment: str = ""
    build: str = ""
    service: str = ""


class SpanItem(msgspec.Struct, rename="camel", frozen=True):
    """A span; `end_time` is None while it is not finished."""

    seq: int
    id: str
    trace_id: str
    name: str
    start_time: str
    end_time: str | None = None
    service: str = ""
    pod: str = ""
    parent_span_id: str = ""
    status: str = "unset"
    status_message: str = ""
    span_kind: str = "internal"
