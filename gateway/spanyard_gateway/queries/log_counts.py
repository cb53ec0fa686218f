"""Log lines counted: over time by level, and by the values of their fields."""

from spanyard_core.clock import rfc3339
from spanyard_gateway.figures import Facets, LogBucket, LogHistogram
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import Buckets
from spanyard_gateway.queries.facets import facets_of, most_frequent
from spanyard_gateway.queries.logs import PARAMS, log_rows, logs_where
from spanyard_gateway.reader import Reader

_FILTERS = tuple(name for name in PARAMS if name not in {"limit", "cursor", "order"})
HISTOGRAM_PARAMS = (*_FILTERS, "buckets")
FACET_PARAMS = (*_FILTERS, "limit")
FACETS = ("level", "stream", "container", "deployment", "pod", "service")


async def log_histogram(
    reader: Reader, project: str, query: Query, buckets: Buckets
) -> LogHistogram:
    """The lines of each piece of the time. Raises SearchError, DatabaseError."""
    where = logs_where(
        project, query.between(buckets.start, buckets.end), events_too=query.one_trace
    )
    rows = await reader.rows(
        f"SELECT {buckets.index_sql('toUnixTimestamp64Nano(timestamp)')} AS piece, level,"
        f" count() AS lines FROM {log_rows(query)} WHERE {where.sql()} GROUP BY piece, level",
        where.params | buckets.params,
    )
    levels: list[dict[str, int]] = [{} for _ in range(buckets.count)]
    for row in rows:
        levels[int(row["piece"])][row["level"]] = int(row["lines"])
    return LogHistogram(
        from_=rfc3339(buckets.start),
        to=rfc3339(buckets.end),
        step_seconds=buckets.step_s,
        buckets=[
            LogBucket(time=buckets.time(i), total=sum(found.values()), levels=found)
            for i, found in enumerate(levels)
        ],
    )


async def log_facets(reader: Reader, project: str, query: Query) -> Facets:
    """The most frequent values of `FACETS`. Raises SearchError, DatabaseError."""
    where = logs_where(project, query, events_too=query.one_trace)
    rows = await reader.rows(
        most_frequent(FACETS, f"{log_rows(query)} WHERE {where.sql()}", query.limit),
        where.params,
    )
    return facets_of(FACETS, rows, query)
