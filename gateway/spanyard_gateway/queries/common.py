"""What the queries of all signals share: identity columns, filters, keyset pages."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from spanyard_core.clickhouse import Database, rfc3339
from spanyard_core.records import record_id
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import Page
from spanyard_gateway.params import Query
from spanyard_gateway.where import Where

IDENTITY = (
    "project, writer, seq, uid, deployment, build, pod, container, stream, service, "
    f"{rfc3339('recorded_at')} AS recorded_text"
)

_EQUAL = {
    "service": "service",
    "deployment": "deployment",
    "build": "build",
    "pod": "pod",
    "container": "container",
    "stream": "stream",
    "name": "name",
    "traceId": "trace_id",
    "spanId": "span_id",
    "parentSpanId": "parent_span_id",
}


def identity(row: dict[str, Any]) -> dict[str, Any]:
    """The fields that every item has."""
    return {
        "record_id": record_id(row["writer"], row["seq"]),
        "project_id": row["project"],
        "writer": row["writer"],
        "seq": row["seq"],
        "uid": row["uid"],
        "deployment": row["deployment"],
        "build": row["build"],
        "pod": row["pod"],
        "container": row["container"],
        "stream": row["stream"],
        "service": row["service"],
        "recorded_at": row["recorded_text"],
    }


def raw_json(text: str, empty: str = "{}") -> msgspec.Raw:
    """Stored JSON goes out as it is: it was valid when it was loaded."""
    return msgspec.Raw((text or empty).encode())


def any_json(text: str) -> msgspec.Raw | str | None:
    """A stored value of any type: objects and arrays as they are, the rest as text.

    The engine keeps a JSON string without its quotes, so a number and its text look the same.
    """
    if not text:
        return None
    if text[0] in "{[":
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except msgspec.DecodeError:
            return text
        return msgspec.Raw(text.encode())
    return text


def basic_where(project: str, query: Query, time_column: str) -> Where:
    """Project, times, and all filters that compare a column for equality."""
    where = Where()
    where.add("project = {project:String}", project=project)
    if query["from"] is not None:
        where.add(
            f"{time_column} >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC')",
            **{"from": query["from"]},
        )
    if query["to"] is not None:
        where.add(f"{time_column} < fromUnixTimestamp64Nano({{to:Int64}}, 'UTC')", to=query["to"])
    for name, column in _EQUAL.items():
        if query[name] is not None:
            where.add(f"{column} = {{{name}:String}}", **{name: query[name]})
    return where


def add_attributes(where: Where, query: Query, column: str = "attribute_map") -> None:
    """`attr.{key}=value`: exact, on any attribute of the record, at any depth by dotted key."""
    for i, (key, value) in enumerate(sorted(query.attributes.items())):
        where.add(
            attribute_condition(column, f"{{ak{i}:String}}", f"{{av{i}:String}}"),
            **{f"ak{i}": key, f"av{i}": value},
        )


def attribute_condition(column: str, key: str, value: str) -> str:
    """The condition that one attribute has one value; `key` and `value` are SQL."""
    return f"{column}[{key}] = {value}"


def add_keyset(
    where: Where, query: Query, position: Sequence[Any] | None, time_column: str
) -> None:
    """Rows behind the cursor only. The plain comparison of the time lets the index skip."""
    if position is None:
        return
    sign = "<" if query.descending else ">"
    at = "fromUnixTimestamp64Nano({c_time:Int64}, 'UTC')"
    where.add(
        f"{time_column} {sign}= {at} AND ({time_column}, writer, seq) {sign} "
        f"({at}, {{c_writer:String}}, {{c_seq:UInt64}})",
        c_time=position[0],
        c_writer=position[1],
        c_seq=position[2],
    )


async def keyset_page(
    database: Database,
    *,
    signal: str,
    project: str,
    query: Query,
    columns: str,
    time_column: str,
    where: Where,
    item: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    table: str = "",
) -> Page:
    """One page of a table, ordered by time, writer and seq."""
    scope = scope_of(signal, project, *query.scope())
    position = decode_cursor(query["cursor"], scope, [int, str, int]) if query["cursor"] else None
    add_keyset(where, query, position, time_column)
    way = "DESC" if query.descending else "ASC"
    rows = await database.rows(
        f"SELECT {IDENTITY}, {columns}, toUnixTimestamp64Nano({time_column}) AS c_time"
        f" FROM {table or signal} WHERE {where.sql()}"
        f" ORDER BY {time_column} {way}, writer {way}, seq {way}"
        f" LIMIT {query.limit + 1}",
        where.params,
        settings,
    )
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    last = rows[-1] if rows else None
    cursor = (
        encode_cursor(scope, [last["c_time"], last["writer"], last["seq"]])
        if more and last
        else None
    )
    return Page(items=[item(row) for row in rows], next_cursor=cursor)


def number(value: float) -> float | str:
    """JSON has no NaN and no infinities; T1's texts for them."""
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return value
