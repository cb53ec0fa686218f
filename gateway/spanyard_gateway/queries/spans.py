"""Spans: lists without their heavy columns, one span or all of a trace with them.

A start or update of a span (`endTime: null`) is kept apart from ended ones; it counts only until
the end is there, and of several the last one counts.
"""

from typing import Any

import msgspec

from spanyard_core.clickhouse import Database, rfc3339
from spanyard_gateway.items import Page, SpanItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import (
    IDENTITY,
    add_attributes,
    basic_where,
    identity,
    keyset_page,
    raw_json,
)
from spanyard_gateway.where import Where

PARAMS = (
    "limit",
    "cursor",
    "order",
    "from",
    "to",
    "name",
    "status",
    "kind",
    "service",
    "deployment",
    "traceId",
    "spanId",
    "parentSpanId",
    "minDuration",
    "maxDuration",
    "text",
    "open",
)

_LIGHT = (
    "id, trace_id, parent_span_id, name, "
    f"{rfc3339('start_time')} AS start_text, if(ended, {rfc3339('end_time')}, '') AS end_text, "
    "ended, duration_ns, status, status_message, span_kind, model, input_tokens, output_tokens, cost"
)
_HEAVY = _LIGHT + ", attributes, events, links, resource"
_STILL_OPEN = (
    "(ended OR (project, trace_id, id) NOT IN"
    " (SELECT project, trace_id, id FROM spans WHERE project = {project:String} AND ended))"
)


def span_item(row: dict[str, Any]) -> SpanItem:
    """The item of a row with the identity columns and the light or heavy ones."""
    heavy = "attributes" in row
    return SpanItem(
        **identity(row),
        id=row["id"],
        trace_id=row["trace_id"],
        parent_span_id=row["parent_span_id"],
        name=row["name"],
        start_time=row["start_text"],
        end_time=row["end_text"] or None,
        duration_ns=row["duration_ns"] if row["ended"] else None,
        status=row["status"],
        status_message=row["status_message"],
        span_kind=row["span_kind"],
        model=row["model"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=row["cost"],
        attributes=raw_json(row["attributes"]) if heavy else msgspec.UNSET,
        events=raw_json(row["events"], "[]") if heavy else msgspec.UNSET,
        links=raw_json(row["links"], "[]") if heavy else msgspec.UNSET,
        resource=raw_json(row["resource"]) if heavy else msgspec.UNSET,
    )


async def list_spans(
    database: Database, project: str, query: Query, settings: dict[str, Any]
) -> Page:
    """A page of spans, unfinished ones included unless `open=false`."""
    where = basic_where(project, query, "start_time")
    if query["open"] == "true":
        where.add("NOT ended")
        where.add(_STILL_OPEN)
    elif query["open"] == "false":
        where.add("ended")
    else:
        where.add(_STILL_OPEN)
    if query["status"]:
        where.add("status IN {statuses:Array(String)}", statuses=query["status"])
    if query["kind"]:
        where.add("span_kind = {kind:String}", kind=query["kind"])
    if query["minDuration"] is not None:
        where.add("ended AND duration_ns >= {least:UInt64}", least=query["minDuration"])
    if query["maxDuration"] is not None:
        where.add("ended AND duration_ns <= {most:UInt64}", most=query["maxDuration"])
    if query["text"]:
        where.add("positionCaseInsensitiveUTF8(name, {text:String}) > 0", text=query["text"])
    add_attributes(where, query)
    return await keyset_page(
        database,
        signal="spans",
        project=project,
        query=query,
        columns=_LIGHT,
        time_column="start_time",
        where=where,
        item=span_item,
        settings=settings,
    )


async def spans_of_trace(
    database: Database, where: Where, limit: int, settings: dict[str, Any]
) -> list[SpanItem]:
    """All spans that match, whole, oldest first, each id once: its end, else its last update."""
    rows = await database.rows(
        f"SELECT * FROM (SELECT {IDENTITY}, {_HEAVY}, toUnixTimestamp64Nano(start_time) AS c_time,"
        " toUnixTimestamp64Nano(recorded_at) AS r_time"
        f" FROM spans WHERE {where.sql()}"
        " ORDER BY ended DESC, r_time DESC, seq DESC LIMIT 1 BY trace_id, id)"
        f" ORDER BY c_time, id LIMIT {limit}",
        where.params,
        settings,
    )
    return [span_item(row) for row in rows]
