"""How lines become rows: per signal the structure read from the JSON, and the casts.

Everything arrives as plain text (three times as fast as LowCardinality in the structure) and is
cast in sight. Only `type`, `project`, `writer`, `seq` and the required times must be there; any
other missing field is its default.

What an INSERT refuses, so that a decoder can find the same lines: JSON that doesn't parse, an
unknown field, a `type` that isn't the signal's, `project` or `writer` empty or with NUL, `seq` not
1 … 2^64 - 1 in plain digits, an empty `id`, `traceId` (spans), `name` (metrics, scores) or
`subject`, a word that isn't in its list (level, status, spanKind, kind, temporality, event), a
time that isn't `2026-11-21T14:45:00` with at most a fraction and a zone after it, or before 1677
or after 2262, a number that isn't one or is beyond its 64 bits. What passes in silence is listed
in `tests/contract/test_engine_facts.py`.

Every column of a structure is used by its SELECT: the engine prunes the others, and then takes
them for unknown fields.
"""

from dataclasses import dataclass
from datetime import date

from spanyard_core.records import Signal

_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class LineTable:
    """A signal's table, as an INSERT sees it."""

    signal: Signal
    structure: str
    """Names and types of the JSON's fields, for `file()` and `input()`."""
    columns: tuple[tuple[str, str], ...]
    """Column and expression over the fields, in order."""
    common: tuple[tuple[str, str], ...] = ()
    """Names for expressions that several columns share."""
    deferred: tuple[str, ...] = ()
    """Indexes built when parts are merged, not by the INSERT: a text index on log messages
    doubles the cost of an insert, and parts without it are small enough to scan."""

    def select(self, source: str, *, attempt: int, day: date, where: str = "") -> str:
        """`SELECT … FROM {source}`: this attempt's rows, all in one day's partition.

        No column has an alias: where a field and a column share a name, the alias would win.
        """
        pieces = []
        if self.common:
            shared = ", ".join(f"{expression} AS {name}" for name, expression in self.common)
            pieces.append(f"WITH {shared}")
        columns = ", ".join(expression for _, expression in self.columns)
        pieces.append(f"SELECT {columns}, toUInt64({attempt:d}), toDate('{day.isoformat()}')")
        pieces.append(f"FROM {source}")
        if where:
            pieces.append(f"WHERE {where}")
        return " ".join(pieces)

    @property
    def column_list(self) -> str:
        return ", ".join([*(f"`{name}`" for name, _ in self.columns), "batch", "ingest_day"])


def time_value(field: str) -> str:
    """A required time. The engine itself refuses what is out of DateTime64(9)'s range."""
    return f"parseDateTime64BestEffort({field}, 9, 'UTC')"


def _optional_time(field: str, otherwise: str = f"'{_EPOCH}'") -> str:
    return time_value(f"if(empty({field}), {otherwise}, {field})")


def time_guard(field: str) -> str:
    """Whether a text is no time of ours, though the engine would take it for one."""
    # The engine reads 25:00 as tomorrow's 01:00, digits alone as seconds, and much more.
    return (
        f"(substring({field}, 11, 1) != 'T' OR substring({field}, 12, 2) > '23'"
        f" OR substring({field}, 15, 2) > '59' OR substring({field}, 18, 2) > '60')"
    )


def _whole(field: str, default: str = "0") -> str:
    return f"accurateCast(if(empty({field}), '{default}', {field}), 'UInt64')"


def _or_null(field: str, value: str) -> str:
    # Not nullIf: the engine also converts the text beneath a NULL, and refuses an empty one.
    return f"if(empty({field}), NULL, {value})"


def _number(field: str) -> str:
    return f"toFloat64({field})"


def _overflown(field: str) -> str:
    # 1e999 is read as infinity; only these two words mean it.
    return f"(isInfinite(toFloat64({field})) AND {field} NOT IN ('Infinity', '-Infinity'))"


def _or(field: str, default: str) -> str:
    return f"if(empty({field}), '{default}', {field})"


_IDENTITY_FIELDS = (
    "type String, project String, writer String, seq String, uid String, deployment String,"
    " build String, pod String, container String, stream String, service String,"
    " recordedAt String"
)


def _identity(kind: str, *refused: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    happened = "startTime" if kind in {"span", "trace"} else "timestamp"
    guards = [
        (f"type != '{kind}'", f"a line here has the type {kind}"),
        (
            f"notEmpty(recordedAt) AND {time_guard('recordedAt')}",
            "recordedAt is not an RFC 3339 time",
        ),
        *refused,
    ]
    checks = "".join(f" + throwIf({condition}, '{message}')" for condition, message in guards)
    return (
        ("project", "project"),
        ("writer", "writer"),
        ("seq", f"accurateCast(seq, 'UInt64'){checks}"),
        ("uid", "uid"),
        ("deployment", "deployment"),
        ("build", "build"),
        ("pod", "pod"),
        ("container", "container"),
        ("stream", "stream"),
        ("service", "service"),
        # The collector leaves it out where the line's own time says it: that of container logs.
        ("recorded_at", _optional_time("recordedAt", happened)),
    )


def _bad_time(field: str) -> tuple[str, str]:
    return time_guard(field), f"{field} is not an RFC 3339 time"


def _bad_optional_time(field: str) -> tuple[str, str]:
    return f"notEmpty({field}) AND {time_guard(field)}", f"{field} is not an RFC 3339 time"


def _bad_object(field: str) -> tuple[str, str]:
    return f"notEmpty({field}) AND NOT startsWith({field}, '{{')", f"{field} is not an object"


_LONGEST_LABEL = 256
"""Bytes of an attribute's value up to which it can be filtered by; longer ones (a whole message, a
prompt) would only swell the index. They stay in `attributes`."""

_ALL_ATTRIBUTES = (
    "all_attributes",
    "JSONExtract(attributes, 'Map(LowCardinality(String), String)')",
)
_ATTRIBUTES = (
    ("attributes", _or("attributes", "{}")),
    (
        "attribute_map",
        f"mapFilter((k, v) -> length(v) <= {_LONGEST_LABEL}, all_attributes)",
    ),
)
_TRACE = (("trace_id", "traceId"), ("span_id", "spanId"))
_SCOPE_FIELDS = "resource String, scopeName String, scopeVersion String"
_SCOPE = (
    ("resource", _or("resource", "{}")),
    ("scope_name", "scopeName"),
    ("scope_version", "scopeVersion"),
)


def _first(*keys: str) -> str:
    """The first of these attributes that is there."""
    *early, last = (f"all_attributes['{key}']" for key in keys)
    text = last
    for value in reversed(early):
        text = f"if(notEmpty({value}), {value}, {text})"
    return text


SPAN_TEXTS = {
    "operation": ("gen_ai.operation.name", "mastra.span.type", "openinference.span.kind"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    "model": ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "model"),
    "agent": ("gen_ai.agent.name", "mastra.agent.name", "agent.name"),
    "tool": ("gen_ai.tool.name", "tool.name"),
    "conversation": ("gen_ai.conversation.id", "session.id", "mastra.metadata.threadId"),
    "input": (
        "gen_ai.input.messages",
        "gen_ai.prompt",
        "input.value",
        "gen_ai.tool.call.arguments",
    ),
    "output": (
        "gen_ai.output.messages",
        "gen_ai.completion",
        "output.value",
        "gen_ai.tool.call.result",
    ),
}
"""Columns of spans that are the first of these attributes that is there and not empty."""
SPAN_COUNTS = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
}
"""The same of whole numbers, 0 where there is none."""
SPAN_COST = ("gen_ai.usage.cost", "gen_ai.usage.total_cost", "llm.cost.total")
_MESSAGES = ("input", "output")

_DURATION = (
    "toUInt64(greatest(0, toUnixTimestamp64Nano(finished) - toUnixTimestamp64Nano(started)))"
)

LOGS = LineTable(
    "logs",
    f"{_IDENTITY_FIELDS}, timestamp String, level String, message String, traceId String,"
    f" spanId String, attributes String, {_SCOPE_FIELDS}, marks Array(String)",
    (
        *_identity("log", _bad_time("timestamp"), _bad_object("attributes")),
        ("timestamp", time_value("timestamp")),
        ("level", "level"),
        ("message", "message"),
        *_TRACE,
        *_ATTRIBUTES,
        *_SCOPE,
        ("marks", "marks"),
    ),
    (_ALL_ATTRIBUTES,),
    ("message_index", "attribute_index"),
)

SPANS = LineTable(
    "spans",
    f"{_IDENTITY_FIELDS}, id String, traceId String, name String, startTime String,"
    " endTime String, parentSpanId String, status String, statusMessage String, spanKind String,"
    f" attributes String, events String, links String, traceState String, {_SCOPE_FIELDS}",
    (
        *_identity(
            "span",
            _bad_time("startTime"),
            _bad_optional_time("endTime"),
            _bad_object("attributes"),
        ),
        ("ended", "notEmpty(endTime)"),
        ("root", "empty(parentSpanId)"),
        ("start_time", "started"),
        ("end_time", "finished"),
        ("duration_ns", _DURATION),
        ("id", "id"),
        ("trace_id", "traceId"),
        ("parent_span_id", "parentSpanId"),
        ("name", "name"),
        ("status", _or("status", "unset")),
        ("status_message", "statusMessage"),
        ("span_kind", _or("spanKind", "internal")),
        ("trace_state", "traceState"),
        ("events", _or("events", "[]")),
        ("links", _or("links", "[]")),
        *_ATTRIBUTES,
        *_SCOPE,
        *((name, _first(*SPAN_TEXTS[name])) for name in SPAN_TEXTS if name not in _MESSAGES),
        *((name, f"toUInt64OrZero({_first(*keys)})") for name, keys in SPAN_COUNTS.items()),
        ("cost", f"toFloat64OrZero({_first(*SPAN_COST)})"),
        *((name, _first(*SPAN_TEXTS[name])) for name in _MESSAGES),
    ),
    (
        _ALL_ATTRIBUTES,
        ("started", time_value("startTime")),
        ("finished", _optional_time("endTime", "startTime")),
    ),
    ("input_index", "output_index", "attribute_index"),
)

TRACES = LineTable(
    "traces",
    f"{_IDENTITY_FIELDS}, id String, name String, startTime String, endTime String,"
    " status String, input String, output String, metadata String",
    (
        *_identity("trace", _bad_time("startTime"), _bad_optional_time("endTime")),
        ("ended", "notEmpty(endTime)"),
        ("start_time", time_value("startTime")),
        ("end_time", _optional_time("endTime", "startTime")),
        ("id", "id"),
        ("name", "name"),
        ("status", _or("status", "unset")),
        ("input", "input"),
        ("output", "output"),
        ("metadata", _or("metadata", "{}")),
    ),
)

METRICS = LineTable(
    "metrics",
    f"{_IDENTITY_FIELDS}, name String, kind String, value String, timestamp String,"
    " startTime String, temporality String, unit String, description String, traceId String,"
    f" spanId String, attributes String, {_SCOPE_FIELDS}, count String, min String, max String,"
    " bounds Array(Float64), bucketCounts Array(UInt128), exemplars String",
    (
        *_identity(
            "metric",
            _bad_time("timestamp"),
            _bad_optional_time("startTime"),
            _bad_object("attributes"),
            (_overflown("value"), "value is not a 64-bit number"),
        ),
        ("timestamp", time_value("timestamp")),
        ("name", "name"),
        ("kind", "kind"),
        ("value", _number("value")),
        (
            "series",
            "cityHash64(project, name, kind, uid, deployment, pod, service, toString(labels))",
        ),
        ("start_time", _optional_time("startTime")),
        ("temporality", "temporality"),
        ("unit", "unit"),
        ("description", "description"),
        *_TRACE,
        ("attributes", _or("attributes", "{}")),
        ("attribute_map", "labels"),
        *_SCOPE,
        ("count", _whole("count")),
        ("min", _or_null("min", "toFloat64(if(empty(min), '0', min))")),
        ("max", _or_null("max", "toFloat64(if(empty(max), '0', max))")),
        ("bounds", "bounds"),
        ("bucket_counts", "accurateCast(bucketCounts, 'Array(UInt64)')"),
        ("exemplars", _or("exemplars", "[]")),
    ),
    (("labels", f"mapSort({_ALL_ATTRIBUTES[1]})"),),
    ("attribute_index",),
)

SCORES = LineTable(
    "scores",
    f"{_IDENTITY_FIELDS}, name String, value String, timestamp String, traceId String,"
    " spanId String, comment String, attributes String",
    (
        *_identity(
            "score",
            _bad_time("timestamp"),
            _bad_object("attributes"),
            (_overflown("value"), "value is not a 64-bit number"),
        ),
        ("timestamp", time_value("timestamp")),
        ("name", "name"),
        ("value", _number("value")),
        *_TRACE,
        ("comment", "comment"),
        *_ATTRIBUTES,
    ),
    (_ALL_ATTRIBUTES,),
    ("attribute_index",),
)

GAPS = LineTable(
    "gaps",
    f"{_IDENTITY_FIELDS}, event String, timestamp String, subject String, signal String,"
    " cause String, message String, afterSeq String, lines String, bytes String,"
    " fromTime String, toTime String, source String, fromOffset String, toOffset String,"
    " continues String, continuesSeq String",
    (
        *_identity(
            "gap",
            _bad_time("timestamp"),
            _bad_optional_time("fromTime"),
            _bad_optional_time("toTime"),
        ),
        ("event", "event"),
        ("timestamp", time_value("timestamp")),
        ("subject", "subject"),
        ("signal", _or("signal", "logs")),
        ("cause", "cause"),
        ("message", "message"),
        ("after_seq", _whole("afterSeq")),
        ("lines", _or_null("lines", _whole("lines"))),
        ("bytes", _or_null("bytes", _whole("bytes"))),
        ("from_time", _or_null("fromTime", _optional_time("fromTime"))),
        ("to_time", _or_null("toTime", _optional_time("toTime"))),
        ("source", "source"),
        ("from_offset", _or_null("fromOffset", _whole("fromOffset"))),
        ("to_offset", _or_null("toOffset", _whole("toOffset"))),
        ("continues", "continues"),
        ("continues_seq", _whole("continuesSeq")),
    ),
)

LINE_TABLES: dict[Signal, LineTable] = {
    table.signal: table for table in (LOGS, SPANS, TRACES, METRICS, SCORES, GAPS)
}
