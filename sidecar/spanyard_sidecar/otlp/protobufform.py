"""ProtobufForm: a request in binary Protobuf, read by upb.

The schema's modules cost about 8 MB of memory: they are imported at the first such request.
Strings with invalid UTF-8 are refused by upb together with their whole request. Then the request
is read a second time with a copy of the schema that has bytes where this one has strings, mended,
and read again: one cut emoji must not cost 500 spans.
"""

from collections.abc import Iterable
from functools import cache
from math import isfinite
from typing import Any

from spanyard_sidecar.otlp.form import (
    MAX_DEPTH,
    OtlpSignal,
    UnreadableRequestError,
    base64_text,
    number,
    text_of,
)

_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)

_ONEOFS = {"as_double": "value", "as_int": "value"}
"""Field → its oneof; the metric's fields are the oneof `data`."""


@cache
def _request_type(signal: OtlpSignal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        return trace_service_pb2.ExportTraceServiceRequest
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

        return logs_service_pb2.ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    return metrics_service_pb2.ExportMetricsServiceRequest


class ProtobufForm:
    """One request. Raises UnreadableRequestError when it is no such message."""

    __slots__ = ("repaired", "repairs", "request")

    def __init__(self, signal: OtlpSignal, body: bytes) -> None:
        from google.protobuf.message import DecodeError

        self.repaired = False
        self.repairs = 0
        kind = _request_type(signal)
        try:
            self.request = kind.FromString(body)
        except DecodeError as error:
            try:
                self.request, self.repairs = _mended(kind, body)
            except DecodeError:
                raise UnreadableRequestError(
                    f"the body is not the Protobuf message {kind.DESCRIPTOR.name} "
                    f"({str(error)[:200]}; nesting beyond 100 levels is one possible reason)"
                ) from error
            self.repaired = True

    def record(self, element: Any, kind: str) -> Any:
        return element

    def attributes(self, pairs: Iterable[Any]) -> dict[str, Any]:
        # The hottest loop of the receiver: eight passes per span.
        found: dict[str, Any] = {}
        for pair in pairs:
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                found[pair.key] = value.string_value
            elif kind == "int_value":
                found[pair.key] = value.int_value
            elif kind == "double_value":
                double = value.double_value
                found[pair.key] = double if isfinite(double) else number(double)
            elif kind == "bool_value":
                found[pair.key] = value.bool_value
            else:
                found[pair.key] = self.value(value)
        return found

    def value(self, value: Any, depth: int = 1) -> Any:
        kind = value.WhichOneof("value")
        result: Any = None
        if kind == "array_value":
            result = [self.value(item, depth + 1) for item in value.array_value.values]
        elif kind == "kvlist_value":
            result = {
                pair.key: self.value(pair.value, depth + 1) for pair in value.kvlist_value.values
            }
        elif kind == "double_value":
            return number(value.double_value)
        elif kind == "bytes_value":
            return base64_text(value.bytes_value)
        elif kind is not None and kind != "string_value_strindex":
            return getattr(value, kind)
        return text_of(result) if depth == MAX_DEPTH and result else result

    def trace_id(self, field: Any) -> str:
        return field.hex() if len(field) == 16 and field != _NO_TRACE else ""

    def span_id(self, field: Any) -> str:
        return field.hex() if len(field) == 8 and field != _NO_SPAN else ""

    def optional(self, message: Any, name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None

    def which(self, message: Any, names: tuple[str, ...]) -> str | None:
        return message.WhichOneof(_ONEOFS.get(names[0], "data"))  # type: ignore[no-any-return]


@cache
def _lenient_type(kind: Any) -> tuple[Any, frozenset[str]]:
    """A message class like `kind` with bytes for strings, and the names of the fields changed."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    changed: set[str] = set()
    done: set[str] = set()

    def loosen(message: Any, name: str) -> None:
        for field in message.field:
            if field.type == field.TYPE_STRING:
                field.type = field.TYPE_BYTES
                changed.add(f"{name}.{field.name}")
        for nested in message.nested_type:
            loosen(nested, f"{name}.{nested.name}")

    def add(file: Any) -> None:
        if file.name in done:
            return
        done.add(file.name)
        for needed in file.dependencies:
            add(needed)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        for message in copy.message_type:
            loosen(message, f"{copy.package}.{message.name}")
        pool.Add(copy)

    add(kind.DESCRIPTOR.file)
    found = pool.FindMessageTypeByName(kind.DESCRIPTOR.full_name)
    return message_factory.GetMessageClass(found), frozenset(changed)


def _mended(kind: Any, body: bytes) -> tuple[Any, int]:
    """The request with invalid UTF-8 as U+FFFD, and how many strings that were.

    Raises DecodeError when something else is wrong with it.
    """
    lenient, strings = _lenient_type(kind)
    message = lenient.FromString(body)
    repairs = _mend(message, strings)
    return kind.FromString(message.SerializeToString()), repairs


def _mend(message: Any, strings: frozenset[str]) -> int:
    repairs = 0
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else (value,):
                repairs += _mend(item, strings)
        elif field.full_name in strings:
            if field.is_repeated:
                good = [_mended_text(item) for item in value]
                repairs += sum(new != old for new, old in zip(good, value, strict=True))
                value[:] = good
            else:
                good_text = _mended_text(value)
                if good_text != value:
                    repairs += 1
                    setattr(message, field.name, good_text)
    return repairs


def _mended_text(data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode()
