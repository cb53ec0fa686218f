"""What is stored of a deployment's story: lines, its builds' lines, root spans, scores.

One query: each table gives its first rows behind the cursor, in the order in which it lies, and the
first of all of them are the page. Columns are slim: of a line its first thousand characters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_core.records import record_id
from spanyard_gateway.items import TimelineItem, TimelineKind
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import number
from spanyard_gateway.queries.revisions import REVISION
from spanyard_gateway.reader import Reader
from spanyard_gateway.timeline.entries import KINDS, Entry, Place
from spanyard_gateway.where import Where

NOTABLE_LEVELS = ["warn", "error", "fatal"]
SLOW_NS = 10 * 10**9
"""Root spans that take longer are notable, where the caller names no other time."""
STORED: tuple[TimelineKind, ...] = ("build:log", "server:log", "span", "score")
_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Whose:
    """The deployment whose records are meant, and its builds."""

    project: str
    name: str
    uid: str
    """One made again under the same name is another; empty: whichever."""
    builds: Mapping[str, str]
    """Id → uid."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A table that gives one kind of entry. The columns come in the order of `_NAMES`."""

    table: str
    time: str
    a: str
    b: str
    c: str
    columns: str

    def order(self, way: str) -> str:
        """As the table lies, so that only its first rows are read."""
        return ", ".join(f"{column} {way}" for column in (self.time, self.a, self.b, self.c, "seq"))


_NAMES = (
    "title", "level", "status", "detail", "duration", "trace", "span", "build", "pod", "container",
    "value", "revision",
)  # fmt: skip
_LINE = (
    f"substringUTF8(message, 1, {_TEXT}), toString(level), '', '', toUInt64(0), trace_id, span_id,"
    " toString(build), toString(pod), toString(container), toFloat64(0),"
    f" {REVISION}"
)
_SOURCES: dict[TimelineKind, _Source] = {
    "build:log": _Source("logs", "timestamp", "writer", "''", "''", _LINE),
    "server:log": _Source("logs", "timestamp", "writer", "''", "''", _LINE),
    "span": _Source(
        "spans",
        "start_time",
        "trace_id",
        "id",
        "writer",
        f"toString(name), '', toString(status), substringUTF8(status_message, 1, {_TEXT}),"
        " duration_ns, trace_id, id, '', toString(pod), toString(container), toFloat64(0),"
        f" {REVISION}",
    ),
    "score": _Source(
        "scores",
        "timestamp",
        "writer",
        "''",
        "''",
        f"toString(name), '', '', substringUTF8(comment, 1, {_TEXT}), toUInt64(0), trace_id,"
        " span_id, '', toString(pod), toString(container), value,"
        f" {REVISION}",
    ),
}


async def stored_entries(
    reader: Reader,
    whose: Whose,
    query: Query,
    wanted: int,
    *,
    kinds: Sequence[TimelineKind],
    behind: Place | None,
) -> list[Entry]:
    """The first `wanted` of these kinds in order, behind a place. Raises DatabaseError."""
    params: dict[str, Any] = {}
    way = "DESC" if query.descending else "ASC"
    parts = []
    for kind in kinds:
        if kind not in STORED or (kind == "build:log" and not whose.builds):
            continue
        where = _asked_for(kind, whose, query)
        _add_place(where, kind, behind, descending=query.descending)
        parts.append(_select(kind, where, way, wanted))
        params |= where.params
    if not parts:
        return []
    order = ", ".join(f"{column} {way}" for column in ("at", "rank", "a", "b", "c", "n"))
    rows = await reader.rows(
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY {order} LIMIT {wanted}", params
    )
    return [_entry(row) for row in rows]


def _select(kind: TimelineKind, where: Where, way: str, wanted: int) -> str:
    source = _SOURCES[kind]
    inner = (
        f"SELECT toUnixTimestamp64Nano({source.time}), toInt64({KINDS.index(kind)}),"
        f" toString({source.a}), toString({source.b}), toString({source.c}), seq, toString(writer),"
        f" {rfc3339(source.time)}, {source.columns}"
        f" FROM {source.table} WHERE {where.sql()}"
        f" ORDER BY {source.order(way)} LIMIT {wanted}"
    )
    names = ", ".join(("at", "rank", "a", "b", "c", "n", "of", "time_text", *_NAMES))
    # Named outside: an alias that is a column's name would take its place in the conditions.
    return f"(SELECT * FROM ({inner}) AS t ({names}))"


def _asked_for(kind: TimelineKind, whose: Whose, query: Query) -> Where:
    where, time = Where(), _SOURCES[kind].time
    where.add("project = {project:String}", project=whose.project)
    if query["from"] is not None:
        where.add(f"{time} >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC')",
                  **{"from": query["from"]})  # fmt: skip
    if query["to"] is not None:
        where.add(f"{time} < fromUnixTimestamp64Nano({{to:Int64}}, 'UTC')", to=query["to"])
    if kind == "build:log":
        uids = sorted({"", *whose.builds.values()})
        where.add("build IN {builds:Array(String)}", builds=sorted(whose.builds))
        where.add("uid IN {buildUids:Array(String)}", buildUids=uids)
    else:
        where.add("deployment = {deployment:String}", deployment=whose.name)
        if whose.uid:
            where.add("uid IN ('', {uid:String})", uid=whose.uid)
    notable = query["notable"] != "false"
    levels = query["level"] or (NOTABLE_LEVELS if notable else None)
    if _SOURCES[kind].table == "logs" and levels:
        where.add("level IN {levels:Array(String)}", levels=levels)
    if kind == "span":
        where.add("ended = 1 AND root = 1")
        slow = query["minDuration"]
        if slow is None and notable:
            slow = SLOW_NS
        if slow is not None:
            where.add("status = 'error' OR duration_ns >= {slow:UInt64}", slow=slow)
    return where


def _add_place(where: Where, kind: TimelineKind, behind: Place | None, *, descending: bool) -> None:
    """Rows behind the place only. The plain comparison of the time lets the index skip."""
    if behind is None:
        return
    source, rank = _SOURCES[kind], KINDS.index(kind)
    sign = "<" if descending else ">"
    at = "fromUnixTimestamp64Nano({p_at:Int64}, 'UTC')"
    if rank == behind.rank:
        where.add(
            f"{source.time} {sign}= {at} AND ({source.time}, {source.a}, {source.b},"
            f" {source.c}, seq) {sign}"
            f" ({at}, {{p_a:String}}, {{p_b:String}}, {{p_c:String}}, {{p_n:UInt64}})",
            p_at=behind.at,
            p_a=behind.a,
            p_b=behind.b,
            p_c=behind.c,
            p_n=behind.n,
        )
    else:
        after = rank < behind.rank if descending else rank > behind.rank
        where.add(f"{source.time} {sign}{'=' if after else ''} {at}", p_at=behind.at)


def _entry(row: dict[str, Any]) -> Entry:
    kind = KINDS[row["rank"]]
    record = record_id(row["of"], row["n"])
    item = TimelineItem(
        id=f"{kind}/{record}",
        time=row["time_text"],
        kind=kind,
        title=row["title"],
        detail=row["detail"],
        level=row["level"],
        status=row["status"],
        duration_ns=row["duration"] if kind == "span" else None,
        build_id=row["build"],
        revision=row["revision"],
        pod=row["pod"],
        container=row["container"],
        trace_id=row["trace"],
        span_id=row["span"],
        record_id=record,
        value=number(row["value"]) if kind == "score" else None,
    )
    return Entry(Place(row["at"], row["rank"], row["a"], row["b"], row["c"], row["n"]), item)
