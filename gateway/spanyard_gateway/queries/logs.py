"""Log lines; with a trace or span asked for, the events of its spans too (T3)."""

from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.items import LogItem, Page
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import (
    add_attributes,
    add_text,
    basic_where,
    identity,
    keyset_page,
    raw_json,
)
from spanyard_gateway.queries.search import add_search
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

PARAMS = (
    "limit",
    "cursor",
    "order",
    "from",
    "to",
    "level",
    "text",
    "q",
    "service",
    "deployment",
    "build",
    "pod",
    "container",
    "stream",
    "writer",
    "traceId",
    "spanId",
)

_COLUMNS = (
    f"{rfc3339('timestamp')} AS time_text, level, message, trace_id, span_id, attributes, marks"
)


_EVENTS_TOO = """(
    SELECT {identity}, timestamp, level, message, trace_id, span_id, attributes, attribute_map,
        marks, 0 AS span_event
    FROM logs WHERE project = {{project:String}} AND {condition}
    UNION ALL
    SELECT {identity_of_span}, ifNull(parseDateTime64BestEffortOrNull(
            JSONExtractString(event, 'timestamp'), 9, 'UTC'), start_time) AS timestamp,
        if(event_name = 'exception', 'error', 'info') AS level,
        if(event_name = 'exception', concat(attribute_map['exception.type'], ': ',
            attribute_map['exception.message']), event_name) AS message,
        trace_id, id AS span_id, JSONExtractRaw(event, 'attributes') AS attributes,
        JSONExtract(attributes, 'Map(LowCardinality(String), String)') AS attribute_map,
        [] AS marks, 1 AS span_event
    FROM (
        SELECT {columns}, start_time, trace_id, id, event, event_index,
            JSONExtractString(event, 'name') AS event_name
        FROM (
            SELECT {columns}, start_time, trace_id, id, events FROM spans
            WHERE project = {{project:String}} AND {span_condition}
            ORDER BY ended DESC, recorded_at DESC, seq DESC LIMIT 1 BY trace_id, id
        )
        ARRAY JOIN JSONExtractArrayRaw(events) AS event, arrayEnumerate(JSONExtractArrayRaw(events))
            AS event_index
    )
)"""
"""Lines and span events as one table; of a span that was told several times the last word. An event's writer is `{{writer}}/event/{{n}}`: its record id
and its place in a page are its own, though all events of a span share the span's seq."""


def _with_events(query: Query) -> str:
    columns = (
        "project, writer, seq, uid, deployment, build, pod, container, stream, service, recorded_at"
    )
    condition = [
        f"{column} = {{{name}:String}}"
        for name, column in (("traceId", "trace_id"), ("spanId", "span_id"))
        if query[name] is not None
    ]
    return _EVENTS_TOO.format(
        identity=columns,
        identity_of_span=columns.replace(
            "writer", "concat(writer, '/event/', toString(event_index)) AS writer"
        ),
        columns=columns,
        condition=" AND ".join(condition),
        span_condition=" AND ".join(condition).replace("span_id =", "id ="),
    )


def line_item(row: dict[str, Any]) -> LogItem:
    """The item of a row with the identity columns and `log_columns`."""
    return LogItem(
        **identity(row),
        id=f"{row['writer']}#{row['seq']}",
        timestamp=row["time_text"],
        level=row["level"],
        message=row["message"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        attributes=raw_json(row["attributes"]),
        marks=list(row["marks"]),
        span_event=bool(row["span_event"]),
    )


def log_columns() -> str:
    """What `line_item` needs of a row of the table, beside the identity."""
    return _COLUMNS + ", 0 AS span_event"


def logs_where(project: str, query: Query, *, events_too: bool = False) -> Where:
    """The lines that a query asks for."""
    where = basic_where(project, query, "timestamp")
    if query["level"]:
        where.add("level IN {levels:Array(String)}", levels=query["level"])
    if query["text"]:
        add_text(where, "message", query["text"])
    add_attributes(where, query, indexed=not events_too)
    add_search(where, query.search, "logs", indexed=not events_too)
    return where


def log_rows(query: Query) -> str:
    """What stands after FROM: the table, or lines and span events of the trace or span asked for."""
    return _with_events(query) if query.one_trace else "logs"


async def list_logs(reader: Reader, project: str, query: Query) -> Page:
    """A page of log lines. Raises SettingError for a foreign cursor, DatabaseError."""
    events_too = query.one_trace
    return await keyset_page(
        reader,
        signal="logs",
        project=project,
        query=query,
        columns=_COLUMNS + ", span_event" if events_too else log_columns(),
        table=log_rows(query),
        time_column="timestamp",
        where=logs_where(project, query, events_too=events_too),
        item=line_item,
    )
