"""Answers of OTLP/HTTP: export responses and statuses, in the encoding of the request.

Two messages of two fields each, the same for all signals (opentelemetry-proto, `collector/*`;
google.rpc `status.proto`): written here by hand, so that an answer needs no schema in memory.
"""

from dataclasses import dataclass, field

import msgspec

from spanyard_sidecar.otlp.form import OtlpSignal

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_REJECTED = {
    "traces": "rejectedSpans",
    "logs": "rejectedLogRecords",
    "metrics": "rejectedDataPoints",
}

# google.rpc.Code
INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
UNAVAILABLE = 14


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, without HTTP."""

    status: int
    body: bytes
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    """Records that were not taken."""
    duplicate: bool = False
    """A resend, acknowledged and not stored again."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(number: int, text: str) -> bytes:
    """A Protobuf message: field 1, varint; field 2, string; both left out when empty."""
    encoded = text.encode()
    data = b"\x08" + _varint(number) if number else b""
    return data + b"\x12" + _varint(len(encoded)) + encoded if encoded else data


def accepted(
    signal: OtlpSignal,
    *,
    json: bool,
    refused: int = 0,
    message: str = "",
    duplicate: bool = False,
) -> Answer:
    """200: all of it, or what is not refused. A message alone is a warning."""
    if json:
        partial: dict[str, str] = {}
        if refused:
            partial[_REJECTED[signal]] = str(refused)
        if message:
            partial["errorMessage"] = message
        body = msgspec.json.encode({"partialSuccess": partial} if partial else {})
    else:
        inner = _message(refused, message)
        body = b"\x0a" + _varint(len(inner)) + inner if inner else b""
    return Answer(200, body, JSON if json else PROTOBUF, refused=refused, duplicate=duplicate)


def failed(
    status: int, code: int, message: str, *, json: bool, headers: dict[str, str] | None = None
) -> Answer:
    """4xx or 5xx with a google.rpc.Status."""
    if json:
        body = msgspec.json.encode({"code": code, "message": message})
    else:
        body = _message(code, message)
    return Answer(status, body, JSON if json else PROTOBUF, headers or {})


def try_again(message: str, retry_after: float, *, json: bool) -> Answer:
    """503: the client keeps the data and sends it again."""
    seconds = max(1, round(retry_after))
    return failed(503, UNAVAILABLE, message, json=json, headers={"Retry-After": str(seconds)})
