"""Traces counted by what their roots or reports say, and by the models of their spans.

A trace counts once, by the row that the list shows: the earliest root or report that matches.
"""

from spanyard_gateway.figures import Facets
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import together
from spanyard_gateway.queries.facets import facets_of, most_frequent
from spanyard_gateway.queries.first_rows import first_rows
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.queries.trace_search import EARLIER_S
from spanyard_gateway.queries.traces import PARAMS
from spanyard_gateway.reader import Reader

FACET_PARAMS = (*(name for name in PARAMS if name not in {"cursor", "order"}),)
_OF_ROOTS = ("status", "name", "service", "deployment", "revision")
FACETS = (*_OF_ROOTS, "model")
_FACTS = ("status", "name", "service", "deployment", "pod")


async def trace_facets(reader: Reader, project: str, query: Query) -> Facets:
    """The most frequent values of `FACETS`. Raises SearchError, DatabaseError."""
    rows, params = first_rows(project, query, _FACTS)
    ids, _ = first_rows(project, query, ())
    # The revision of a trace, not of each row: it is dear.
    traces = f"(SELECT status, name, service, deployment, {REVISION} AS revision FROM ({rows}))"
    since = "1"
    if query["from"] is not None:  # as a search for any span has it
        since = f"start_time >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC') - {EARLIER_S}"
    of_roots, of_spans = await together(
        reader.rows(most_frequent(_OF_ROOTS, traces, query.limit), params),
        reader.rows(
            "SELECT 'model' AS field, toString(model) AS value, uniqExact(spans.trace_id) AS found"
            f" FROM spans WHERE project = {{project:String}} AND {since} AND model != ''"
            f" AND spans.trace_id IN (SELECT trace_id FROM ({ids}))"
            f" GROUP BY model ORDER BY found DESC, value LIMIT {query.limit + 1}",
            params,
        ),
    )
    return facets_of(FACETS, [*of_roots, *of_spans], query)
