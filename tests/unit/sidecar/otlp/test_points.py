"""Metric points become lines."""

from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from spanyard_sidecar.otlp.decode import decode
from tests.unit.sidecar.otlp.requests import (
    NOW,
    SPAN,
    TRACE,
    add_attribute,
    decoded_lines,
    lines_of,
    to_json,
)

BOTH = pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
TIME = "2026-11-18T11:06:40.000000000Z"


def request_of(name: str = "m") -> tuple[Any, Any]:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name, metric.unit, metric.description = name, "ms", "what it is"
    return request, metric


def lines(request: Any, *, as_json: bool) -> list[dict[str, Any]]:
    body = to_json(request) if as_json else request.SerializeToString()
    found = decoded_lines("metrics", body, json=as_json)
    identity = ("type", "project", "writer", "seq", "uid", "pod", "stream", "recordedAt")
    return [{k: v for k, v in line.items() if k not in identity} for line in found]


@BOTH
def test_a_gauge_keeps_integers_and_exemplars(as_json: bool) -> None:
    request, metric = request_of()
    point = metric.gauge.data_points.add()
    point.time_unix_nano, point.as_int = NOW, 7
    add_attribute(point, "route", "/a")
    exemplar = point.exemplars.add()
    exemplar.time_unix_nano, exemplar.as_double = NOW, 1.5
    exemplar.trace_id, exemplar.span_id = TRACE, SPAN
    add_attribute(exemplar, "user", "u", "filtered_attributes")
    assert lines(request, as_json=as_json) == [
        {
            "name": "m",
            "kind": "gauge",
            "value": 7,
            "timestamp": TIME,
            "unit": "ms",
            "description": "what it is",
            "attributes": {"route": "/a"},
            "exemplars": [
                {
                    "timestamp": TIME,
                    "value": 1.5,
                    "traceId": TRACE.hex(),
                    "spanId": SPAN.hex(),
                    "attributes": {"user": "u"},
                }
            ],
        }
    ]


@BOTH
@pytest.mark.parametrize(
    ("monotonic", "temporality", "kind", "word"),
    [(True, 2, "counter", "cumulative"), (False, 1, "updowncounter", "delta")],
)
def test_a_sum_is_a_counter_when_it_only_grows(
    as_json: bool, monotonic: bool, temporality: int, kind: str, word: str
) -> None:
    request, metric = request_of()
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = monotonic, temporality
    point = metric.sum.data_points.add()
    point.start_time_unix_nano, point.time_unix_nano, point.as_double = NOW, NOW, float("inf")
    [line] = lines(request, as_json=as_json)
    assert (line["kind"], line["temporality"], line["value"]) == (kind, word, "Infinity")
    assert line["startTime"] == TIME


@BOTH
def test_a_histogram_keeps_its_buckets(as_json: bool) -> None:
    request, metric = request_of()
    metric.histogram.aggregation_temporality = 1
    point = metric.histogram.data_points.add()
    point.time_unix_nano, point.count, point.sum = NOW, 6, 12.5
    point.min, point.max = 0.0, 9.0
    point.explicit_bounds.extend([1.0, 5.0])
    point.bucket_counts.extend([1, 2, 3])
    [line] = lines(request, as_json=as_json)
    assert (line["value"], line["count"], line["min"], line["max"]) == (12.5, 6, 0.0, 9.0)
    assert (line["bounds"], line["bucketCounts"]) == ([1.0, 5.0], [1, 2, 3])


@BOTH
def test_a_histogram_without_a_sum_has_no_number_as_value(as_json: bool) -> None:
    request, metric = request_of()
    point = metric.histogram.data_points.add()
    point.time_unix_nano, point.count = NOW, 6
    [line] = lines(request, as_json=as_json)
    assert line["value"] == "NaN"
    assert "min" not in line
    assert "bounds" not in line


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [([1.0], [1]), ([2.0, 1.0], [1, 1, 1]), ([1.0, 1.0], [1, 1, 1]), ([float("inf")], [1, 1])],
)
def test_a_histogram_with_impossible_buckets_is_refused(
    bounds: list[float], counts: list[int]
) -> None:
    request, metric = request_of()
    point = metric.histogram.data_points.add()
    point.explicit_bounds.extend(bounds)
    point.bucket_counts.extend(counts)
    decoded = decode("metrics", request.SerializeToString(), json=False, now_ns=NOW)
    assert lines_of(decoded) == []
    assert decoded.refusals.count == 1


@BOTH
def test_an_exponential_histogram_gets_explicit_bounds(as_json: bool) -> None:
    request, metric = request_of()
    metric.exponential_histogram.aggregation_temporality = 2
    point = metric.exponential_histogram.data_points.add()
    point.time_unix_nano, point.count, point.sum, point.scale = NOW, 21, 3.0, 0
    point.zero_count, point.zero_threshold = 6, 0.25
    point.positive.offset = 0  # (1, 2], (2, 4], (4, 8]
    point.positive.bucket_counts.extend([1, 2, 3])
    point.negative.offset = 1  # [-4, -2), [-8, -4)
    point.negative.bucket_counts.extend([4, 5])
    [line] = lines(request, as_json=as_json)
    assert line["kind"] == "histogram"
    assert line["bounds"] == [-8.0, -4.0, -2.0, 0.25, 1.0, 2.0, 4.0, 8.0]
    assert line["bucketCounts"] == [0, 5, 4, 6, 0, 1, 2, 3, 0]
    assert sum(line["bucketCounts"]) == point.count


@pytest.mark.parametrize("scale", [-10, -4, 0, 3, 10, 20])
def test_exponential_bounds_ascend_at_every_scale_and_keep_all_counts(scale: int) -> None:
    request, metric = request_of()
    point = metric.exponential_histogram.data_points.add()
    point.scale = scale
    point.positive.offset = -1
    point.positive.bucket_counts.extend([3] * (1 if scale < -4 else 50))
    point.count = sum(point.positive.bucket_counts)
    decoded = decode("metrics", request.SerializeToString(), json=False, now_ns=NOW)
    [line] = lines_of(decoded)
    assert all(a < b for a, b in pairwise(line["bounds"]))
    assert len(line["bucketCounts"]) == len(line["bounds"]) + 1
    assert sum(line["bucketCounts"]) == point.count


@pytest.mark.parametrize(
    ("scale", "offset", "buckets"), [(0, 2000, 1), (100, 0, 1), (0, 0, 2001), (-20, 1, 1)]
)
def test_an_exponential_histogram_beyond_all_doubles_is_refused(
    scale: int, offset: int, buckets: int
) -> None:
    request, metric = request_of()
    point = metric.exponential_histogram.data_points.add()
    point.scale, point.positive.offset = scale, offset
    point.positive.bucket_counts.extend([0] * buckets)
    decoded = decode("metrics", request.SerializeToString(), json=False, now_ns=NOW)
    assert lines_of(decoded) == []
    assert "exponential" in decoded.refusals.message


@BOTH
def test_a_summary_becomes_gauges_and_two_counters(as_json: bool) -> None:
    request, metric = request_of("latency")
    point = metric.summary.data_points.add()
    point.time_unix_nano, point.count, point.sum = NOW, 10, 55.5
    add_attribute(point, "route", "/a")
    for quantile, value in ((0.5, 5.0), (0.99, 9.5)):
        at = point.quantile_values.add()
        at.quantile, at.value = quantile, value
    found = [
        (line["name"], line["kind"], line["value"], line["attributes"])
        for line in lines(request, as_json=as_json)
    ]
    assert found == [
        ("latency", "gauge", 5.0, {"route": "/a", "quantile": "0.5"}),
        ("latency", "gauge", 9.5, {"route": "/a", "quantile": "0.99"}),
        ("latency_count", "counter", 10.0, {"route": "/a"}),
        ("latency_sum", "counter", 55.5, {"route": "/a"}),
    ]


def test_a_point_without_a_value_is_refused_unless_it_says_so() -> None:
    request, metric = request_of()
    metric.gauge.data_points.add().time_unix_nano = NOW
    metric.gauge.data_points.add().flags = 1
    decoded = decode("metrics", request.SerializeToString(), json=False, now_ns=NOW)
    assert [line["value"] for line in lines_of(decoded)] == ["NaN"]
    assert "without a value" in decoded.refusals.message


def test_a_metric_without_a_name_is_refused() -> None:
    request, metric = request_of("")
    metric.gauge.data_points.add().as_int = 1
    decoded = decode("metrics", request.SerializeToString(), json=False, now_ns=NOW)
    assert lines_of(decoded) == []
    assert decoded.refusals.count == 1
