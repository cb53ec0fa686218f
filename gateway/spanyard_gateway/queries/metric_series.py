"""Metrics over time: gauges as they are, counters as rates, histograms as percentiles.

A point of a counter or histogram says what was added since the one before (`delta`, also where it
says nothing), or all since its beginning (`cumulative`): then what is added is the difference to
the point before of the same series, or all of it when it has become less, because the program
began anew. The first point of a series in the time asked for has none before it: it adds nothing,
unless it says that it counts since a moment in that time. An up-down counter that tells its changes
is shown as what it has changed by since the beginning of that time.
"""

from collections.abc import Sequence
from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_gateway.figures import (
    MetricName,
    MetricNames,
    MetricPoint,
    MetricSeries,
    MetricSeriesOf,
)
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import Buckets
from spanyard_gateway.queries.common import add_attributes, basic_where, number
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

NAMES_PARAMS = ("from", "to", "deployment", "revision")
PARAMS = ("from", "to", "name", "deployment", "revision", "buckets", "by", "attribute")
MAX_NAMES = 500
MAX_KEYS = 20
"""Attributes of a metric that are told."""
MAX_SERIES = 20

_Row = dict[str, Any]
_LEVELS = (0.5, 0.95, 0.99)


def _where(project: str, query: Query, buckets: Buckets) -> Where:
    where = basic_where(project, query.between(buckets.start, buckets.end), "timestamp")
    if query["revision"]:
        where.add(f"{REVISION} = {{revision:String}}", revision=query["revision"])
    add_attributes(where, query)
    return where


async def metric_names(reader: Reader, project: str, query: Query, buckets: Buckets) -> MetricNames:
    """What was measured in a time, by name."""
    where = _where(project, query, buckets)
    rows = await reader.rows(
        "SELECT name, argMax(kind, timestamp) AS latest_kind, argMax(unit, timestamp) AS latest_unit,"
        " argMax(description, timestamp) AS described, count() AS points, uniq(series) AS series,"
        f" groupUniqArrayArray({MAX_KEYS})(mapKeys(attribute_map)) AS keys"
        f" FROM metrics WHERE {where.sql()} GROUP BY name ORDER BY name LIMIT {MAX_NAMES + 1}",
        where.params,
    )
    return MetricNames(
        more=len(rows) > MAX_NAMES,
        names=[
            MetricName(
                name=row["name"],
                kind=row["latest_kind"],
                unit=row["latest_unit"],
                description=row["described"],
                points=row["points"],
                series=row["series"],
                attributes=sorted(row["keys"]),
            )
            for row in rows[:MAX_NAMES]
        ],
    )


async def metric_series(
    reader: Reader, project: str, query: Query, buckets: Buckets
) -> MetricSeries:
    """One metric, a series per group."""
    where = _where(project, query, buckets)
    group = {
        "none": "''",
        "deployment": "toString(deployment)",
        "revision": f"concat(toString(deployment), '\\0', {REVISION})",
    }[query["by"]]
    params = where.params | buckets.params
    if query["attribute"]:
        group = "attribute_map[{attribute:String}]"
        params["attribute"] = query["attribute"]
    points = (
        "SELECT kind, unit, value, count, bounds, bucket_counts, timestamp, writer, seq, series,"
        f" temporality, start_time, {group} AS grouped FROM metrics WHERE {where.sql()}"
    )
    frame = (
        "(PARTITION BY series ORDER BY timestamp, writer, seq"
        " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"
    )
    # `behind` is 0 for the first point of a series.
    added = (
        "SELECT kind, unit, bounds, value, grouped, timestamp, count AS now_count,"
        " temporality = 'cumulative' AS running,"
        f" count() OVER {frame} > 1 OR start_time >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC')"
        " AS based,"
        f" lagInFrame(value) OVER {frame} AS was, lagInFrame(count) OVER {frame} AS was_count,"
        f" lagInFrame(bucket_counts) OVER {frame} AS was_buckets, bucket_counts AS now_buckets"
        f" FROM ({points})"
    )
    restarted = "(now_count < was_count OR value < was)"
    same = "length(was_buckets) = length(now_buckets)"
    add = (
        "SELECT kind, unit, bounds, value, grouped, timestamp,"
        " running, NOT running OR based AS known,"
        f" running AND NOT {restarted} AS differs,"
        " if(differs, value - was, value) AS more,"
        " if(differs, toUInt64(now_count - was_count), now_count) AS more_count,"
        f" if(differs AND {same}, arrayMap((a, b) -> toUInt64(if(a >= b, a - b, a)), now_buckets, was_buckets),"
        " now_buckets) AS more_buckets"
        f" FROM ({added})"
    )
    # One name with several kinds is somebody's mistake: the one with most points is shown.
    largest = await reader.rows(
        "SELECT kind, grouped FROM (SELECT kind, grouped, count() AS points,"
        f" sum(count()) OVER (PARTITION BY kind) AS whole FROM ({points}) GROUP BY kind, grouped)"
        f" ORDER BY whole DESC, kind DESC, points DESC, grouped LIMIT {MAX_SERIES + 1}",
        params,
    )
    kind = largest[0]["kind"] if largest else ""
    groups = [row["grouped"] for row in largest if row["kind"] == kind]
    if not groups:
        return _answer(query, buckets, kind, groups, [])
    # An attribute may have a value for each user: what is not shown is not fetched.
    params |= {"kind": kind, "groups": groups[:MAX_SERIES]}
    rows = await reader.rows(
        "SELECT grouped, kind, bounds,"
        f" {buckets.index_sql('toUnixTimestamp64Nano(timestamp)')} AS piece,"
        " argMax(unit, timestamp) AS latest_unit, count() AS points,"
        " avgIf(value, isFinite(value)) AS mean, minIf(value, isFinite(value)) AS least,"
        " maxIf(value, isFinite(value)) AS greatest, countIf(isFinite(value)) AS numbers,"
        " sumIf(more, known AND isFinite(more)) AS added, sumIf(more_count, known) AS counted,"
        " countIf(known) AS knowns, countIf(running) AS runs,"
        " sumIf(value, isFinite(value)) AS changed, sumForEachIf(more_buckets, known) AS buckets"
        f" FROM ({add}) WHERE kind = {{kind:String}} AND grouped IN {{groups:Array(String)}}"
        " GROUP BY grouped, kind, bounds, piece",
        params,
    )
    return _answer(query, buckets, kind, groups, rows)


def _answer(
    query: Query, buckets: Buckets, kind: str, groups: list[str], rows: list[_Row]
) -> MetricSeries:
    """`groups`: by size, one more than is shown says that there are more."""
    found: dict[tuple[str, int], list[_Row]] = {}
    for row in rows:
        found.setdefault((row["grouped"], row["piece"]), []).append(row)
    changes = kind == "updowncounter" and not any(row["runs"] for row in rows)
    return MetricSeries(
        from_=rfc3339(buckets.start),
        to=rfc3339(buckets.end),
        step_seconds=buckets.step_s,
        kind=kind,
        unit=max((row["latest_unit"] for row in rows), default=""),
        more=len(groups) > MAX_SERIES,
        series=[
            MetricSeriesOf(
                **_named(query, group),
                points=_points(
                    kind,
                    buckets,
                    [found.get((group, i), []) for i in range(buckets.count)],
                    changes,
                ),
            )
            for group in groups[:MAX_SERIES]
        ],
    )


def _named(query: Query, group: str) -> dict[str, str | None]:
    if query["attribute"]:
        return {"deployment": None, "revision": None, "value": group}
    deployment, _, revision = group.partition("\0")
    by = query["by"]
    return {
        "deployment": None if by == "none" else deployment,
        "revision": revision if by == "revision" else None,
        "value": None,
    }


def _points(
    kind: str, buckets: Buckets, pieces: list[list[_Row]], changes: bool
) -> list[MetricPoint]:
    if not changes:
        return [_point(kind, buckets.time(i), p, _lasts(buckets, i)) for i, p in enumerate(pieces)]
    made, level, begun = [], 0.0, False
    for i, rows in enumerate(pieces):
        level += sum(row["changed"] for row in rows)
        begun = begun or bool(rows)
        told = number_or_none(level) if begun else None
        made.append(MetricPoint(time=buckets.time(i), mean=told, min=told, max=told))
    return made


def _lasts(buckets: Buckets, index: int) -> float:
    """Seconds of a piece that lie in the time that is asked for."""
    begin = buckets.origin + index * buckets.step_ns
    inside = min(buckets.end, begin + buckets.step_ns) - max(buckets.start, begin)
    return max(inside, 1) / 1e9


def _point(kind: str, time: str, rows: list[_Row], lasts: float) -> MetricPoint:
    point = MetricPoint(time=time)
    if kind == "histogram":
        known = [row for row in rows if row["knowns"]]
        counted = sum(row["counted"] for row in known)
        if known:
            point.rate = counted / lasts
        if counted:
            point.mean = number_or_none(sum(row["added"] for row in known) / counted)
            # Of series with other bounds the most counted ones: percentiles don't add up.
            most = max(known, key=lambda row: (row["counted"], row["bounds"]))
            ranks = [percentile(level, most["bounds"], most["buckets"]) for level in _LEVELS]
            point.p50, point.p95, point.p99 = ranks
    elif kind == "counter":
        known = [row for row in rows if row["knowns"]]
        if known:
            point.rate = number_or_none(sum(row["added"] for row in known) / lasts)
    else:
        numbers = [row for row in rows if row["numbers"]]
        if numbers:
            whole = sum(row["numbers"] for row in numbers)
            point.mean = sum(row["mean"] * row["numbers"] for row in numbers) / whole
            point.min = min(row["least"] for row in numbers)
            point.max = max(row["greatest"] for row in numbers)
    return point


def number_or_none(value: float) -> float | None:
    """A number that JSON can say."""
    return value if isinstance(number(value), float) else None


def percentile(level: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The value that this share of a histogram does not exceed, evenly spread within a bucket.

    Beyond the last bound nothing is known but that: it is the answer, as Prometheus has it.
    """
    whole = sum(counts)
    if not bounds or len(counts) != len(bounds) + 1 or not whole:
        return None
    wanted, below = level * whole, 0
    for i, counted in enumerate(counts[:-1]):
        if counted and below + counted >= wanted:
            high = bounds[i]
            low = bounds[i - 1] if i else min(0.0, high)
            return low + (high - low) * (wanted - below) / counted
        below += counted
    return bounds[-1]
