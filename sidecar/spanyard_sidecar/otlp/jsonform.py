"""JsonForm: a request in OTLP/JSON.

The envelope is decoded at once, each record for itself: a bad one is refused alone. What real
clients send beside the specification is taken on a second, slower look: nulls, invalid UTF-8,
escaped lone surrogates (a string cut in the middle of an emoji).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from spanyard_sidecar.otlp.form import (
    MAX_DEPTH,
    OtlpSignal,
    RefusedRecordError,
    UnreadableRequestError,
    base64_text,
    number,
    text_of,
)
from spanyard_sidecar.otlp.messages import RECORDS, REQUESTS

_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError)

_requests = {
    signal: msgspec.json.Decoder(kind, strict=False) for signal, (kind, *_) in REQUESTS.items()
}
_records = {kind: msgspec.json.Decoder(type_, strict=False) for kind, type_ in RECORDS.items()}

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_REPLACEMENT = b"\\ufffd"


def _mend_escape(match: re.Match[bytes]) -> bytes:
    text = match.group()
    # Six characters that are a surrogate without its other half; pairs have twelve.
    lone = len(text) == 6
    return _REPLACEMENT if lone else text


def mended(data: bytes) -> bytes:
    """`data` with invalid UTF-8 and lone surrogates as U+FFFD."""
    return _ESCAPE.sub(_mend_escape, data.decode("utf-8", "replace").encode())


def without_nulls(value: Any) -> Any:
    """A decoded value without null members: in Protobuf's JSON, null means "not there"."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


class JsonForm:
    """One request. Raises UnreadableRequestError when it is no such JSON."""

    __slots__ = ("_all_repaired", "groups", "repaired", "repairs")

    def __init__(self, signal: OtlpSignal, body: bytes) -> None:
        self._all_repaired = self.repaired = False
        self.repairs = 0
        try:
            request = self._decode(_requests[signal], body)
        except _DECODE_ERRORS as error:
            raise UnreadableRequestError(
                f"the body is not the JSON of an export request for {signal}: {_reason(error)}"
            ) from error
        # A lone surrogate anywhere is noticed here already; invalid UTF-8 with its record.
        self._all_repaired = self.repaired
        _, groups, scopes, records = REQUESTS[signal]
        self.groups = [
            (
                group.resource,
                [(scope.scope, getattr(scope, records)) for scope in getattr(group, scopes)],
            )
            for group in getattr(request, groups)
        ]

    def _decode(self, decoder: "msgspec.json.Decoder[Any]", data: bytes | msgspec.Raw) -> Any:
        self.repaired = self._all_repaired
        try:
            return decoder.decode(data)
        except _DECODE_ERRORS as first:
            return self._second_look(decoder, bytes(data), first)

    def _second_look(
        self, decoder: "msgspec.json.Decoder[Any]", data: bytes, first: Exception
    ) -> Any:
        repaired = mended(data)
        if repaired != data:
            self.repaired = True
            self.repairs += 1
        plain = msgspec.json.decode(repaired)
        if not isinstance(plain, dict):
            raise first
        return decoder.decode(msgspec.json.encode(without_nulls(plain)))

    def record(self, element: Any, kind: str) -> Any:
        try:
            return self._decode(_records[kind], element)
        except _DECODE_ERRORS as error:
            raise RefusedRecordError(_reason(error)) from error

    def attributes(self, pairs: Iterable[Any]) -> dict[str, Any]:
        return {pair.key: self.value(pair.value) for pair in pairs}

    def value(self, value: Any, depth: int = 1) -> Any:
        found = value.string_value
        if found is not UNSET:
            return found
        for name, plain in _VALUES:
            found = getattr(value, name)
            if found is not UNSET:
                return plain(found)
        return self._nested(value, depth)

    def _nested(self, value: Any, depth: int) -> Any:
        result: Any = None
        if value.array_value is not UNSET:
            result = [self.value(item, depth + 1) for item in value.array_value.values]
        elif value.kvlist_value is not UNSET:
            result = {
                pair.key: self.value(pair.value, depth + 1) for pair in value.kvlist_value.values
            }
        return text_of(result) if depth == MAX_DEPTH and result else result

    def trace_id(self, field: Any) -> str:
        return _hex(field, 32)

    def span_id(self, field: Any) -> str:
        return _hex(field, 16)

    def optional(self, message: Any, name: str) -> Any:
        found = getattr(message, name)
        return None if found is UNSET else found

    def which(self, message: Any, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if getattr(message, name) is not UNSET), None)


_VALUES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("int_value", lambda value: value),
    ("bool_value", lambda value: value),
    ("double_value", number),
    ("bytes_value", base64_text),
)


def _hex(text: str, digits: int) -> str:
    if len(text) != digits or not text.strip("0"):
        return ""
    text = text.lower()
    return "" if text.strip("0123456789abcdef") else text


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:300]
