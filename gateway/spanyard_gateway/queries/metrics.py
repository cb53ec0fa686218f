"""Metric points."""

from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.items import MetricItem, Page
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
    "metricKind",
    "service",
    "deployment",
    "traceId",
    "spanId",
)

_COLUMNS = (
    f"{rfc3339('timestamp')} AS time_text, name, kind, value, unit, trace_id, span_id, attributes,"
    " count, bounds, bucket_counts"
)


def _item(row: dict[str, Any]) -> MetricItem:
    return MetricItem(
        **identity(row),
        id=f"{row['writer']}#{row['seq']}",
        name=row["name"],
        kind=row["kind"],
        value=number(row["value"]),
        unit=row["unit"],
        timestamp=row["time_text"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        attributes=raw_json(row["attributes"]),
        count=row["count"],
        bounds=list(row["bounds"]),
        bucket_counts=list(row["bucket_counts"]),
    )


async def list_metrics(reader: Reader, project: str, query: Query) -> Page:
    """A page of metric points."""
    where = basic_where(project, query, "timestamp")
    if query["metricKind"]:
        where.add("kind = {metricKind:String}", metricKind=query["metricKind"])
    add_attributes(where, query)
    return await keyset_page(
        reader,
        signal="metrics",
        project=project,
        query=query,
        columns=_COLUMNS,
        time_column="timestamp",
        where=where,
        item=_item,
    )
