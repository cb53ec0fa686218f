"""Scores."""

from collections.abc import Sequence
from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.items import Page, ScoreItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import (
    add_attributes,
    basic_where,
    identity,
    keyset_page,
    number,
    raw_json,
)
from spanyard_gateway.reader import Reader

PARAMS = (
    "limit",
    "cursor",
    "order",
    "from",
    "to",
    "name",
    "minValue",
    "maxValue",
    "deployment",
    "traceId",
    "spanId",
)

COLUMNS = (
    f"{rfc3339('timestamp')} AS time_text, name, value, trace_id, span_id, comment, attributes"
)


def score_item(row: dict[str, Any]) -> ScoreItem:
    """The item of a row with the identity columns and COLUMNS."""
    return ScoreItem(
        **identity(row),
        id=f"{row['writer']}#{row['seq']}",
        name=row["name"],
        value=number(row["value"]),
        timestamp=row["time_text"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        comment=row["comment"],
        attributes=raw_json(row["attributes"]),
    )


_SKEW_NS = 60 * 10**9
"""Clocks may differ so much: a score may be of before its trace."""
MOST_NAMES = 20
"""Of one trace; one with more shows its first ones by name."""


async def scores_of_traces(
    reader: Reader, project: str, traces: Sequence[str], began_ns: int
) -> dict[str, dict[str, float | str]]:
    """The newest value of each name, of traces and their spans, by trace; `began_ns` is when the
    first of them began. Raises DatabaseError."""
    if not traces:
        return {}
    rows = await reader.rows(
        "SELECT trace_id, name, argMax(value, (timestamp, recorded_at, seq)) AS newest FROM scores"
        " WHERE project = {project:String} AND trace_id IN {traces:Array(String)}"
        " AND timestamp >= fromUnixTimestamp64Nano({low:Int64}, 'UTC')"
        f" GROUP BY trace_id, name ORDER BY trace_id, name LIMIT {MOST_NAMES} BY trace_id",
        {"project": project, "traces": list(traces), "low": max(0, began_ns - _SKEW_NS)},
    )
    found: dict[str, dict[str, float | str]] = {}
    for row in rows:
        found.setdefault(row["trace_id"], {})[row["name"]] = number(row["newest"])
    return found


async def list_scores(reader: Reader, project: str, query: Query) -> Page:
    """A page of scores."""
    where = basic_where(project, query, "timestamp")
    if query["minValue"] is not None:
        where.add("value >= {minValue:Float64}", minValue=query["minValue"])
    if query["maxValue"] is not None:
        where.add("value <= {maxValue:Float64}", maxValue=query["maxValue"])
    add_attributes(where, query)
    return await keyset_page(
        reader,
        signal="scores",
        project=project,
        query=query,
        columns=COLUMNS,
        time_column="timestamp",
        where=where,
        item=score_item,
    )
