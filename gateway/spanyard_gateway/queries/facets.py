"""Values of several fields with their counts, in one pass over the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from spanyard_gateway.figures import Facet, Facets, FacetValue


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


def facets_of(fields: Sequence[str], rows: Sequence[Mapping[str, Any]], limit: int) -> Facets:
    """The answer that the rows of `most_frequent` make."""
    values: dict[str, list[FacetValue]] = {field: [] for field in fields}
    for row in rows:
        values[row["field"]].append(FacetValue(row["value"], int(row["found"])))
    return Facets(
        facets=[
            Facet(field=field, values=values[field][:limit], more=len(values[field]) > limit)
            for field in fields
        ]
    )
