"""Traces counted by what their roots or reports say, and by the models of their spans.

A trace counts once, by the row that the list shows: the earliest root or report that matches.
"""

from spanyard_gateway.figures import Facets
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import together
from spanyard_gateway.queries.facets import facets_of, most_frequent
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.queries.traces import PARAMS, trace_filters
from spanyard_gateway.queries.unfinished import TRACES
from spanyard_gateway.reader import Reader

FACET_PARAMS = (*(name for name in PARAMS if name not in {"cursor", "order"}),)
_OF_ROOTS = ("status", "name", "service", "deployment", "revision")
FACETS = (*_OF_ROOTS, "model")
_ROW = (
    f"trace_id, start_time, writer, seq, status, name, service, deployment, {REVISION} AS revision"
)


async def trace_facets(reader: Reader, project: str, query: Query) -> Facets:
    """The most frequent values of `FACETS`. Raises SearchError, DatabaseError."""
    roots = trace_filters(project, query, reported=False)
    reports = trace_filters(project, query, reported=True)
    params = roots.params | reports.params
    matching = (
        f"SELECT {_ROW} FROM spans WHERE root = 1 AND {roots.sql()} AND (ended = 1"
        " OR (trace_id, id) NOT IN (SELECT spans.trace_id, spans.id FROM spans"
        " WHERE project = {project:String} AND root = 1 AND ended = 1))"
    )
    reported = (
        f"{TRACES.aliases} SELECT {_ROW} FROM traces WHERE {reports.sql()} AND (ended = 1"
        " OR id NOT IN (SELECT traces.id FROM traces"
        " WHERE project = {project:String} AND ended = 1))"
    )
    rows = f"SELECT * FROM ({matching}) UNION ALL SELECT * FROM ({reported})"
    first = ", ".join(f"argMin({name}, (start_time, writer, seq)) AS {name}" for name in _OF_ROOTS)
    traces = f"(SELECT trace_id, {first} FROM ({rows}) GROUP BY trace_id)"
    of_roots, of_spans = await together(
        reader.rows(most_frequent(_OF_ROOTS, traces, query.limit), params),
        reader.rows(
            "SELECT 'model' AS field, toString(model) AS value, uniqExact(spans.trace_id) AS found"
            " FROM spans WHERE project = {project:String} AND model != ''"
            f" AND spans.trace_id IN (SELECT trace_id FROM ({rows}))"
            f" GROUP BY model ORDER BY found DESC, value LIMIT {query.limit + 1}",
            params,
        ),
    )
    return facets_of(FACETS, [*of_roots, *of_spans], query.limit)
