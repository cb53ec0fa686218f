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
_AFTER_NS = 6 * _HOUR_NS
_MOST_AFTER_NS = 24 * _HOUR_NS
"""Spans that begin so much before the time that is asked for, or after the last of its traces' roots
has ended, are looked for tokens and cost; never later than a day after. The list follows each trace
by its index; for a million of them that is dearer than all the rest."""

_LAST_NS = 2**63 - 1
_ENDS = " UNION ALL ".join(
    f"SELECT max(end_time) AS at FROM {table} WHERE project = {{project:String}} AND {only}"
    " AND start_time >= fromUnixTimestamp64Nano({from:Int64}, 'UTC')"
    " AND start_time < fromUnixTimestamp64Nano({to:Int64}, 'UTC')"
    for table, only in (("spans", "root = 1"), ("traces", "1"))
)
_LATE = (
    "fromUnixTimestamp64Nano(least({latest:Int64}, greatest({to:Int64}, toUnixTimestamp64Nano("
    f"(SELECT max(at) FROM ({_ENDS}))))) + {_AFTER_NS}, 'UTC')"
)

_GROUPS = {
    "none": ("''", "''"),
    "deployment": ("deployment", "''"),
    "revision": ("deployment", REVISION),
}
_FACTS = ("ended", "status", "duration_ns")
_WHOSE = ("deployment", "pod")


async def trace_series(reader: Reader, project: str, query: Query, buckets: Buckets) -> TraceSeries:
    """The series of what the query asks for."""
    asked = _Asked(project, query, buckets)
    kept = None if query["by"] == "none" else await _largest(reader, asked)
    rows = await reader.rows(*asked.series(kept))
    return _answer(rows, query["by"], buckets)


class _Asked:
    """The questions of one request."""

    def __init__(self, project: str, query: Query, buckets: Buckets) -> None:
        self._by: str = query["by"]
        self._buckets = buckets
        self._facts = _FACTS if self._by == "none" else (*_FACTS, *_WHOSE)
        limited = query.between(buckets.start, buckets.end)
        self._traces, self._params = first_rows(project, limited, self._facts)

    def _with_groups(self, traces: str) -> str:
        one, two = _GROUPS[self._by]
        return f"SELECT *, toString({one}) AS one, toString({two}) AS two FROM ({traces})"

    def largest(self) -> tuple[str, dict[str, Any]]:
        """The groups with most traces, one more than is shown."""
        select = (
            f"SELECT one, two FROM ({self._with_groups(self._traces)}) GROUP BY one, two"
            f" ORDER BY count() DESC, one, two LIMIT {MAX_SERIES + 1}"
        )
        return select, self._params

    def series(self, kept: list[tuple[str, str]] | None) -> tuple[str, dict[str, Any]]:
        """Per group and piece of the time, and (`whole`) per group; only `kept` by their names."""
        facts = ("start_ns", *self._facts)
        tokens = (
            "SELECT trace_id, sum(input_tokens) AS given, sum(output_tokens) AS got,"
            " sum(cost) AS paid FROM spans WHERE project = {project:String}"
            " AND ended = 1 AND start_time >= fromUnixTimestamp64Nano({early:Int64}, 'UTC')"
            f" AND start_time < {_LATE}"
            " AND (input_tokens > 0 OR output_tokens > 0 OR cost != 0)"
            " GROUP BY trace_id"
        )
        by_trace = (
            f"SELECT {', '.join(facts)}, given, got, paid"
            f" FROM ({self._traces}) AS t LEFT JOIN ({tokens}) AS s ON t.trace_id = s.trace_id"
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
            " sum(given) AS input, sum(got) AS output, sum(paid) AS costs"
            f" FROM ({self._with_groups(by_trace)})"
            " GROUP BY GROUPING SETS ((other, g1, g2, piece), (other, g1, g2))"
        )
        early = max(0, buckets.start - _BEFORE_NS)
        latest = min(_LAST_NS, buckets.end + _MOST_AFTER_NS) - _AFTER_NS
        return select, params | buckets.params | {"early": early, "latest": latest}


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
