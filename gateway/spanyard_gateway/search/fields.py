"""The fields of a query: per signal their names, what they are, and where they lie."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from spanyard_core.records import LEVELS
from spanyard_gateway.queries.revisions import REVISION

Signal = Literal["logs", "spans", "traces"]
Kind = Literal["words", "part", "label", "choice", "level", "number", "duration", "flag"]
Scope = Literal["own", "any", "sum"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    """SQL over the signal's table; of several, one has to meet the condition."""
    what: str
    """For docs and messages."""
    choices: tuple[str, ...] = ()
    scope: Scope = "own"
    """Of a trace: its root's value, that of any of its spans, or the sum over them."""


_STREAMS = ("stdout", "stderr", "otlp", "file")
_STATUSES = ("ok", "error", "unset")
_KINDS = ("internal", "server", "client", "producer", "consumer")


def _label(name: str, what: str, column: str = "") -> Field:
    return Field(name, "label", (column or name,), what)


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


WORDS = ""
"""The field of words and phrases without one."""

_SOURCE = (
    _label("service", "OpenTelemetry's `service.name`"),
    _label("deployment", "name of the Deployment"),
    Field("revision", "label", (REVISION,), "its revision: `3`, in a cluster the template's hash"),
    _label("build", "id of the build, `{namespace}.{name}`"),
    _label("pod", "name of the pod"),
    _label("container", "name of the container"),
)

LOGS = _table(
    Field(WORDS, "words", ("message",), "words of the message"),
    Field("level", "level", ("level",), "level; `level:>=warn` is that and worse", tuple(LEVELS)),
    Field("message", "words", ("message",), "words of the message"),
    Field("text", "part", ("message",), "any part of the message, also of a word"),
    Field("stream", "choice", ("stream",), "where it came from", _STREAMS),
    *_SOURCE,
    _label("trace", "id of the trace", "trace_id"),
    _label("span", "id of the span", "span_id"),
)

_TEXTS = ("name", "status_message", "input", "output")

SPANS = _table(
    Field(WORDS, "words", _TEXTS, "words of name, status message, input and output"),
    _label("name", "name of the span"),
    Field("kind", "choice", ("span_kind",), "kind of the span", _KINDS),
    Field("status", "choice", ("status",), "status of the span", _STATUSES),
    Field("error", "flag", ("status = 'error'",), "whether its status is error"),
    Field("open", "flag", ("ended = 0",), "whether it has begun and not ended"),
    Field("root", "flag", ("root = 1",), "whether it is the root of its trace"),
    Field("message", "words", ("status_message",), "words of the status message"),
    Field("text", "part", _TEXTS, "any part of name, status message, input or output"),
    Field("input", "words", ("input",), "words of the input: prompt, messages, arguments"),
    Field("output", "words", ("output",), "words of the output: answer, result"),
    Field("duration", "duration", ("duration_ns",), "how long it took, once it has ended"),
    Field(
        "tokens", "number", ("input_tokens + output_tokens",), "tokens, of input and output"
    ),
    Field("input_tokens", "number", ("input_tokens",), "tokens of the input"),
    Field("output_tokens", "number", ("output_tokens",), "tokens of the output"),
    Field("cost", "number", ("cost",), "cost, in the currency that the application reports"),
    _label("model", "model that answered, or was asked"),
    _label("provider", "provider of the model"),
    _label("operation", "what kind of step: chat, execute_tool, …"),
    _label("tool", "name of the tool"),
    _label("agent", "name of the agent"),
    _label("session", "id of the conversation or session", "conversation"),
    *_SOURCE,
    _label("trace", "id of the trace", "trace_id"),
    _label("span", "id of the span", "id"),
    _label("parent", "id of the span above it", "parent_span_id"),
)  # fmt: skip

_OF_THE_ROOT = ("name", "status", "open", "duration", "service", "deployment", "revision", "trace")
_SUMS = {
    "tokens": "sumIf(input_tokens + output_tokens, ended)",
    "input_tokens": "sumIf(input_tokens, ended)",
    "output_tokens": "sumIf(output_tokens, ended)",
    "cost": "sumIf(cost, ended)",
}
_NOT_OF_A_TRACE = {"root", "span", "parent"}

TRACES = _table(
    *(
        field
        if name in _OF_THE_ROOT
        else replace(field, columns=(_SUMS[name],), scope="sum")
        if name in _SUMS
        else replace(field, scope="any")
        for name, field in SPANS.items()
        if name not in _NOT_OF_A_TRACE
    ),
    Field("spans", "number", ("uniqExact(id)",), "how many spans it has", scope="sum"),
    *(
        replace(SPANS[name], name=f"span.{name}", scope="any")
        for name in ("name", "status", "duration", "service", "deployment", "tokens", "cost")
    ),
)

FIELDS: Mapping[Signal, Mapping[str, Field]] = {"logs": LOGS, "spans": SPANS, "traces": TRACES}

ALIASES = {
    "traceId": "trace",
    "spanId": "span",
    "parentSpanId": "parent",
    "spanKind": "kind",
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "conversation": "session",
    "msg": "message",
}
"""Names of the items' fields, and what people try."""


def attribute(key: str, signal: Signal) -> Field:
    """The field of an attribute."""
    scope: Scope = "any" if signal == "traces" else "own"
    return Field(f"@{key}", "label", (key,), "an attribute", scope=scope)
