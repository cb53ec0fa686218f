"""Traces: the list from root spans and reported traces, one trace with all its spans.

Sums (spans, errors, tokens, cost) are computed for the traces of the page, never kept: a retry or
a dropped partition cannot leave a wrong number behind.
"""

from typing import Any

from spanyard_core.clickhouse import Database, rfc3339
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import Page, TraceDetail, TraceItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import (
    IDENTITY,
    add_attributes,
    any_json,
    basic_where,
)
from spanyard_gateway.queries.scores import COLUMNS as SCORE_COLUMNS
from spanyard_gateway.queries.scores import score_item
from spanyard_gateway.queries.spans import spans_of_trace
from spanyard_gateway.where import Where

PARAMS = (
    "limit",
    "cursor",
    "order",
    "from",
    "to",
    "name",
    "status",
    "service",
    "deployment",
    "minDuration",
    "maxDuration",
    "text",
    "traceId",
)
MAX_SPANS = 20_000
"""Of one trace; more are cut and told."""


def _where(project: str, query: Query, scope: str, sign: str) -> Where:
    where = basic_where(project, query, "start_time")
    if query["status"]:
        where.add("status IN {statuses:Array(String)}", statuses=query["status"])
    if query["minDuration"] is not None:
        where.add("ended AND duration_ns >= {least:UInt64}", least=query["minDuration"])
    if query["maxDuration"] is not None:
        where.add("ended AND duration_ns <= {most:UInt64}", most=query["maxDuration"])
    if query["text"]:
        where.add("positionCaseInsensitiveUTF8(name, {text:String}) > 0", text=query["text"])
    if query["cursor"]:
        position = decode_cursor(query["cursor"], scope, [int, str])
        at = "fromUnixTimestamp64Nano({c_time:Int64}, 'UTC')"
        where.add(
            f"start_time {sign}= {at} AND (start_time, trace_id) {sign} ({at}, {{c_trace:String}})",
            c_time=position[0],
            c_trace=position[1],
        )
    return where


async def list_traces(
    database: Database, project: str, query: Query, settings: dict[str, Any]
) -> Page:
    """A page of traces by the start of their root."""
    scope = scope_of("traces", project, *query.scope())
    way = "DESC" if query.descending else "ASC"
    sign = "<" if query.descending else ">"
    roots = _where(project, query, scope, sign)
    add_attributes(roots, query)
    told = _where(project, query, scope, sign)
    for i, (key, value) in enumerate(sorted(query.attributes.items())):
        # The same names for the same values: both halves share the bound parameters.
        told.add(
            f"JSONExtractString(metadata, {{ak{i}:String}}) = {{av{i}:String}}",
            **{f"ak{i}": key, f"av{i}": value},
        )
    span_roots = (
        "SELECT trace_id, name, service, deployment, start_time, end_time, ended, duration_ns,"
        f" status FROM spans WHERE root AND {roots.sql()}"
        f" ORDER BY start_time {way}, trace_id {way}, ended DESC LIMIT 1 BY trace_id"
        f" LIMIT {query.limit + 1}"
    )
    reported = (
        "SELECT id AS trace_id, name, service, deployment, start_time, end_time, ended,"
        " toUInt64(greatest(0, toUnixTimestamp64Nano(end_time) - toUnixTimestamp64Nano(start_time)))"
        f" AS duration_ns, status FROM traces WHERE {told.sql()}"
        f" ORDER BY start_time {way}, trace_id {way}, ended DESC LIMIT 1 BY trace_id"
        f" LIMIT {query.limit + 1}"
    )
    rows = await database.rows(
        f"SELECT trace_id, name, service, deployment, {rfc3339('start_time')} AS start_text,"
        f" if(ended, {rfc3339('end_time')}, '') AS end_text, ended, duration_ns, status,"
        " toUnixTimestamp64Nano(start_time) AS c_time"
        f" FROM (SELECT * FROM ({span_roots}) UNION ALL SELECT * FROM ({reported}))"
        f" ORDER BY start_time {way}, trace_id {way}, ended DESC LIMIT 1 BY trace_id"
        f" LIMIT {query.limit + 1}",
        roots.params,
        settings,
    )
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    sums = await _sums(database, project, [r["trace_id"] for r in rows], settings)
    items = [_item(project, row, sums.get(row["trace_id"])) for row in rows]
    cursor = (
        encode_cursor(scope, [rows[-1]["c_time"], rows[-1]["trace_id"]]) if more and rows else None
    )
    return Page(items=items, next_cursor=cursor)


async def _sums(
    database: Database, project: str, traces: list[str], settings: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    if not traces:
        return {}
    rows = await database.rows(
        "SELECT trace_id, uniqExact(id) AS spans, uniqExactIf(id, status = 'error') AS errors,"
        " sumIf(input_tokens, ended) AS input_tokens, sumIf(output_tokens, ended) AS output_tokens,"
        " sumIf(cost, ended) AS cost"
        " FROM spans WHERE project = {project:String} AND trace_id IN {traces:Array(String)}"
        " GROUP BY trace_id",
        {"project": project, "traces": traces},
        settings,
    )
    return {row["trace_id"]: row for row in rows}


def _item(project: str, row: dict[str, Any], sums: dict[str, Any] | None) -> TraceItem:
    sums = sums or {}
    return TraceItem(
        id=row["trace_id"],
        project_id=project,
        name=row["name"],
        service=row["service"],
        deployment=row["deployment"],
        start_time=row["start_text"],
        end_time=row["end_text"] or None,
        duration_ns=row["duration_ns"] if row["ended"] else None,
        status=row["status"],
        spans=sums.get("spans", 0),
        errors=sums.get("errors", 0),
        input_tokens=sums.get("input_tokens", 0),
        output_tokens=sums.get("output_tokens", 0),
        cost=sums.get("cost", 0.0),
    )


async def projects_of_trace(database: Database, trace: str, settings: dict[str, Any]) -> list[str]:
    """Projects in which the trace id occurs, by the index made for this."""
    rows = await database.rows(
        "SELECT DISTINCT project FROM trace_index WHERE trace_id = {trace:String} LIMIT 10",
        {"trace": trace},
        settings,
    )
    return sorted(row["project"] for row in rows)


async def one_trace(
    database: Database, project: str, trace: str, settings: dict[str, Any]
) -> TraceDetail | None:
    """A trace with its spans and scores; None when nothing of it is stored."""
    where = Where()
    where.add("project = {project:String}", project=project)
    where.add("trace_id = {trace:String}", trace=trace)
    spans = await spans_of_trace(database, where, MAX_SPANS + 1, settings)
    scores = await database.rows(
        f"SELECT {IDENTITY}, {SCORE_COLUMNS} FROM scores WHERE {where.sql()}"
        " ORDER BY timestamp, writer, seq LIMIT 1000",
        where.params,
        settings,
    )
    reported = await database.rows(
        f"SELECT {rfc3339('start_time')} AS start_text,"
        f" if(ended, {rfc3339('end_time')}, '') AS end_text, input, output, metadata"
        " FROM traces WHERE project = {project:String} AND id = {trace:String}"
        " ORDER BY ended DESC, recorded_at DESC LIMIT 1",
        where.params,
        settings,
    )
    if not spans and not reported:
        return None
    told = reported[0] if reported else {}
    starts = [s.start_time for s in spans] + ([told["start_text"]] if told else [])
    ends = [s.end_time for s in spans if s.end_time] + (
        [told["end_text"]] if told and told["end_text"] else []
    )
    return TraceDetail(
        id=trace,
        project_id=project,
        start_time=min(starts),
        end_time=max(ends) if ends else None,
        spans=spans[:MAX_SPANS],
        scores=[score_item(row) for row in scores],
        truncated=len(spans) > MAX_SPANS,
        input=any_json(told.get("input", "")),
        output=any_json(told.get("output", "")),
        metadata=any_json(told.get("metadata", "")),
    )
