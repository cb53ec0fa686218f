"""OTLP requests for the tests: builders, and the JSON form of a Protobuf message."""

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanyard_ingester.linecheck import Expected, LineCheck
from spanyard_sidecar.model import Identity
from spanyard_sidecar.otlp.decode import Decoded, decode
from spanyard_sidecar.otlp.form import OtlpSignal
from spanyard_sidecar.otlp.stamp import Stamp

IDENTITY = Identity(project="default.agent", pod="agent-1", pod_uid="0b54dbb9", uid="u-1")
NOW = 1_795_000_000_000_000_000
TRACE = bytes(range(16))
SPAN = bytes(range(8))

REQUESTS: dict[OtlpSignal, type[Any]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def _hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex()
            if key in {"traceId", "spanId", "parentSpanId"}
            else _hex_ids(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_hex_ids(item) for item in value]
    return value


def to_json(message: Any) -> bytes:
    """The message as OTLP/JSON."""
    plain = MessageToDict(message, use_integers_for_enums=True)
    return json.dumps(_hex_ids(plain)).encode()


def lines_of(decoded: Decoded) -> list[dict[str, Any]]:
    """The request's lines as objects, numbered from 1; each passes the ingester's strict check."""
    pieces = Stamp(IDENTITY).pieces(list(decoded.runs), writer="w", first=1, taken_ns=NOW)
    lines = b"".join(pieces).splitlines()
    check = LineCheck(Expected(decoded.signal, IDENTITY.project, "w", 1, len(lines)))
    for seq, line in enumerate(lines, 1):
        assert check(line) == seq
    return [json.loads(line) for line in lines]


def decoded_lines(signal: OtlpSignal, body: bytes, *, json: bool = False) -> list[dict[str, Any]]:
    """Decode and give the lines; nothing may be refused."""
    decoded = decode(signal, body, json=json, now_ns=NOW)
    lines = lines_of(decoded)
    assert decoded.refusals.count == 0, decoded.refusals.message
    return lines


def span_request(count: int = 1, *, name: str = "step", size: int = 0) -> Any:
    """A request of `count` spans of one resource and scope."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    add_attribute(group.resource, "service.name", "agent")
    scope = group.scope_spans.add()
    scope.scope.name = "lib"
    for i in range(count):
        span = scope.spans.add()
        span.trace_id = TRACE
        span.span_id = (i + 1).to_bytes(8, "big")
        span.name = f"{name} {i}"
        span.start_time_unix_nano = NOW + i
        span.end_time_unix_nano = NOW + i + 1000
        if size:
            add_attribute(span, "input", "x" * size)
    return request


def add_attribute(owner: Any, key: str, value: Any, field: str = "attributes") -> None:
    """Append a key-value of the value's own type."""
    pair = getattr(owner, field).add()
    pair.key = key
    set_value(pair.value, value)


def set_value(target: Any, value: Any) -> None:
    """Fill an AnyValue from a Python value."""
    if value is None:
        target.SetInParent()
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for item in value:
            set_value(target.array_value.values.add(), item)
    else:
        target.kvlist_value.SetInParent()
        for key, item in value.items():
            pair = target.kvlist_value.values.add()
            pair.key = key
            set_value(pair.value, item)
