"""Decode: an OTLP request → encoded lines that lack only their identity and number.

Works in runs of at most RUN records, so that a large request gives others a turn in between and
its records never stand in memory as objects all at once. Numbers are given at the append.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.records import LogLine, MetricLine, Signal, SpanLine
from spanyard_sidecar.otlp import shrink
from spanyard_sidecar.otlp.context import Context, Refusals
from spanyard_sidecar.otlp.form import Form, OtlpSignal, RefusedRecordError
from spanyard_sidecar.otlp.jsonform import JsonForm
from spanyard_sidecar.otlp.logrecords import add_log
from spanyard_sidecar.otlp.points import add_point, points_of
from spanyard_sidecar.otlp.protobufform import ProtobufForm
from spanyard_sidecar.otlp.spans import add_span

RUN = 500

SIGNALS: dict[OtlpSignal, Signal] = {"traces": "spans", "logs": "logs", "metrics": "metrics"}
"""OTLP's name of a signal → ours: its `traces` are requests of spans."""

_encoder = msgspec.json.Encoder()

TAIL = b',"project":"","writer":"","seq":0}'
"""What a line without identity ends with; checked below, because it is the structs' business."""


@dataclass(frozen=True, slots=True)
class Run:
    """Lines without identity, in order: each lacks its end, `TAIL`."""

    bodies: list[bytes]
    size: int
    """Bytes of the bodies."""
    service: str


@dataclass(slots=True)
class Decoded:
    """What a request came to; complete when its `runs` are used up."""

    signal: Signal
    refusals: Refusals
    runs: Iterator[Run]
    first_time_ns: int = 0
    """Time of the first record."""


def decode(signal: OtlpSignal, body: bytes, *, json: bool, now_ns: int) -> Decoded:
    """Begin to decode a request. Raises UnreadableRequestError when it is not one."""
    form: Form = JsonForm(signal, body) if json else ProtobufForm(signal, body)
    refusals = Refusals()
    decoded = Decoded(SIGNALS[signal], refusals, iter(()))
    decoded.runs = _runs(signal, Context(form, now_ns, refusals), decoded)
    return decoded


_Add = Callable[[Context, Any, list[Any]], int]


_ADD: dict[OtlpSignal, _Add] = {"traces": add_span, "logs": add_log, "metrics": add_point}


def _scopes(signal: OtlpSignal, context: Context) -> Iterator[Iterable[Any]]:
    for resource, scopes in context.form.groups:
        context.enter_resource(resource)
        for scope, records in scopes:
            context.enter_scope(scope)
            yield points_of(context, records) if signal == "metrics" else records


def _runs(signal: OtlpSignal, context: Context, decoded: Decoded) -> Iterator[Run]:
    lines: list[Any] = []
    refuse, add = context.refusals.add, _ADD[signal]
    for elements in _scopes(signal, context):
        for element in elements:
            try:
                time_ns = add(context, element, lines)
            except RefusedRecordError as error:
                refuse(str(error))
                continue
            except RecursionError:
                refuse("nested too deeply")
                continue
            if not decoded.first_time_ns:
                decoded.first_time_ns = time_ns
            if len(lines) >= RUN:
                yield _encode(lines, context)
                lines = []
        if lines:
            yield _encode(lines, context)
            lines = []
    if context.form.repairs:
        context.refusals.warn(f"{context.form.repairs} texts had invalid UTF-8, replaced by U+FFFD")


def _encode(lines: list[Any], context: Context) -> Run:
    encoded = _encoder.encode_lines(lines).split(b"\n")
    encoded.pop()
    if max(map(len, encoded)) > shrink.MAX_LINE:
        encoded = list(_fitting(lines, encoded, context))
    cut = -len(TAIL)
    bodies = [line[:cut] for line in encoded]
    return Run(bodies, sum(map(len, bodies)), context.service)


def _fitting(lines: list[Any], encoded: list[bytes], context: Context) -> Iterator[bytes]:
    for line, whole in zip(lines, encoded, strict=True):
        if len(whole) <= shrink.MAX_LINE:
            yield whole
            continue
        small = shrink.shrunk(line, len(whole))
        if small is None:
            context.refusals.add(f"a record of more than {shrink.MAX_LINE} bytes as JSON")
        else:
            context.refusals.warn(f"texts of a record of {len(whole)} bytes were cut")
            yield small


def _check_tail() -> None:
    identity: dict[str, Any] = {"project": "", "writer": "", "seq": 0}
    for line in (
        SpanLine(**identity, id="", trace_id="", name="", start_time="", end_time=None),
        LogLine(**identity, timestamp="", level="info", message=""),
        MetricLine(**identity, name="", kind="gauge", value=0, timestamp=""),
    ):
        if not _encoder.encode(line).endswith(TAIL):
            raise AssertionError("records.py changed the order of its fields: adapt TAIL")


_check_tail()
