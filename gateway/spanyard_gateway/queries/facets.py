"""Values of several fields with their counts, in one pass over the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_gateway.figures import Facet, Facets, FacetValue
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import range_of


def most_frequent(fields: Sequence[str], rows: str, limit: int) -> str:
    """SQL: `field`, `value`, `found`: of each field the `limit + 1` most frequent values.

    `rows`: what stands after FROM, with columns of these names.
    """
    sets = ", ".join(f"({field})" for field in fields)
    # A row of a set has its own field alone; `grouping` is a bit per field that it has not.
    of = ", ".join(f"grouping({field}) = 0, '{field}'" for field in fields)
    value = ", ".join(f"grouping({field}) = 0, toString({field})" for field in fields)
    return (
        f"SELECT field, value, found FROM (SELECT multiIf({of}, '') AS field,"
        f" multiIf({value}, '') AS value, count() AS found"
        f" FROM {rows} GROUP BY GROUPING SETS ({sets}))"
        f" WHERE value != '' ORDER BY found DESC, value LIMIT {limit + 1} BY field"
    )


def limited(query: Query, now_ns: int) -> Query:
    """The same within a time: a project is not read whole because nobody said from when. What
    belongs to one trace is found by its id, whenever it was. Raises SettingError."""
    return query if query.one_trace else query.between(*range_of(query, now_ns))


def facets_of(fields: Sequence[str], rows: Sequence[Mapping[str, Any]], query: Query) -> Facets:
    """The answer that the rows of `most_frequent` make."""
    limit = query.limit
    values: dict[str, list[FacetValue]] = {field: [] for field in fields}
    for row in rows:
        values[row["field"]].append(FacetValue(row["value"], int(row["found"])))
    start, end = query["from"], query["to"]
    return Facets(
        from_=None if start is None else rfc3339(start),
        to=None if end is None else rfc3339(end),
        facets=[
            Facet(field=field, values=values[field][:limit], more=len(values[field]) > limit)
            for field in fields
        ],
    )
