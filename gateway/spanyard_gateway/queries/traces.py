"""Traces: the list from root spans and reported traces.

Sums (spans, errors, tokens, cost) are computed for the traces of the page, never kept: a retry or
a dropped partition cannot leave a wrong number behind.
"""

from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.hanging import FINE, Mark, Patience
from spanyard_gateway.items import Page, TraceItem
from spanyard_gateway.params import MAX_LIMIT, Query
from spanyard_gateway.queries.common import (
    add_attributes,
    add_durations,
    add_text,
    basic_where,
    together,
)
from spanyard_gateway.queries.hanging import Open, marks
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.queries.scores import scores_of_traces
from spanyard_gateway.queries.trace_search import EARLIER_S, add_trace_search
from spanyard_gateway.queries.unfinished import (
    ROOTS,
    TRACES,
    Position,
    Row,
    Starts,
    Unfinished,
    behind,
)
from spanyard_gateway.reader import Reader
from spanyard_gateway.search.bound import bound
from spanyard_gateway.where import Where

PARAMS = (
    "limit",
    "cursor",
    "order",
    "from",
    "to",
    "name",
    "status",
    "service",
    "deployment",
    "revision",
    "minDuration",
    "maxDuration",
    "text",
    "q",
    "traceId",
)
_LISTED = "{traces:Array(String)}"
_ORDER = ("trace_id", "writer", "seq")
_WITHIN = " AND ".join(
    f"start_time {sign} {worst}(ifNull((SELECT {told}"
    " FROM trace_index WHERE project = {project:String} AND trace_id IN {traces:Array(String)}),"
    f" {own}), {own})"
    for sign, worst, told, own in (
        (">=", "least", "minOrNull(start_time)", "fromUnixTimestamp64Nano({low:Int64}, 'UTC')"),
        ("<=", "greatest", "maxOrNull(end_time)", "fromUnixTimestamp64Nano({high:Int64}, 'UTC')"),
    )
)
"""Where the traces' spans lie by their index: else the bloom filter of 100 ids lets a tenth of all
granules through. An index that lags behind leaves the rows of the page themselves."""
_COLUMNS = (
    "trace_id, id, writer, seq, name, service, deployment, status, ended, duration_ns,"
    f" {rfc3339('start_time')} AS start_text, if(ended, {rfc3339('end_time')}, '') AS end_text,"
    " toUnixTimestamp64Nano(start_time) AS c_time, toUnixTimestamp64Nano(recorded_at) AS r_time"
)


def trace_filters(project: str, query: Query, *, reported: bool, listed: bool = False) -> Where:
    """Rows of roots, or of reports, that match. `listed`: and what a search asks of all spans is
    looked for in the traces that are bound to `traces` only."""
    where = basic_where(project, query, "start_time")
    if query["status"]:
        where.add("status IN {statuses:Array(String)}", statuses=query["status"])
    if query["revision"]:
        where.add(f"{REVISION} = {{revision:String}}", revision=query["revision"])
    add_durations(where, query)
    if query["text"]:
        add_text(where, "name", query["text"])
    add_attributes(
        where, query, indexed=not reported, document="metadata" if reported else "attributes"
    )
    _add_search(where, query, listed=listed)
    return where


def _add_search(where: Where, query: Query, *, listed: bool) -> None:
    """`listed`: only of the traces that are bound to `traces`, else of all in the query's time."""
    tree = bound(query.search, "traces") if query.search else None
    if listed:
        within, of_reports = f"trace_id IN {_LISTED} AND {_WITHIN}", f"id IN {_LISTED}"
    elif query["from"] is None:
        within = of_reports = "1"
    else:
        # A span ends after its trace began, but it may have begun when some other clock said less.
        within = of_reports = (
            f"start_time >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC') - {EARLIER_S}"
        )
    add_trace_search(where, tree, within, of_reports=of_reports)


async def list_traces(reader: Reader, project: str, query: Query, patience: Patience) -> Page:
    """A page of traces: of each the earliest root or report that matches, by its start."""
    scope = scope_of("traces", project, *query.scope())
    position = decode_cursor(query["cursor"], scope, [int, str]) if query["cursor"] else None
    listing = _Listing(reader, project, query)
    rows = await listing.first(query.limit + 1, position)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    cursor = (
        encode_cursor(scope, [rows[-1]["c_time"], rows[-1]["trace_id"]]) if more and rows else None
    )
    opened = [
        Open(row["trace_id"], row["id"], row["writer"], row["c_time"], row["r_time"])
        for row in rows
        if not row["ended"]
    ]
    known, scores = await together(
        marks(reader, project, opened, patience),
        scores_of_traces(
            reader,
            project,
            [row["trace_id"] for row in rows],
            min((row["c_time"] for row in rows), default=0),
        ),
    )
    return Page(
        items=[
            _item(
                project,
                row,
                known.get((row["trace_id"], row["id"]), FINE),
                scores.get(row["trace_id"], {}),
            )
            for row in rows
        ],
        next_cursor=cursor,
    )


class _Listing:
    """One listing, over the two places where traces show up: root spans and reports."""

    def __init__(self, reader: Reader, project: str, query: Query) -> None:
        self._reader, self._project, self._query = reader, project, query
        self._places = (
            (ROOTS, trace_filters(project, query, reported=False)),
            (TRACES, trace_filters(project, query, reported=True)),
        )

    async def first(self, wanted: int, position: Position | None) -> list[Row]:
        """The rows of the first `wanted` traces behind `position`, with their sums."""
        kept: list[Row] = []
        # A trace that was reported has a row in both places, and one more may lie at the edge.
        size = wanted + wanted // 4 + 4
        while True:
            rows, edge = await self._rows(size, position)
            known = {row["trace_id"] for row in kept}
            sums = await self._sums([row for row in rows if row["trace_id"] not in known])
            for row in rows:
                about = sums.get(row["trace_id"])
                if about is not None and about["first"] == row["c_time"]:
                    kept.append(row | sums.pop(row["trace_id"]))
            if len(kept) >= wanted or edge is None:
                return kept[:wanted]
            position = edge
            size = min(size * 2, 4 * MAX_LIMIT)

    def _key(self, row: Row) -> tuple[Any, ...]:
        return (row["c_time"], *(row[name] for name in _ORDER))

    async def _rows(
        self, size: int, position: Position | None
    ) -> tuple[list[Row], Position | None]:
        """Rows that match, in order and without a hole, and where they end; None: with the last."""
        found: list[Row] = []
        edges: list[tuple[Any, ...]] = []
        nearest = max if self._query.descending else min

        def take(rows: list[Row]) -> None:
            found.extend(rows)
            if len(rows) == size:
                edges.append(self._key(rows[-1]))

        for rows in await together(
            *(self._ended(starts, where, size, position) for starts, where in self._places)
        ):
            take(rows)
        if self._query["minDuration"] is self._query["maxDuration"] is None:
            until = nearest(edges)[0] if edges else None
            searches = [
                Unfinished(self._reader, starts, self._project, self._query, _ORDER, _COLUMNS).rows(
                    where, size, position=position, until=until
                )
                for starts, where in self._places
            ]
            for rows in await together(*searches):
                take(rows)
        found.sort(key=self._key, reverse=self._query.descending)
        if not edges:
            return found, None
        edge = nearest(edges)
        return found[: next(i for i, row in enumerate(found) if self._key(row) == edge) + 1], edge

    async def _ended(
        self, starts: Starts, where: Where, size: int, position: Position | None
    ) -> list[Row]:
        way = "DESC" if self._query.descending else "ASC"
        rest = behind(position, _ORDER, descending=self._query.descending)
        order = ", ".join(f"{name} {way}" for name in ("start_time", *_ORDER))
        return await self._reader.rows(
            f"{starts.aliases} SELECT {_COLUMNS} FROM {starts.table} WHERE ended = 1"
            f" AND ({' OR '.join(starts.halves)}) AND {where.sql()} AND {rest.sql()}"
            f" ORDER BY {order} LIMIT {size}",
            {**where.params, **rest.params},
        )

    async def _sums(self, rows: list[Row]) -> dict[str, Row]:
        """Of each trace: what its spans sum up to, and when its first root or report that matches
        began. A start counts only while its end is not there."""
        if not rows:
            return {}
        roots = trace_filters(self._project, self._query, reported=False, listed=True)
        reports = trace_filters(self._project, self._query, reported=True, listed=True)
        first = (
            " max(ended) AS done, countIf(ended AND matches) AS hits,"
            " minIf(start_time, ended AND matches) AS hit_at,"
            " argMax(matches, (recorded_at, seq)) AS last_matches,"
            " argMax(start_time, (recorded_at, seq)) AS last_at"
        )
        matches = "if(done, hits > 0, last_matches)"
        at = f"toUnixTimestamp64Nano(minIf(if(done, hit_at, last_at), {matches})) AS first"
        spans = (
            f"SELECT trace_id, count() AS spans, countIf(failed) AS errors,"
            f" sum(input) AS input_tokens, sum(output) AS output_tokens, sum(costs) AS cost,"
            f" countIf({matches}) AS matching, {at} FROM ("
            f"WITH root = 1 AND {roots.sql()} AS matches SELECT trace_id, id,"
            " max(status = 'error') AS failed, sumIf(input_tokens, ended) AS input,"
            f" sumIf(output_tokens, ended) AS output, sumIf(cost, ended) AS costs,{first}"
            " FROM spans WHERE project = {project:String} AND trace_id IN {traces:Array(String)}"
            f" AND {_WITHIN} GROUP BY trace_id, id) GROUP BY trace_id"
        )
        reported = (
            f"SELECT trace_id, countIf({matches}) AS matching, {at} FROM ("
            f"{TRACES.aliases}, {reports.sql()} AS matches SELECT trace_id,{first} FROM traces"
            " WHERE project = {project:String} AND id IN {traces:Array(String)}"
            " GROUP BY trace_id) GROUP BY trace_id"
        )
        more = {
            "traces": sorted({row["trace_id"] for row in rows}),
            "low": min(row["c_time"] for row in rows),
            "high": max(row["c_time"] for row in rows),
        }
        of_spans, of_reports = await together(
            self._reader.rows(spans, roots.params | more),
            self._reader.rows(reported, reports.params | more),
        )
        found = {row["trace_id"]: row for row in of_spans}
        nothing = dict.fromkeys(("spans", "errors", "input_tokens", "output_tokens", "cost"), 0)
        for row in of_reports:
            about = found.setdefault(row["trace_id"], nothing | {"matching": 0})
            if row["matching"] and (not about["matching"] or row["first"] < about["first"]):
                about["first"], about["matching"] = row["first"], row["matching"]
        return {trace: about for trace, about in found.items() if about["matching"]}


def _item(project: str, row: Row, mark: Mark, scores: dict[str, float | str]) -> TraceItem:
    return TraceItem(
        id=row["trace_id"],
        project_id=project,
        name=row["name"],
        service=row["service"],
        deployment=row["deployment"],
        start_time=row["start_text"],
        end_time=row["end_text"] or None,
        duration_ns=row["duration_ns"] if row["ended"] else None,
        status=row["status"],
        spans=row["spans"],
        errors=row["errors"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=row["cost"],
        hung=mark.hung,
        lost=mark.lost,
        scores=scores,
    )
