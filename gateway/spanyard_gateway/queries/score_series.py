"""Scores over time: per name, or per name and revision, trend, distribution and shares.

A score is a number. One that judges by a word says it in the attribute `label` (OpenTelemetry:
`gen_ai.evaluation.score.label`) beside the number; one that is always 0 or 1 says yes or no.
"""

from typing import Any, Literal

from spanyard_core.clock import rfc3339
from spanyard_gateway.figures import (
    ScoreBar,
    ScorePoint,
    ScoreSeries,
    ScoreSeriesOf,
    ScoreShare,
    ScoreTotal,
)
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import Buckets
from spanyard_gateway.queries.common import add_attributes, basic_where, together
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.reader import Reader

PARAMS = ("from", "to", "name", "deployment", "revision", "traceId", "buckets", "by")
MAX_SERIES = 60
"""Names, or pairs of name and revision: those with most scores."""
MAX_VALUES = 10
"""Labels of a series: the most frequent ones."""
BARS = 10

_LABEL = (
    "if(notEmpty(attribute_map['label']), attribute_map['label'],"
    " attribute_map['gen_ai.evaluation.score.label'])"
)
_SHARE = "(value / 2 - low / 2) / (high / 2 - low / 2)"
"""Where a value lies between the ends. Halves, because the ends may be further apart than a number
can say."""
_GROUPS = {
    "none": ("''", "''"),
    "deployment": ("deployment", "''"),
    "revision": ("deployment", REVISION),
}
_Group = tuple[str, str, str]
_Row = dict[str, Any]


async def score_series(reader: Reader, project: str, query: Query, buckets: Buckets) -> ScoreSeries:
    """The series of what the query asks for, by name."""
    where = basic_where(project, query.between(buckets.start, buckets.end), "timestamp")
    if query["revision"]:
        where.add(f"{REVISION} = {{revision:String}}", revision=query["revision"])
    add_attributes(where, query)
    one, two = _GROUPS[query["by"]]
    rows = (
        f"SELECT name, toString({one}) AS one, toString({two}) AS two, value, {_LABEL} AS label,"
        f" isFinite(value) AS known, {buckets.index_sql('toUnixTimestamp64Nano(timestamp)')} AS piece"
        f" FROM scores WHERE {where.sql()}"
    )
    params = where.params | buckets.params
    kept = await reader.rows(
        f"SELECT name, one, two FROM ({rows}) GROUP BY name, one, two"
        f" ORDER BY count() DESC, name, one, two LIMIT {MAX_SERIES + 1}",
        params,
    )
    more, kept = len(kept) > MAX_SERIES, kept[:MAX_SERIES]
    if more:
        # Every answer a name of its own: what is not shown is not fetched.
        rows += " AND (name, one, two) IN (SELECT arrayJoin(arrayZip({k1:Array(String)}, {k2:Array(String)}, {k3:Array(String)})))"
        for key, column in (("k1", "name"), ("k2", "one"), ("k3", "two")):
            params[key] = [row[column] for row in kept]
    edges = (
        "SELECT name, if(least_value >= 0 AND greatest_value <= 1, 0, least_value) AS low,"
        " if(least_value >= 0 AND greatest_value <= 1, 1, greatest_value) AS high FROM ("
        "SELECT name, minIf(value, known) AS least_value, maxIf(value, known) AS greatest_value"
        f" FROM ({rows}) GROUP BY name)"
    )
    figures, bars, labels = await together(
        reader.rows(
            "SELECT name, one, two, piece, grouping(piece) AS whole, count() AS count,"
            " countIf(known) AS numbers, avgIf(value, known) AS mean, minIf(value, known) AS least,"
            " maxIf(value, known) AS greatest,"
            " quantilesExactIf(0.05, 0.5, 0.95)(value, known) AS ranks,"
            " countIf(value = 0) AS noes, countIf(value = 1) AS yeses,"
            f" countIf(notEmpty(label)) AS labelled FROM ({rows})"
            " GROUP BY GROUPING SETS ((name, one, two, piece), (name, one, two))",
            params,
        ),
        reader.rows(
            "SELECT name, one, two, low, high, if(high > low,"
            f" toUInt8(least({BARS - 1}, floor(ifNotFinite({_SHARE} * {BARS}, 0)))), 0) AS bar,"
            f" count() AS count FROM ({rows} AND isFinite(value)) AS given INNER JOIN ({edges}) AS edge"
            " USING (name) GROUP BY name, one, two, low, high, bar",
            params,
        ),
        reader.rows(
            f"SELECT name, one, two, label, count() AS count FROM ({rows})"
            " WHERE notEmpty(label) GROUP BY name, one, two, label"
            f" ORDER BY count DESC, label LIMIT {MAX_VALUES} BY name, one, two",
            params,
        ),
    )
    return _answer(query["by"], buckets, figures, bars, labels, more=more)


def _group(row: _Row) -> _Group:
    return row["name"], row["one"], row["two"]


def _answer(
    by: str,
    buckets: Buckets,
    figures: list[_Row],
    bars: list[_Row],
    labels: list[_Row],
    *,
    more: bool,
) -> ScoreSeries:
    totals = {_group(row): row for row in figures if row["whole"]}
    pieces = {(_group(row), row["piece"]): row for row in figures if not row["whole"]}
    kinds = {name: _kind([r for g, r in totals.items() if g[0] == name]) for name, _, _ in totals}
    return ScoreSeries(
        from_=rfc3339(buckets.start),
        to=rfc3339(buckets.end),
        step_seconds=buckets.step_s,
        more=more,
        series=[
            ScoreSeriesOf(
                name=group[0],
                deployment=None if by == "none" else group[1],
                revision=group[2] if by == "revision" else None,
                kind=kinds[group[0]],
                total=_total(totals[group]),
                points=[
                    _point(buckets.time(i), pieces.get((group, i))) for i in range(buckets.count)
                ],
                histogram=(
                    _histogram([b for b in bars if _group(b) == group])
                    if kinds[group[0]] == "number"
                    else []
                ),
                values=_shares(kinds[group[0]], totals[group], labels),
            )
            for group in sorted(totals)
        ],
    )


def _kind(rows: list[_Row]) -> Literal["number", "boolean", "category"]:
    if any(row["labelled"] for row in rows):
        return "category"
    if all(row["noes"] + row["yeses"] == row["count"] for row in rows):
        return "boolean"
    return "number"


def _total(row: _Row) -> ScoreTotal:
    p5, p50, p95 = row["ranks"] if row["numbers"] else (None, None, None)
    mean = row["mean"] if row["numbers"] else None
    return ScoreTotal(count=row["count"], mean=mean, p5=p5, p50=p50, p95=p95)


def _point(time: str, row: _Row | None) -> ScorePoint:
    if row is None or not row["numbers"]:
        found = row["count"] if row else 0
        return ScorePoint(time=time, count=found, mean=None, min=None, max=None)
    return ScorePoint(
        time=time, count=row["count"], mean=row["mean"], min=row["least"], max=row["greatest"]
    )


def _histogram(bars: list[_Row]) -> list[ScoreBar]:
    if not bars:
        return []
    low, high = bars[0]["low"], bars[0]["high"]
    if low == high:
        return [ScoreBar(from_=low, to=high, count=sum(b["count"] for b in bars))]
    found = {b["bar"]: b["count"] for b in bars}
    half = high / 2 - low / 2
    edge = [2 * (low / 2 + half * (i / BARS)) for i in range(BARS)] + [high]
    return [ScoreBar(from_=edge[i], to=edge[i + 1], count=found.get(i, 0)) for i in range(BARS)]


def _shares(kind: str, total: _Row, labels: list[_Row]) -> list[ScoreShare]:
    if kind == "boolean":
        return [
            ScoreShare(value="0", count=total["noes"]),
            ScoreShare(value="1", count=total["yeses"]),
        ]
    return [
        ScoreShare(value=row["label"], count=row["count"])
        for row in labels
        if kind == "category" and _group(row) == _group(total)
    ]
