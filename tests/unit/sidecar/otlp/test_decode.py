"""Requests become lines: what each field comes to, and what is refused."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanyard_sidecar.otlp import shrink
from spanyard_sidecar.otlp.decode import decode
from spanyard_sidecar.otlp.form import MAX_DEPTH, MAX_TIME_NS, UnreadableRequestError
from tests.unit.sidecar.otlp.requests import (
    NOW,
    SPAN,
    TRACE,
    add_attribute,
    decoded_lines,
    lines_of,
    set_value,
    span_request,
    to_json,
)

BOTH = pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])


def body_of(message: Any, *, as_json: bool) -> bytes:
    return to_json(message) if as_json else message.SerializeToString()


@BOTH
def test_a_span_keeps_everything_it_says(as_json: bool) -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    add_attribute(group.resource, "service.name", "agent")
    add_attribute(group.resource, "host.name", "h1")
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = "lib", "1.2"
    add_attribute(scope.scope, "team", "a")
    span = scope.spans.add()
    span.trace_id, span.span_id, span.parent_span_id = TRACE, SPAN, b"\xab" * 8
    span.trace_state = "k=v"
    span.name, span.kind = "chat", 3
    span.start_time_unix_nano, span.end_time_unix_nano = NOW + 1, NOW + 2_000_000_003
    span.status.code, span.status.message = 2, "boom"
    values: dict[str, Any] = {
        "text": "é ☃ 😀",
        "empty": "",
        "flag": True,
        "least": -(1 << 63),
        "half": 0.5,
        "nan": float("nan"),
        "inf": float("-inf"),
        "bytes": b"\x00\xff",
        "list": [1, "a", [False]],
        "object": {"a": {"b": None}},
        "nothing": None,
    }
    for key, value in values.items():
        add_attribute(span, key, value)
    span.dropped_attributes_count = 7
    event = span.events.add()
    event.name, event.time_unix_nano = "exception", NOW + 5
    add_attribute(event, "exception.type", "ValueError")
    link = span.links.add()
    link.trace_id, link.span_id, link.trace_state = b"\x01" * 16, b"\x02" * 8, "x=y"
    [line] = decoded_lines("traces", body_of(request, as_json=as_json), json=as_json)
    assert line == {
        "type": "span",
        "id": SPAN.hex(),
        "traceId": TRACE.hex(),
        "name": "chat",
        "startTime": "2026-11-18T11:06:40.000000001Z",
        "endTime": "2026-11-18T11:06:42.000000003Z",
        "parentSpanId": "abababababababab",
        "status": "error",
        "statusMessage": "boom",
        "spanKind": "client",
        "attributes": {
            "otel.scope.team": "a",
            "text": "é ☃ 😀",
            "empty": "",
            "flag": True,
            "least": -(1 << 63),
            "half": 0.5,
            "nan": "NaN",
            "inf": "-Infinity",
            "bytes": "AP8=",
            "list": [1, "a", [False]],
            "object": {"a": {"b": None}},
            "nothing": None,
            "otel.dropped_attributes_count": 7,
        },
        "events": [
            {
                "name": "exception",
                "timestamp": "2026-11-18T11:06:40.000000005Z",
                "attributes": {"exception.type": "ValueError"},
            }
        ],
        "links": [{"traceId": "01" * 16, "spanId": "02" * 8, "traceState": "x=y"}],
        "traceState": "k=v",
        "resource": {"service.name": "agent", "host.name": "h1"},
        "scopeName": "lib",
        "scopeVersion": "1.2",
        "project": "default.agent",
        "writer": "w",
        "seq": 1,
        "uid": "u-1",
        "pod": "agent-1",
        "stream": "otlp",
        "service": "agent",
        "recordedAt": "2026-11-18T11:06:40.000000000Z",
    }


@BOTH
def test_spans_without_valid_ids_or_times_are_refused_and_the_others_kept(as_json: bool) -> None:
    request = span_request(5)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].trace_id = bytes(16)
    spans[1].span_id = b""
    spans[2].trace_id = b"\x01" * 15
    spans[3].start_time_unix_nano = spans[3].end_time_unix_nano = 0
    decoded = decode("traces", body_of(request, as_json=as_json), json=as_json, now_ns=NOW)
    lines = lines_of(decoded)
    assert [line["name"] for line in lines] == ["step 4"]
    assert decoded.refusals.count == 4
    assert "valid trace id" in decoded.refusals.message
    assert "valid span id" in decoded.refusals.message
    assert "(2)" in decoded.refusals.message


def test_a_time_beyond_2261_refuses_its_record_only() -> None:
    request = span_request(2)
    request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = MAX_TIME_NS + 1
    request.resource_spans[0].scope_spans[0].spans[1].end_time_unix_nano = MAX_TIME_NS
    decoded = decode("traces", request.SerializeToString(), json=False, now_ns=NOW)
    assert len(lines_of(decoded)) == 1
    assert "2261" in decoded.refusals.message


def test_a_span_that_has_not_ended_has_no_end_time() -> None:
    request = span_request(1)
    request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 0
    [line] = decoded_lines("traces", request.SerializeToString())
    assert line["endTime"] is None


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (0, "", "info"),
        (0, "WARNING", "warn"),
        (0, "Critical", "fatal"),
        (0, "whatever", "info"),
        (1, "ERROR", "debug"),
        (5, "", "debug"),
        (9, "", "info"),
        (12, "", "info"),
        (13, "", "warn"),
        (17, "", "error"),
        (24, "", "fatal"),
        (25, "error", "error"),
    ],
)
def test_severity_becomes_a_level(number: int, text: str, level: str) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.severity_number, record.severity_text = number, text
    record.time_unix_nano = NOW
    [line] = decoded_lines("logs", request.SerializeToString())
    assert line["level"] == level


@BOTH
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("plain", "plain"),
        (None, ""),
        (42, "42"),
        (True, "true"),
        ({"a": [1, "x"]}, '{"a":[1,"x"]}'),
        (b"\x00\x01", "AAE="),
        (float("nan"), "NaN"),
    ],
)
def test_a_log_body_becomes_a_message(as_json: bool, body: Any, message: str) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    set_value(record.body, body)
    record.trace_id, record.span_id = TRACE, bytes(8)
    record.event_name = "session.start"
    [line] = decoded_lines("logs", body_of(request, as_json=as_json), json=as_json)
    assert line["message"] == message
    assert line["traceId"] == TRACE.hex()
    assert "spanId" not in line
    assert line["attributes"] == {"event.name": "session.start"}
    assert line["timestamp"] == "2026-11-18T11:06:40.000000000Z"  # none given: when it was taken


@BOTH
def test_deep_values_become_text_at_a_depth_and_lose_nothing(as_json: bool) -> None:
    deep: Any = "core"
    for _ in range(25):
        deep = [deep]
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    add_attribute(record, "deep", deep)
    [line] = decoded_lines("logs", body_of(request, as_json=as_json), json=as_json)
    value = line["attributes"]["deep"]
    for _ in range(MAX_DEPTH - 1):
        [value] = value
    assert isinstance(value, str)
    value = json.loads(value)
    for _ in range(25 - MAX_DEPTH + 1):
        [value] = value
    assert value == "core"


def test_protobuf_with_invalid_utf8_is_mended_and_told() -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for text in ("gut", "bxxd", "gut"):
        record = scope.log_records.add()
        record.body.string_value = text
        add_attribute(record, "key", "val")
    body = request.SerializeToString().replace(b"bxxd", b"b\xff\xfed")
    decoded = decode("logs", body, json=False, now_ns=NOW)
    lines = lines_of(decoded)
    assert [line["message"] for line in lines] == ["gut", "b\ufffd\ufffdd", "gut"]
    assert [line.get("marks") for line in lines] == [None, ["invalid-utf8"], None]
    assert all(line["attributes"] == {"key": "val"} for line in lines)
    assert decoded.refusals.count == 0
    assert "invalid UTF-8" in decoded.refusals.message


@pytest.mark.parametrize("text", [b"b\xff\xfed", b"b\\ud83dd", b"b\\udc00\\ud83dd"])
def test_json_with_invalid_text_is_mended_and_told(text: bytes) -> None:
    body = (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"gut"}},'
        b'{"body":{"stringValue":"' + text + b'\\ud83d\\ude00 \\\\ud83d"}}]}]}]}'
    )
    decoded = decode("logs", body, json=True, now_ns=NOW)
    lines = lines_of(decoded)
    assert lines[0]["message"] == "gut"
    assert lines[1]["message"].startswith("b\ufffd")
    assert lines[1]["message"].endswith("d😀 \\ud83d")
    assert lines[1]["marks"] == ["invalid-utf8"]
    assert "marks" not in lines[0]
    assert "invalid UTF-8" in decoded.refusals.message


def test_json_may_say_integers_as_strings_and_nulls_and_unknown_fields() -> None:
    body = json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": None,
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": TRACE.hex().upper(),
                                    "spanId": SPAN.hex(),
                                    "parentSpanId": None,
                                    "name": "a",
                                    "kind": 2,
                                    "startTimeUnixNano": str(NOW),
                                    "endTimeUnixNano": NOW,
                                    "newField": {"deep": [1]},
                                    "attributes": [
                                        {"key": "i", "value": {"intValue": "12"}},
                                        {"key": "n", "value": None},
                                        {"key": "d", "value": {"doubleValue": "Infinity"}},
                                    ],
                                }
                            ]
                        }
                    ],
                }
            ],
            "alsoNew": 1,
        }
    ).encode()
    [line] = decoded_lines("traces", body, json=True)
    assert line["traceId"] == TRACE.hex()
    assert line["spanKind"] == "server"
    assert line["attributes"] == {"i": 12, "n": None, "d": "Infinity"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "SPAN_KIND_SERVER"}, "kind"),
        ({"name": 5}, "name"),
        ({"startTimeUnixNano": "99999999999999999999999"}, "startTimeUnixNano"),
        ({"traceId": "zz" * 16}, "trace id"),
        ({"attributes": [{"key": "a", "value": {"intValue": str(1 << 63)}}]}, "intValue"),
        ({"attributes": [{"key": "a", "value": {"bytesValue": "*"}}]}, "bytesValue"),
    ],
)
def test_a_bad_json_record_is_refused_alone(change: dict[str, Any], reason: str) -> None:
    good = {
        "traceId": TRACE.hex(),
        "spanId": SPAN.hex(),
        "name": "good",
        "startTimeUnixNano": str(NOW),
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [good, good | change, good]}]}]}
    decoded = decode("traces", json.dumps(body).encode(), json=True, now_ns=NOW)
    assert [line["name"] for line in lines_of(decoded)] == ["good", "good"]
    assert decoded.refusals.count == 1
    assert reason in decoded.refusals.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"resourceSpans":5}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"a":1}',
        b"[" * 100_000,
        b'{"resourceSpans":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_json_that_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRequestError, match="not the JSON of an export request"):
        decode("traces", body, json=True, now_ns=NOW)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"nonsense", b"\x0a\xff\x01", b"\x1f\x8b\x08"])
def test_protobuf_that_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRequestError, match="export request for traces"):
        decode("traces", body, json=False, now_ns=NOW)


def test_a_bad_protobuf_record_is_refused_alone() -> None:
    request = span_request(3)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[1].name = "here"
    body = request.SerializeToString()
    at = body.index(b"here") - 2
    assert body[at] == 0x2A  # name: field 5, length and bytes
    broken = body[:at] + b"\x2b" + body[at + 1 :]  # a group that never ends
    decoded = decode("traces", broken, json=False, now_ns=NOW)
    assert [line["name"] for line in lines_of(decoded)] == ["step 0", "step 2"]
    assert decoded.refusals.count == 1
    assert "no Protobuf message Span" in decoded.refusals.message


def test_protobuf_nested_without_end_refuses_its_record() -> None:
    inner = b""
    for _ in range(200):
        inner = b"\x2a" + _length(inner) + inner  # AnyValue.array_value
        inner = b"\x0a" + _length(inner) + inner  # ArrayValue.values
    inner = b"\x2a" + _length(inner) + inner
    decoded = decode("logs", _wrapped_body(inner), json=False, now_ns=NOW)
    assert lines_of(decoded) == []
    assert "nesting" in decoded.refusals.message


def _length(data: bytes) -> bytes:
    n, out = len(data), b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def _wrapped_body(value: bytes) -> bytes:
    record = b"\x2a" + _length(value) + value  # LogRecord.body
    scope = b"\x12" + _length(record) + record
    group = b"\x12" + _length(scope) + scope
    return b"\x0a" + _length(group) + group


def test_an_empty_request_has_no_lines_and_no_complaint() -> None:
    for signal in ("traces", "logs", "metrics"):
        assert decoded_lines(signal, b"") == []
        assert decoded_lines(signal, b"{}", json=True) == []


def test_a_large_request_comes_in_runs_of_bounded_size() -> None:
    runs = list(
        decode("traces", span_request(1201).SerializeToString(), json=False, now_ns=NOW).runs
    )
    assert [len(run.bodies) for run in runs] == [500, 500, 201]


@BOTH
def test_a_record_too_large_for_a_line_keeps_its_place_with_its_texts_cut(as_json: bool) -> None:
    request = span_request(3)
    spans = request.resource_spans[0].scope_spans[0].spans
    add_attribute(spans[1], "input", "x" * 3_000_000)
    add_attribute(spans[1], "list", ["y" * 300_000, {"z": "z" * 2_000_000}])
    add_attribute(spans[1], "short", "kept")
    event = spans[1].events.add()
    add_attribute(event, "prompt", "é" * 1_000_000)
    decoded = decode("traces", body_of(request, as_json=as_json), json=as_json, now_ns=NOW)
    lines = lines_of(decoded)
    assert [line["name"] for line in lines] == ["step 0", "step 1", "step 2"]
    attributes = lines[1]["attributes"]
    assert attributes["input"] == "x" * (256 * 1024) + "…"
    assert len(attributes["list"][1]["z"]) == 256 * 1024 + 1
    assert attributes["short"] == "kept"
    assert attributes["spanyard.cut"] > 7_000_000
    assert lines[1]["resource"] == {"service.name": "agent"}
    assert "spanyard.cut" not in lines[0].get("attributes", {})
    assert decoded.refusals.count == 0
    assert "were cut" in decoded.refusals.message


def test_a_record_that_stays_too_large_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "MAX_LINE", 20_000)
    request = span_request(3)
    for i in range(1000):
        add_attribute(request.resource_spans[0].scope_spans[0].spans[1], f"key {i}", "x" * 50)
    decoded = decode("traces", request.SerializeToString(), json=False, now_ns=NOW)
    assert [line["name"] for line in lines_of(decoded)] == ["step 0", "step 2"]
    assert decoded.refusals.count == 1
    assert "20000 bytes" in decoded.refusals.message


def test_the_schemas_are_loaded_at_the_first_protobuf_request_only() -> None:
    import subprocess
    import sys

    script = (
        "import sys; import spanyard_sidecar.otlp.receiver, spanyard_sidecar.otlp.source;"
        "from spanyard_sidecar.otlp.decode import decode;"
        "list(decode('logs', b'{}', json=True, now_ns=1).runs);"
        "print(any(m.startswith(('google', 'opentelemetry')) for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.strip() == b"False"
