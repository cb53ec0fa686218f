"""Records as files: JSON lines as collectors write them, or Parquet with the same names.

The engine writes a file of this machine, which is then sent: memory stays small however much it
is. Order is that of the tables, so that nothing has to be sorted. Of spans and traces only ended
ones: what is unfinished has no end to be exported yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from spanyard_core.clickhouse import Database, rfc3339
from spanyard_core.errors import SettingError
from spanyard_core.records import LINE_TYPES, Signal
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import (
    add_attributes,
    add_durations,
    add_text,
    any_json,
    basic_where,
    raw_json,
)
from spanyard_gateway.where import Where

_IDENTITY = (
    "project", "writer", "seq", "uid", "deployment", "build", "pod", "container", "stream",
    "service", "recorded_at",
)  # fmt: skip
_TRACED = ("trace_id", "span_id")
_SCOPED = ("resource", "scope_name", "scope_version")


@dataclass(frozen=True, slots=True)
class _Table:
    columns: tuple[str, ...]
    time: str
    order: str
    filters: frozenset[str]
    where: str = "1"
    text: str = "name"


_COMMON = frozenset({"from", "to", "service", "deployment", "build", "pod", "container", "stream"})
TABLES: dict[str, _Table] = {
    "logs": _Table(
        ("timestamp", "level", "message", *_TRACED, "attributes", *_SCOPED, "marks"),
        "timestamp",
        "timestamp, writer, seq",
        _COMMON | {"level", "text", "traceId", "spanId"},
        text="message",
    ),
    "spans": _Table(
        ("id", "trace_id", "parent_span_id", "name", "start_time", "end_time", "status",
         "status_message", "span_kind", "attributes", "events", "links", "trace_state", *_SCOPED),
        "start_time",
        "ended, root, start_time",
        _COMMON | {"name", "status", "text", "traceId", "spanId", "minDuration", "maxDuration"},
        "ended = 1",
    ),
    "traces": _Table(
        ("id", "name", "start_time", "end_time", "status", "input", "output", "metadata"),
        "start_time",
        "ended, start_time",
        _COMMON | {"name", "status", "text"},
        "ended = 1",
    ),
    "metrics": _Table(
        ("name", "kind", "value", "timestamp", "start_time", "temporality", "unit", "description",
         *_TRACED, "attributes", *_SCOPED, "count", "min", "max", "bounds", "bucket_counts",
         "exemplars"),
        "timestamp",
        "name, series, timestamp",
        _COMMON | {"name", "traceId", "spanId"},
    ),
    "scores": _Table(
        ("name", "value", "timestamp", *_TRACED, "comment", "attributes"),
        "timestamp",
        "name, timestamp",
        _COMMON | {"name", "traceId", "spanId"},
    ),
}  # fmt: skip
PARAMS = (
    "signal", "format", "from", "to", "service", "deployment", "build", "pod", "container",
    "stream", "name", "level", "status", "text", "traceId", "spanId", "minDuration", "maxDuration",
)  # fmt: skip
FORMATS = {"jsonl": "JSONEachRow", "parquet": "Parquet"}
_TIMES = frozenset({"recorded_at", "timestamp", "start_time", "end_time"})
_OBJECTS = frozenset({"attributes", "resource", "metadata"})
_LISTS = frozenset({"events", "links", "exemplars"})
_VALUES = frozenset({"input", "output"})
_ODD = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for: a SELECT and its values, and how its file becomes the answer."""

    signal: Signal
    form: str
    sql: str
    count_sql: str
    params: dict[str, Any]

    async def count(self, rows: Any) -> int:
        """How many records it has now; `rows` is the reader's."""
        [row] = await rows(self.count_sql, self.params)
        return int(row["n"])

    async def write(self, database: Database, path: Path, *, seconds: float, memory: int) -> None:
        """Make the file. Raises DatabaseError."""
        settings = {
            "max_execution_time": seconds,
            "max_memory_usage": memory,
            "prefer_column_name_to_alias": 1,  # `timestamp` is a name of both
            "output_format_json_quote_64bit_integers": 0,
            "output_format_json_quote_denormals": 1,
            "output_format_json_escape_forward_slashes": 0,
        }
        await database.write_file(
            path, self.sql, form=FORMATS[self.form], params=self.params, settings=settings
        )


def export_of(project: str, query: Query) -> Export:
    """The export that a query asks for. Raises SettingError for a filter of other signals."""
    signal: Signal | None = query["signal"]
    if signal is None or signal not in TABLES:
        raise SettingError("signal: which records? One of " + ", ".join(TABLES))
    table, form = TABLES[signal], query["format"] or "jsonl"
    for name in PARAMS[2:]:
        if query[name] is not None and name not in table.filters:
            raise SettingError(f"{name}: {signal} have no such filter")
    where = _where(project, query, signal, table)
    columns = ", ".join(_column(name, form) for name in (*_IDENTITY, *table.columns))
    condition = f"{table.where} AND {where.sql()}"
    return Export(
        signal,
        form,
        f"SELECT {columns} FROM {signal} AS t WHERE {condition} ORDER BY project, {table.order}",
        f"SELECT count() AS n FROM {signal} WHERE {condition}",
        where.params,
    )


def _where(project: str, query: Query, signal: str, table: _Table) -> Where:
    ids = {"spans": "id", "traces": "id"}
    where = basic_where(project, query, table.time, span_id=ids.get(signal, "span_id"))
    if query["level"]:
        where.add("level IN {levels:Array(String)}", levels=query["level"])
    if query["status"]:
        where.add("status IN {statuses:Array(String)}", statuses=query["status"])
    if query["text"]:
        add_text(where, table.text, query["text"])
    add_durations(where, query)
    if signal == "traces":
        add_attributes(where, query, indexed=False, document="metadata")
    else:
        add_attributes(where, query)
    return where


def _column(name: str, form: str) -> str:
    head, *rest = name.split("_")
    camel = head + "".join(word.capitalize() for word in rest)
    expression = rfc3339(f"t.{name}") if name in _TIMES and form == "jsonl" else f"t.{name}"
    return f"{expression} AS `{camel}`"


def json_lines(file: IO[bytes], signal: Signal) -> Iterator[bytes]:
    """The lines of the engine's file as collectors write them: JSON in them as JSON, empty fields
    left out."""
    decoder, encoder = msgspec.json.Decoder(), msgspec.json.Encoder()
    kind = str(LINE_TYPES[signal].__struct_config__.tag)
    for raw in file:
        row: dict[str, Any] = decoder.decode(raw)
        line: dict[str, Any] = {"type": kind}
        for name, value in row.items():
            if name in _OBJECTS:
                if value not in {"", "{}", "null"}:
                    line[name] = raw_json(value)
            elif name in _LISTS:
                if value not in {"", "[]", "null"}:
                    line[name] = raw_json(value, "[]")
            elif name in _VALUES:
                if value:
                    line[name] = any_json(value)
            elif value not in ("", [], None) or name in {"message", "name"}:
                line[name] = _ODD.get(value, value) if name == "value" else value
        yield encoder.encode(line) + b"\n"
