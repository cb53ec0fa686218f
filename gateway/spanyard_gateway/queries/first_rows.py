"""Of each trace the row that counts: its earliest root or report that matches.

The list finds it page by page (`traces.list_traces`); what counts traces asks for all in one go.
Of an unfinished one the last word counts, and a start only while its end is not there.
"""

from typing import Any

from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import time_where
from spanyard_gateway.queries.traces import trace_filters
from spanyard_gateway.queries.unfinished import TRACES
from spanyard_gateway.where import Where

_AT = "toUnixTimestamp64Nano(start_time) AS start_ns"
_FIRST = "(-start_ns, writer, seq)"


def first_rows(project: str, query: Query, facts: str) -> tuple[str, dict[str, Any]]:
    """SQL and what it binds: `trace_id`, and `best`: the facts, and what the best has the most of.

    A trace has a row of its roots and one of its report: take `argMax(best.1, best.2)`. `facts`: a
    tuple over columns that roots and reports have, and over `start_ns`.
    """
    roots = trace_filters(project, query, reported=False)
    reports = trace_filters(project, query, reported=True)
    within = time_where(project, query, "start_time")

    def of(table: str, key: str, aliases: str, where: Where, only: str) -> str:
        return (
            f"SELECT trace_id, if(done, first, last) AS best FROM ("
            f"{aliases or 'WITH'}{', ' if aliases else ' '}{where.sql()} AS matches, {_AT}"
            f" SELECT {key}, max(ended) AS done, countIf(ended AND matches) AS hits,"
            f" argMaxIf(({facts}, {_FIRST}), {_FIRST}, ended AND matches) AS first,"
            f" argMax(matches, (recorded_at, seq)) AS last_matches,"
            f" argMax(({facts}, {_FIRST}), (recorded_at, seq)) AS last"
            f" FROM {table} WHERE {within.sql()}{only} GROUP BY {key})"
            f" WHERE if(done, hits > 0, last_matches)"
        )

    of_roots = of("spans", "trace_id, id", "", roots, " AND root = 1")
    of_reports = of("traces", "trace_id", TRACES.aliases, reports, "")
    return (
        f"{of_roots} UNION ALL {of_reports}",
        roots.params | reports.params | within.params,
    )
