"""ProtobufForm: a request in binary Protobuf, read by upb.

The schema's modules cost about 8 MB of memory: they are imported at the first such request.
The envelope is walked by `wire`, each record parsed for itself. upb refuses a record with invalid
UTF-8: then it is read a second time with a copy of the schema that has bytes where this one has
strings, mended, and read again: a cut emoji must not cost a span.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from math import isfinite
from typing import Any

from spanyard_sidecar.otlp.form import (
    MAX_DEPTH,
    Group,
    OtlpSignal,
    RefusedRecordError,
    UnreadableRequestError,
    base64_text,
    number,
    text_of,
)
from spanyard_sidecar.otlp.wire import WireError, submessages

_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)

_ONEOFS = {"as_double": "value", "as_int": "value"}
"""Field → its oneof; the metric's fields are the oneof `data`."""


_RECORDS: dict[OtlpSignal, str] = {"traces": "span", "logs": "log", "metrics": "metric"}
_GROUPS = _RESOURCE = _SCOPE = 1
_SCOPES = _ELEMENTS = 2
"""Field numbers in Export…ServiceRequest, Resource{Spans,Logs,Metrics} and
Scope{Spans,Logs,Metrics}: the same in all three."""


@cache
def _type(name: str) -> Any:
    if name == "span":
        from opentelemetry.proto.trace.v1 import trace_pb2

        return trace_pb2.Span
    if name == "log":
        from opentelemetry.proto.logs.v1 import logs_pb2

        return logs_pb2.LogRecord
    if name == "metric":
        from opentelemetry.proto.metrics.v1 import metrics_pb2

        return metrics_pb2.Metric
    if name == "resource":
        from opentelemetry.proto.resource.v1 import resource_pb2

        return resource_pb2.Resource
    from opentelemetry.proto.common.v1 import common_pb2

    return common_pb2.InstrumentationScope


class ProtobufForm:
    """One request. Raises UnreadableRequestError when it is no such message."""

    __slots__ = ("_error", "_kind", "_parse", "groups", "repaired", "repairs")

    def __init__(self, signal: OtlpSignal, body: bytes) -> None:
        from google.protobuf.message import DecodeError

        self.repaired = False
        self.repairs = 0
        self._error = DecodeError
        self._kind = _RECORDS[signal]
        self._parse = _type(self._kind).FromString
        try:
            self.groups = [
                self._group(body, start, end)
                for field, start, end in submessages(body, 0, len(body))
                if field == _GROUPS
            ]
        except (WireError, DecodeError) as error:
            raise UnreadableRequestError(
                f"the body is not the Protobuf message of an export request for {signal}: "
                f"{str(error)[:200]}"
            ) from error

    def _group(self, body: bytes, start: int, end: int) -> Group:
        fields = submessages(body, start, end)
        scopes: list[tuple[Any, Sequence[Any]]] = []
        for field, scope_start, scope_end in fields:
            if field == _SCOPES:
                within = submessages(body, scope_start, scope_end)
                scope = self._only("scope", _SCOPE, body, within)
                view = memoryview(body)
                records = [view[a:b] for n, a, b in within if n == _ELEMENTS]
                scopes.append((scope, records))
        return self._only("resource", _RESOURCE, body, fields), scopes

    def _only(self, name: str, wanted: int, body: bytes, fields: list[tuple[int, int, int]]) -> Any:
        # Encodings of one message, concatenated, are the message merged: so says Protobuf.
        data = b"".join(body[a:b] for n, a, b in fields if n == wanted)
        return self._parsed(_type(name), data)

    def _parsed(self, kind: Any, data: Any) -> Any:
        try:
            return kind.FromString(data)
        except self._error:
            message, repairs = _mended(kind, bytes(data))
            self.repaired = True
            self.repairs += repairs
            return message

    def record(self, element: Any, kind: str) -> Any:
        if kind != self._kind:
            return element  # a data point, parsed with its metric
        self.repaired = False
        try:
            return self._parse(element)
        except self._error as error:
            try:
                return self._parsed(_type(kind), element)
            except self._error:
                raise RefusedRecordError(
                    f"a record that is no Protobuf message {_type(kind).DESCRIPTOR.name} "
                    f"({str(error)[:100]}; nesting beyond 100 levels is one possible reason)"
                ) from error

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
    """The message with invalid UTF-8 as U+FFFD, and how many strings that were.

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
