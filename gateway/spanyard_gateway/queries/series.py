"""Traces over time: counts, failures, percentiles of duration, tokens and cost.

The numbers are those of the list (`traces.list_traces`): a trace counts once, when its earliest
root span or report that matches began, with what that one says; tokens and cost are those of all
its ended spans. One question reads the roots, the reports, and the few spans that have tokens or
cost, and adds them up by trace; the series are folded from that.
"""

from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_gateway.figures import TraceFigures, TracePoint, TraceSeries, TraceSeriesOf
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import Buckets
from spanyard_gateway.queries.first_rows import first_rows
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.queries.traces import PARAMS as LIST_PARAMS
from spanyard_gateway.reader import Reader

PARAMS = (
    *(name for name in LIST_PARAMS if name not in {"limit", "cursor", "order"}),
    "buckets",
    "by",
)
MAX_SERIES = 20
"""The others become one."""

_HOUR_NS = 3_600 * 10**9
_BEFORE_NS = _HOUR_NS
_AFTER_NS = 24 * _HOUR_NS
"""Spans that begin this much before or after the time that is asked for are looked for tokens and
cost of its traces. The list follows each trace by its index; for a million of them that is dearer
than all the rest."""

_GROUPS = {
    "none": ("''", "''"),
    "deployment": ("deployment", "''"),
    "revision": ("deployment", REVISION),
}
# Latest row first where two began at once, as the list in its usual order has it.
_FACTS = "(start_ns, ended, status, duration_ns, deployment, pod)"


async def trace_series(reader: Reader, project: str, query: Query, buckets: Buckets) -> TraceSeries:
    """The series of what the query asks for."""
    asked = _Asked(project, query, buckets)
    kept = None if query["by"] == "none" else await _largest(reader, asked)
    rows = await reader.rows(*asked.series(kept))
    return _answer(rows, query["by"], buckets)


class _Asked:
    """The questions of one request."""

    def __init__(self, project: str, query: Query, buckets: Buckets) -> None:
        limited = query.between(buckets.start, buckets.end)
        self._traces, self._params = first_rows(project, limited, _FACTS)
        self._by: str = query["by"]
        self._buckets = buckets

    def _with_groups(self, traces: str) -> str:
        one, two = _GROUPS[self._by]
        return (
            "SELECT facts.1 AS start_ns, facts.2 AS ended, facts.3 AS status,"
            " facts.4 AS duration_ns, facts.5 AS deployment, facts.6 AS pod,"
            f" toString({one}) AS one, toString({two}) AS two, * EXCEPT facts FROM ({traces})"
        )

    def largest(self) -> tuple[str, dict[str, Any]]:
        """The groups with most traces, one more than is shown."""
        by_trace = f"SELECT argMax(best.1, best.2) AS facts FROM ({self._traces}) GROUP BY trace_id"
        select = (
            f"SELECT one, two FROM ({self._with_groups(by_trace)}) GROUP BY one, two"
            f" ORDER BY count() DESC, one, two LIMIT {MAX_SERIES + 1}"
        )
        return select, self._params

    def series(self, kept: list[tuple[str, str]] | None) -> tuple[str, dict[str, Any]]:
        """Per group and piece of the time, and (`whole`) per group; only `kept` by their names."""
        nothing = "0, 0, '', 0, '', ''"
        tokens = (
            f"SELECT trace_id, CAST((({nothing}), (0, '', 0)), 'Tuple({_TYPES})') AS best,"
            " toUInt8(0) AS hit, input_tokens, output_tokens, cost FROM spans"
            " WHERE project = {project:String} AND ended = 1"
            " AND start_time >= fromUnixTimestamp64Nano({early:Int64}, 'UTC')"
            " AND start_time < fromUnixTimestamp64Nano({late:Int64}, 'UTC')"
            " AND (input_tokens > 0 OR output_tokens > 0 OR cost != 0)"
        )
        by_trace = (
            "SELECT argMaxIf(best.1, best.2, hit) AS facts, sum(input_tokens) AS input_tokens,"
            " sum(output_tokens) AS output_tokens, sum(cost) AS cost FROM ("
            f"SELECT trace_id, CAST(best, 'Tuple({_TYPES})') AS best, toUInt8(1) AS hit,"
            " toUInt64(0) AS input_tokens, toUInt64(0) AS output_tokens, toFloat64(0) AS cost"
            f" FROM ({self._traces}) UNION ALL {tokens}"
            ") GROUP BY trace_id HAVING max(hit)"
        )
        other, params = "0", self._params
        if kept is not None:
            other = "(one, two) NOT IN (SELECT arrayJoin(arrayZip({ones:Array(String)}, {twos:Array(String)})))"
            params = params | {"ones": [one for one, _ in kept], "twos": [two for _, two in kept]}
        buckets = self._buckets
        select = (
            f"SELECT {other} AS other, if(other, '', one) AS g1, if(other, '', two) AS g2,"
            f" {buckets.index_sql('start_ns')} AS piece, grouping(piece) AS whole,"
            " count() AS traces, countIf(status = 'error') AS errors, countIf(ended) AS ends,"
            " quantilesExactIf(0.5, 0.95, 0.99)(duration_ns, ended = 1) AS took,"
            " sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cost) AS costs"
            f" FROM ({self._with_groups(by_trace)})"
            " GROUP BY GROUPING SETS ((other, g1, g2, piece), (other, g1, g2))"
        )
        early, late = max(0, buckets.start - _BEFORE_NS), min(2**63 - 1, buckets.end + _AFTER_NS)
        return select, params | buckets.params | {"early": early, "late": late}


_TYPES = "Tuple(Int64, UInt8, String, UInt64, String, String), Tuple(Int64, String, UInt64)"


async def _largest(reader: Reader, asked: _Asked) -> list[tuple[str, str]] | None:
    """The groups that stay by themselves; None: all of them."""
    rows = await reader.rows(*asked.largest())
    groups = [(row["one"], row["two"]) for row in rows]
    return groups[:MAX_SERIES] if len(groups) > MAX_SERIES else None


def _answer(rows: list[dict[str, Any]], by: str, buckets: Buckets) -> TraceSeries:
    totals = {_group(row): row for row in rows if row["whole"]}
    found = {(_group(row), row["piece"]): row for row in rows if not row["whole"]}
    if by == "none" and not totals:
        totals[False, "", ""] = _NOTHING
    ordered = sorted(totals, key=lambda g: (g[0], -totals[g]["traces"], g))
    return TraceSeries(
        from_=rfc3339(buckets.start),
        to=rfc3339(buckets.end),
        step_seconds=buckets.step_s,
        series=[
            TraceSeriesOf(
                deployment=None if by == "none" or group[0] else group[1],
                revision=group[2] if by == "revision" and not group[0] else None,
                other=group[0],
                total=TraceFigures(**_figures(totals[group])),
                points=[
                    TracePoint(time=buckets.time(i), **_figures(found.get((group, i), _NOTHING)))
                    for i in range(buckets.count)
                ],
            )
            for group in ordered
        ],
    )


_NOTHING: dict[str, Any] = {
    "traces": 0, "errors": 0, "ends": 0, "took": (), "input": 0, "output": 0, "costs": 0.0,
}  # fmt: skip


def _group(row: dict[str, Any]) -> tuple[bool, str, str]:
    return bool(row["other"]), row["g1"], row["g2"]


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    p50, p95, p99 = row["took"] if row["ends"] else (None, None, None)
    return {
        "traces": row["traces"],
        "errors": row["errors"],
        "p50_ns": p50,
        "p95_ns": p95,
        "p99_ns": p99,
        "input_tokens": row["input"],
        "output_tokens": row["output"],
        "cost": row["costs"],
    }
