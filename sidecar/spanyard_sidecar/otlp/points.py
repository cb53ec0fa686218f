"""Data points of OTLP metrics → MetricLine.

Gauge and Sum are single values, Histogram keeps its buckets. An exponential histogram becomes one
with explicit bounds (`exponential.py`). A summary, which no other table has a place for, becomes
one gauge point per quantile (attribute `quantile`) and the counters `{name}_count`, `{name}_sum`.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, NamedTuple

from spanyard_core.records import Exemplar, MetricKind, MetricLine, Number
from spanyard_sidecar.otlp.context import Context
from spanyard_sidecar.otlp.exponential import explicit_buckets
from spanyard_sidecar.otlp.form import RefusedRecordError, number

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_TEMPORALITIES: dict[int, Literal["delta", "cumulative"]] = {1: "delta", 2: "cumulative"}
_NO_RECORDED_VALUE = 1
"""Bit of a point's flags: the series has no value now; stored as NaN."""


class Point(NamedTuple):
    """A data point with what its metric says of it."""

    metric: Any
    data: Any
    kind: str
    element: Any


def points_of(context: Context, metrics: Any) -> Iterator[Point]:
    """All data points below some metrics; what is no metric is refused as one point."""
    for raw in metrics:
        try:
            metric = context.form.record(raw, "metric")
        except RefusedRecordError as error:
            context.refusals.add(str(error))
            continue
        kind = context.form.which(metric, KINDS)
        if kind is not None:
            data = getattr(metric, kind)
            for element in data.data_points:
                yield Point(metric, data, kind, element)


def add_point(context: Context, point: Point, lines: list[Any]) -> int:
    """Append the point's lines; gives its time in nanoseconds. Raises RefusedRecordError."""
    metric = point.metric
    if not metric.name:
        raise RefusedRecordError("a metric without a name")
    data = context.form.record(point.element, point.kind)
    time_ns = data.time_unix_nano or data.start_time_unix_nano or context.now_ns
    if point.kind in {"gauge", "sum"}:
        lines.append(_single(context, point, data, time_ns))
    elif point.kind == "summary":
        lines.extend(list(_summary(context, point, data, time_ns)))
    else:
        lines.append(_histogram(context, point, data, time_ns))
    return time_ns


def _line(
    context: Context, point: Point, data: Any, time_ns: int, *, kind: MetricKind, value: Number
) -> MetricLine:
    start_ns = data.start_time_unix_nano
    return MetricLine(
        project="",
        writer="",
        seq=0,
        name=point.metric.name,
        kind=kind,
        value=value,
        timestamp=context.times(time_ns),
        start_time=context.times(start_ns) if start_ns else "",
        unit=point.metric.unit,
        description=point.metric.description,
        attributes=context.attributes(data),
        resource=context.resource,
        scope_name=context.scope_name,
        scope_version=context.scope_version,
    )


def _single(context: Context, point: Point, data: Any, time_ns: int) -> MetricLine:
    kind: MetricKind = "gauge"
    if point.kind == "sum":
        kind = "counter" if point.data.is_monotonic else "updowncounter"
    line = _line(context, point, data, time_ns, kind=kind, value=_value(context, data))
    if point.kind == "sum":
        line.temporality = _TEMPORALITIES.get(point.data.aggregation_temporality, "")
    line.exemplars = _exemplars(context, data, time_ns)
    return line


def _value(context: Context, data: Any) -> Number:
    field = context.form.which(data, ("as_double", "as_int"))
    if field is not None:
        return number(getattr(data, field))
    if data.flags & _NO_RECORDED_VALUE:
        return "NaN"
    raise RefusedRecordError("a data point without a value")


def _histogram(context: Context, point: Point, data: Any, time_ns: int) -> MetricLine:
    form = context.form
    total = form.optional(data, "sum")
    line = _line(
        context,
        point,
        data,
        time_ns,
        kind="histogram",
        value="NaN" if total is None else number(total),
    )
    line.temporality = _TEMPORALITIES.get(point.data.aggregation_temporality, "")
    line.count = data.count
    least, most = form.optional(data, "min"), form.optional(data, "max")
    line.min = None if least is None else number(least)
    line.max = None if most is None else number(most)
    if point.kind == "histogram":
        line.bounds = list(data.explicit_bounds)
        line.bucket_counts = list(data.bucket_counts)
        _check_buckets(line)
    else:
        line.bounds, line.bucket_counts = explicit_buckets(data)
    line.exemplars = _exemplars(context, data, time_ns)
    return line


def _check_buckets(line: MetricLine) -> None:
    if not line.bucket_counts and not line.bounds:
        return
    if len(line.bucket_counts) != len(line.bounds) + 1:
        raise RefusedRecordError("a histogram whose buckets are not one more than its bounds")
    if not all(map(isfinite, line.bounds)) or any(a >= b for a, b in pairwise(line.bounds)):
        raise RefusedRecordError("a histogram whose bounds are not finite and ascending")


def _summary(context: Context, point: Point, data: Any, time_ns: int) -> Iterator[MetricLine]:
    for quantile in data.quantile_values:
        line = _line(context, point, data, time_ns, kind="gauge", value=number(quantile.value))
        line.attributes["quantile"] = format(quantile.quantile, "g")
        yield line
    for name, value in (("count", float(data.count)), ("sum", data.sum)):
        line = _line(context, point, data, time_ns, kind="counter", value=number(value))
        line.name += f"_{name}"
        line.temporality = "cumulative"
        yield line


def _exemplars(context: Context, data: Any, time_ns: int) -> list[Exemplar]:
    form = context.form
    found = []
    for exemplar in data.exemplars:
        field = form.which(exemplar, ("as_double", "as_int"))
        if field is None:
            continue  # a measurement without a value says nothing
        found.append(
            Exemplar(
                timestamp=context.times(exemplar.time_unix_nano or time_ns),
                value=number(getattr(exemplar, field)),
                trace_id=form.trace_id(exemplar.trace_id),
                span_id=form.span_id(exemplar.span_id),
                attributes=form.attributes(exemplar.filtered_attributes),
            )
        )
    return found
