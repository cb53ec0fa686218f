"""Records: one JSON object per line, for each of the six signals (T1, contracts "Lines").

A line carries its identity (whose it is, which writer, which number), so that an object stays
useful without its name. Field names are camelCase; ClickHouse columns are snake_case. The
published JSON Schemas under `docs/schema/` are generated from these types (`make docs`).

Timestamps are RFC 3339 in UTC with up to nine digits of a second. Numbers that JSON cannot say
(NaN, infinities) are the strings "NaN", "Infinity", "-Infinity", as in OTLP's JSON.
"""

from typing import Any, Literal

import msgspec

SIGNALS = ("traces", "spans", "logs", "metrics", "scores", "gaps")
"""The folders under `observability/`, each with a ClickHouse table of the same name."""

Signal = Literal["traces", "spans", "logs", "metrics", "scores", "gaps"]
Level = Literal["debug", "info", "warn", "error", "fatal"]
Status = Literal["ok", "error", "unset"]
SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
MetricKind = Literal["counter", "gauge", "histogram", "updowncounter"]
Number = float | Literal["NaN", "Infinity", "-Infinity"]

LEVELS: tuple[Level, ...] = ("debug", "info", "warn", "error", "fatal")


class Line(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Identity: in every line of every signal. Empty strings are left out of the JSON."""

    project: str
    """`{namespace}.{name}`; the namespace has no dots."""
    writer: str
    """The source of records in order; `{pod uid}/{container}/{restart}@{epoch}` and the like."""
    seq: int
    """From 1 without holes, per writer. `{writer}#{seq}` is the record's id."""
    uid: str = ""
    """uid of the resource (Deployment, Build): one made again under the same name is another."""
    deployment: str = ""
    build: str = ""
    pod: str = ""
    container: str = ""
    stream: str = ""
    """`stdout`, `stderr`, `otlp`, `file`, or empty where the source does not tell."""
    service: str = ""
    """OpenTelemetry's `service.name`."""
    recorded_at: str = ""
    """When the collector (or the SDK) took the record."""


class LogLine(Line, tag_field="type", tag="log"):
    """One log line or OTLP log record."""

    timestamp: str
    level: Level
    message: str
    trace_id: str = ""
    span_id: str = ""
    attributes: Any = msgspec.field(default_factory=dict)
    """A JSON object; of a JSON log line the whole object as the application wrote it."""
    resource: Any = msgspec.field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""
    marks: list[str] = []
    """What the collector had to do: `split` (part of a line over the limit), `split-end`,
    `invalid-utf8`, `unterminated`, `malformed` (no line of the log's format: all of it is text)."""


class SpanEvent(msgspec.Struct, rename="camel", omit_defaults=True):
    """Something that happened inside a span; a log of that span (T3)."""

    name: str
    timestamp: str
    attributes: Any = msgspec.field(default_factory=dict)


class SpanLink(msgspec.Struct, rename="camel", omit_defaults=True):
    """A reference to a span, of this trace or another."""

    trace_id: str
    span_id: str
    trace_state: str = ""
    attributes: Any = msgspec.field(default_factory=dict)


class SpanLine(Line, tag_field="type", tag="span"):
    """One span. A start or an update has `endTime: null`; the end replaces them."""

    id: str
    trace_id: str
    name: str
    start_time: str
    end_time: str | None
    parent_span_id: str = ""
    status: Status = "unset"
    status_message: str = ""
    span_kind: SpanKind = "internal"
    attributes: Any = msgspec.field(default_factory=dict)
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    trace_state: str = ""
    resource: Any = msgspec.field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""


class TraceLine(Line, tag_field="type", tag="trace"):
    """One trace as a whole, where an application reports it; OTLP has none (root spans serve)."""

    id: str
    name: str
    start_time: str
    end_time: str | None
    status: Status = "unset"
    input: Any = None
    output: Any = None
    metadata: Any = msgspec.field(default_factory=dict)


class Exemplar(msgspec.Struct, rename="camel", omit_defaults=True):
    """A measured value with the trace it was measured in."""

    timestamp: str
    value: Number
    trace_id: str = ""
    span_id: str = ""
    attributes: Any = msgspec.field(default_factory=dict)


class MetricLine(Line, tag_field="type", tag="metric"):
    """One data point. Histograms carry their buckets; `value` is then their sum."""

    name: str
    kind: MetricKind
    value: Number
    timestamp: str
    start_time: str = ""
    """Start of the interval that a sum or histogram covers."""
    temporality: Literal["", "delta", "cumulative"] = ""
    unit: str = ""
    description: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: Any = msgspec.field(default_factory=dict)
    resource: Any = msgspec.field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""
    count: int = 0
    min: Number | None = None
    max: Number | None = None
    bounds: list[float] = []
    """Upper bounds of all buckets but the last; n bounds, n + 1 counts."""
    bucket_counts: list[int] = []
    exemplars: list[Exemplar] = []


class ScoreLine(Line, tag_field="type", tag="score"):
    """A judgement of a trace or span."""

    name: str
    value: Number
    timestamp: str
    trace_id: str = ""
    span_id: str = ""
    comment: str = ""
    attributes: Any = msgspec.field(default_factory=dict)


class GapLine(Line, tag_field="type", tag="gap"):
    """The life of a writer: its begin, its end, and what of it was lost.

    Written by the writer `{subject}/meta`, so that it never makes a hole in the subject's seq.
    """

    event: Literal["begin", "end", "gap"]
    timestamp: str
    subject: str
    """The writer that this line speaks of."""
    signal: Signal = "logs"
    """The signal of the subject."""
    cause: str = ""
    """Of a gap: `rotated-away`, `truncated`, `spool-full`, `directory-limit`, `spool-lost`, …
    Of a begin: `continues` or `unverified` where it goes on for a lost one."""
    message: str = ""
    after_seq: int = 0
    """Of a gap: the last seq before it. Of an end: the last seq of the subject."""
    lines: int | None = None
    """Lost lines, where known."""
    bytes: int | None = None
    """Lost bytes, where known; of an end: bytes read."""
    from_time: str = ""
    to_time: str = ""
    source: str = ""
    """Fingerprint of the file read."""
    from_offset: int | None = None
    to_offset: int | None = None
    continues: str = ""
    """Of a begin: the writer of a lost spool, which this one goes on for."""
    continues_seq: int = 0
    """Its last stored seq: the continued writer ends there."""


AnyLine = LogLine | SpanLine | TraceLine | MetricLine | ScoreLine | GapLine

LINE_TYPES: dict[Signal, type[AnyLine]] = {
    "traces": TraceLine,
    "spans": SpanLine,
    "logs": LogLine,
    "metrics": MetricLine,
    "scores": ScoreLine,
    "gaps": GapLine,
}


def record_id(writer: str, seq: int) -> str:
    """The id of a record, the same live and stored."""
    return f"{writer}#{seq}"
