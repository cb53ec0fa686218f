"""Property: the Protobuf and the JSON form of one message give the same lines."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanyard_sidecar.otlp.decode import decode
from spanyard_sidecar.otlp.form import MAX_TIME_NS, OtlpSignal, UnreadableRequestError
from tests.unit.sidecar.otlp.requests import NOW, REQUESTS, lines_of, set_value, to_json

texts = st.text(max_size=12)
scalars = st.one_of(
    st.none(),
    texts,
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.binary(max_size=8),
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=6
)
attributes = st.dictionaries(texts, values, max_size=4)
trace_ids = st.sampled_from([b"", bytes(16), b"\x01" * 16, bytes(range(16)), b"short"])
span_ids = st.sampled_from([b"", bytes(8), b"\x01" * 8, bytes(range(8)), b"\x01" * 9])
times = st.sampled_from([0, 1, NOW, NOW + 999_999_999, MAX_TIME_NS, MAX_TIME_NS + 1])
counts = st.integers(0, (1 << 63) - 1)


def fill_attributes(owner: Any, found: dict[str, Any], field: str = "attributes") -> None:
    for key, value in found.items():
        pair = getattr(owner, field).add()
        pair.key = key
        set_value(pair.value, value)


@st.composite
def spans(draw: st.DrawFn, scope: Any) -> None:
    span = scope.spans.add()
    span.trace_id, span.span_id = draw(trace_ids), draw(span_ids)
    span.parent_span_id = draw(span_ids)
    span.name, span.trace_state = draw(texts), draw(texts)
    span.kind = draw(st.integers(0, 5))
    span.start_time_unix_nano, span.end_time_unix_nano = draw(times), draw(times)
    fill_attributes(span, draw(attributes))
    span.dropped_events_count = draw(st.integers(0, 2))
    if draw(st.booleans()):
        event = span.events.add()
        event.name, event.time_unix_nano = draw(texts), draw(times)
        fill_attributes(event, draw(attributes))
    if draw(st.booleans()):
        link = span.links.add()
        link.trace_id, link.span_id = draw(trace_ids), draw(span_ids)
        fill_attributes(link, draw(attributes))
    span.status.code, span.status.message = draw(st.integers(0, 2)), draw(texts)


@st.composite
def logs(draw: st.DrawFn, scope: Any) -> None:
    record = scope.log_records.add()
    record.time_unix_nano, record.observed_time_unix_nano = draw(times), draw(times)
    record.severity_number = draw(st.integers(0, 24))
    record.severity_text, record.event_name = draw(texts), draw(texts)
    set_value(record.body, draw(values))
    fill_attributes(record, draw(attributes))
    record.trace_id, record.span_id = draw(trace_ids), draw(span_ids)


@st.composite
def metrics(draw: st.DrawFn, scope: Any) -> None:
    metric = scope.metrics.add()
    metric.name, metric.unit, metric.description = draw(texts), draw(texts), draw(texts)
    kind = draw(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"]))
    data = getattr(metric, kind)
    if kind not in {"gauge", "summary"}:
        data.aggregation_temporality = draw(st.integers(0, 2))
    if kind == "sum":
        data.is_monotonic = draw(st.booleans())
    point = data.data_points.add()
    point.start_time_unix_nano, point.time_unix_nano = draw(times), draw(times)
    point.flags = draw(st.integers(0, 1))
    fill_attributes(point, draw(attributes))
    if kind in {"gauge", "sum"}:
        fill_number(draw, point)
    else:
        point.count = draw(counts)
        if draw(st.booleans()):
            point.sum = draw(st.floats())
    if kind in {"histogram", "exponential_histogram"} and draw(st.booleans()):
        point.min, point.max = draw(st.floats()), draw(st.floats())
    if kind == "histogram":
        point.explicit_bounds.extend(draw(st.lists(st.floats(), max_size=3)))
        point.bucket_counts.extend(draw(st.lists(counts, max_size=4)))
    elif kind == "exponential_histogram":
        point.scale = draw(st.integers(-12, 22))
        point.zero_count = draw(counts)
        for side in (point.positive, point.negative):
            side.offset = draw(st.integers(-100, 100))
            side.bucket_counts.extend(draw(st.lists(st.integers(0, 5), max_size=6)))
    elif kind == "summary" and draw(st.booleans()):
        at = point.quantile_values.add()
        at.quantile, at.value = draw(st.floats(0, 1)), draw(st.floats())
    if kind != "summary" and draw(st.booleans()):
        exemplar = point.exemplars.add()
        exemplar.time_unix_nano, exemplar.trace_id = draw(times), draw(trace_ids)
        fill_number(draw, exemplar)
        fill_attributes(exemplar, draw(attributes), "filtered_attributes")


def fill_number(draw: st.DrawFn, point: Any) -> None:
    choice = draw(st.sampled_from(["as_int", "as_double", None]))
    if choice == "as_int":
        point.as_int = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    elif choice == "as_double":
        point.as_double = draw(st.floats())


RECORDS: dict[OtlpSignal, tuple[Any, str, str]] = {
    "traces": (spans, "resource_spans", "scope_spans"),
    "logs": (logs, "resource_logs", "scope_logs"),
    "metrics": (metrics, "resource_metrics", "scope_metrics"),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[OtlpSignal, Any]:
    signal: OtlpSignal = draw(st.sampled_from(["traces", "logs", "metrics"]))
    records, groups, scopes = RECORDS[signal]
    request = REQUESTS[signal]()
    for _ in range(draw(st.integers(0, 2))):
        group = getattr(request, groups).add()
        fill_attributes(group.resource, draw(attributes | st.just({"service.name": "a"})))
        for _ in range(draw(st.integers(0, 2))):
            scope = getattr(group, scopes).add()
            scope.scope.name = draw(texts)
            fill_attributes(scope.scope, draw(st.just({}) | attributes))
            for _ in range(draw(st.integers(0, 2))):
                draw(records(scope))
    return signal, request


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_both_encodings_give_the_same_lines(generated: tuple[OtlpSignal, Any]) -> None:
    signal, request = generated
    one = decode(signal, request.SerializeToString(), json=False, now_ns=NOW)
    other = decode(signal, to_json(request), json=True, now_ns=NOW)
    assert lines_of(one) == lines_of(other)
    assert one.refusals.count == other.refusals.count
    assert one.first_time_ns == other.first_time_ns


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(requests(), st.data())
def test_no_bytes_make_the_decoder_fail_in_an_unexpected_way(
    generated: tuple[OtlpSignal, Any], data: st.DataObject
) -> None:
    signal, request = generated
    as_json = data.draw(st.booleans())
    body = bytearray(to_json(request) if as_json else request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            body[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableRequestError):
        lines_of(decode(signal, bytes(body), json=as_json, now_ns=NOW))
