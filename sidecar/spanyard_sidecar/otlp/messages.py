"""Messages of OTLP/JSON, as structs with the Protobuf schema's field names.

Only what the mapping reads; unknown fields are ignored, as the specification demands. Records are
kept raw, so that a bad one is refused alone. Decoded with `strict=False`: 64-bit integers come as
strings or numbers, doubles may be "NaN", "Infinity", "-Infinity".
Source: opentelemetry-proto 1.x, `opentelemetry/proto/*/v1/*.proto`, OTLP specification "JSON
Protobuf Encoding".
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
UInt64 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""Times and counts; half the range, which is what msgspec can check. Times end earlier."""


class Message(Struct, rename="camel", frozen=True, gc=False):
    """Root of them all. None holds a cycle."""


class AnyValue(Message, frozen=True):
    string_value: str | UnsetType = UNSET
    bool_value: bool | UnsetType = UNSET
    int_value: Int64 | UnsetType = UNSET
    double_value: float | UnsetType = UNSET
    array_value: "ArrayValue | UnsetType" = UNSET
    kvlist_value: "KeyValueList | UnsetType" = UNSET
    bytes_value: bytes | UnsetType = UNSET


class KeyValue(Message, frozen=True):
    key: str = ""
    value: AnyValue = AnyValue()


class ArrayValue(Message, frozen=True):
    values: list[AnyValue] = []


class KeyValueList(Message, frozen=True):
    values: list[KeyValue] = []


class Resource(Message, frozen=True):
    attributes: list[KeyValue] = []


class InstrumentationScope(Message, frozen=True):
    name: str = ""
    version: str = ""
    attributes: list[KeyValue] = []


class Status(Message, frozen=True):
    code: int = 0
    message: str = ""


class Event(Message, frozen=True):
    time_unix_nano: UInt64 = 0
    name: str = ""
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0


class Link(Message, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0


class Span(Message, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: UInt64 = 0
    end_time_unix_nano: UInt64 = 0
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0
    events: list[Event] = []
    dropped_events_count: int = 0
    links: list[Link] = []
    dropped_links_count: int = 0
    status: Status = Status()


class LogRecord(Message, frozen=True):
    time_unix_nano: UInt64 = 0
    observed_time_unix_nano: UInt64 = 0
    severity_number: int = 0
    severity_text: str = ""
    body: AnyValue = AnyValue()
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0
    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""


class Exemplar(Message, frozen=True):
    time_unix_nano: UInt64 = 0
    as_double: float | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET
    filtered_attributes: list[KeyValue] = []
    trace_id: str = ""
    span_id: str = ""


class Point(Message, frozen=True):
    """What all data points have."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: UInt64 = 0
    time_unix_nano: UInt64 = 0
    flags: int = 0


class NumberDataPoint(Point, frozen=True):
    as_double: float | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET
    exemplars: list[Exemplar] = []


class HistogramDataPoint(Point, frozen=True):
    count: UInt64 = 0
    sum: float | UnsetType = UNSET
    bucket_counts: list[UInt64] = []
    explicit_bounds: list[float] = []
    exemplars: list[Exemplar] = []
    min: float | UnsetType = UNSET
    max: float | UnsetType = UNSET


class Buckets(Message, frozen=True):
    offset: int = 0
    bucket_counts: list[UInt64] = []


class ExponentialHistogramDataPoint(Point, frozen=True):
    count: UInt64 = 0
    sum: float | UnsetType = UNSET
    scale: int = 0
    zero_count: UInt64 = 0
    positive: Buckets = Buckets()
    negative: Buckets = Buckets()
    exemplars: list[Exemplar] = []
    min: float | UnsetType = UNSET
    max: float | UnsetType = UNSET
    zero_threshold: float = 0.0


class ValueAtQuantile(Message, frozen=True):
    quantile: float = 0.0
    value: float = 0.0


class SummaryDataPoint(Point, frozen=True):
    count: UInt64 = 0
    sum: float = 0.0
    quantile_values: list[ValueAtQuantile] = []


class PointList(Message, frozen=True):
    """Gauge, Sum, Histogram, ExponentialHistogram and Summary."""

    data_points: list[Raw] = []
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Metric(Message, frozen=True):
    name: str = ""
    description: str = ""
    unit: str = ""
    gauge: PointList | UnsetType = UNSET
    sum: PointList | UnsetType = UNSET
    histogram: PointList | UnsetType = UNSET
    exponential_histogram: PointList | UnsetType = UNSET
    summary: PointList | UnsetType = UNSET


class ScopeSpans(Message, frozen=True):
    scope: InstrumentationScope = InstrumentationScope()
    spans: list[Raw] = []


class ResourceSpans(Message, frozen=True):
    resource: Resource = Resource()
    scope_spans: list[ScopeSpans] = []


class ScopeLogs(Message, frozen=True):
    scope: InstrumentationScope = InstrumentationScope()
    log_records: list[Raw] = []


class ResourceLogs(Message, frozen=True):
    resource: Resource = Resource()
    scope_logs: list[ScopeLogs] = []


class ScopeMetrics(Message, frozen=True):
    scope: InstrumentationScope = InstrumentationScope()
    metrics: list[Raw] = []


class ResourceMetrics(Message, frozen=True):
    resource: Resource = Resource()
    scope_metrics: list[ScopeMetrics] = []


class ExportTraceServiceRequest(Message, frozen=True):
    resource_spans: list[ResourceSpans] = []


class ExportLogsServiceRequest(Message, frozen=True):
    resource_logs: list[ResourceLogs] = []


class ExportMetricsServiceRequest(Message, frozen=True):
    resource_metrics: list[ResourceMetrics] = []


REQUESTS: dict[str, tuple[type[Any], str, str, str]] = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
"""Message, and the fields that lead to the records."""

RECORDS: dict[str, type[Any]] = {
    "span": Span,
    "log": LogRecord,
    "metric": Metric,
    "gauge": NumberDataPoint,
    "sum": NumberDataPoint,
    "histogram": HistogramDataPoint,
    "exponential_histogram": ExponentialHistogramDataPoint,
    "summary": SummaryDataPoint,
}
