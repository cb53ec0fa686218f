"""What the queries of all signals share: identity columns, filters, keyset pages."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from spanyard_core.clickhouse import attribute_is, rfc3339
from spanyard_core.records import record_id
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import Page
from spanyard_gateway.params import Query
from spanyard_gateway.reader import Reader
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
    "parentSpanId": "parent_span_id",
    "writer": "writer",
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
    """Stored JSON as it is; of what is none, its text, so that one row never spoils a page."""
    if text in {"", "null"}:
        text = empty
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        unreadable = {"spanyard.unreadable": text}
        return msgspec.Raw(msgspec.json.encode(unreadable if empty == "{}" else [unreadable]))
    return msgspec.Raw(text.encode())


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


def time_where(project: str, query: Query, time_column: str) -> Where:
    """Project and times."""
    where = Where()
    where.add("project = {project:String}", project=project)
    if query["from"] is not None:
        where.add(
            f"{time_column} >= fromUnixTimestamp64Nano({{from:Int64}}, 'UTC')",
            **{"from": query["from"]},
        )
    if query["to"] is not None:
        where.add(f"{time_column} < fromUnixTimestamp64Nano({{to:Int64}}, 'UTC')", to=query["to"])
    return where


def basic_where(project: str, query: Query, time_column: str, *, span_id: str = "span_id") -> Where:
    """Project, times, and all filters that compare a column for equality.

    `span_id` is the column that `spanId` means.
    """
    where = time_where(project, query, time_column)
    for name, column in {**_EQUAL, "spanId": span_id}.items():
        if query[name] is not None:
            where.add(f"{column} = {{{name}:String}}", **{name: query[name]})
    return where


INDEXED_BYTES = 256
"""Longer values are in `attributes` alone (`spanyard_core.clickhouse.lines`)."""


def add_attributes(
    where: Where, query: Query, *, indexed: bool = True, document: str = "attributes"
) -> None:
    """`attr.{key}=value`: exact, by its text, on attributes of the first level.

    `indexed`: the table has `attribute_map` with its text index. `document` has the JSON, where the
    index is of no use.
    """
    for i, (key, value) in enumerate(sorted(query.attributes.items())):
        names = f"{{ak{i}:String}}", f"{{av{i}:String}}"
        condition = attribute_equals(key, value, names, indexed=indexed, document=document)
        where.add(condition, **{f"ak{i}": key, f"av{i}": value})


def attribute_equals(
    key: str, value: str, names: tuple[str, str], *, indexed: bool, document: str
) -> str:
    """SQL: that the attribute `key` has this value; both are bound to the `names`."""
    if indexed and len(value.encode()) <= INDEXED_BYTES and not _cut_in_the_index(key):
        return attribute_is(*names)
    every = every_attribute(document)
    return f"mapContains({every}, {names[0]}) AND {every}[{names[0]}] = {names[1]}"


def every_attribute(document: str) -> str:
    """SQL: all attributes of the first level of a JSON, long ones too, as a map of texts."""
    return f"JSONExtract({document}, 'Map(LowCardinality(String), String)')"


def _cut_in_the_index(key: str) -> bool:
    return key == "," or key.endswith("',")


def add_durations(where: Where, query: Query) -> None:
    """`minDuration` and `maxDuration`: of what has ended."""
    if query["minDuration"] is not None:
        where.add("ended AND duration_ns >= {least:UInt64}", least=query["minDuration"])
    if query["maxDuration"] is not None:
        where.add("ended AND duration_ns <= {most:UInt64}", most=query["maxDuration"])


def add_text(where: Where, column: str, text: str) -> None:
    """`text`: anywhere in the column, any case; no character of it is special.

    By reading: the text index would take 0.4 s to find the words of which this is a part, where the
    newest hundred lines with a common word take 0.01 s (2 million lines).
    """
    where.add(f"positionCaseInsensitiveUTF8({column}, {{text:String}}) > 0", text=text)


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


def keyset_select(
    table: str, columns: str, where: Where, query: Query, time_column: str, limit: int
) -> str:
    """`SELECT` of identity, columns and `c_time`, ordered by time, writer and seq."""
    way = "DESC" if query.descending else "ASC"
    return (
        f"SELECT {IDENTITY}, {columns}, toUnixTimestamp64Nano({time_column}) AS c_time"
        f" FROM {table} WHERE {where.sql()}"
        f" ORDER BY {time_column} {way}, writer {way}, seq {way} LIMIT {limit}"
    )


def keyset_position(query: Query, scope: str) -> list[int | str] | None:
    """Where the page before ended. Raises SettingError for a foreign cursor."""
    return decode_cursor(query["cursor"], scope, [int, str, int]) if query["cursor"] else None


def keyset_result(
    rows: list[dict[str, Any]], query: Query, scope: str, item: Callable[[dict[str, Any]], Any]
) -> Page:
    """The page of ordered rows, of which one more than `limit` says that there are more."""
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    last = rows[-1] if rows else None
    cursor = (
        encode_cursor(scope, [last["c_time"], last["writer"], last["seq"]])
        if more and last
        else None
    )
    return Page(items=[item(row) for row in rows], next_cursor=cursor)


async def keyset_page(
    reader: Reader,
    *,
    signal: str,
    project: str,
    query: Query,
    columns: str,
    time_column: str,
    where: Where,
    item: Callable[[dict[str, Any]], Any],
    table: str = "",
) -> Page:
    """One page of a table, ordered by time, writer and seq."""
    scope = scope_of(signal, project, *query.scope())
    add_keyset(where, query, keyset_position(query, scope), time_column)
    select = keyset_select(table or signal, columns, where, query, time_column, query.limit + 1)
    return keyset_result(await reader.rows(select, where.params), query, scope, item)


async def together(*questions: Coroutine[Any, Any, Any]) -> list[Any]:
    """The answers to several questions, asked side by side; one that fails ends the others."""
    tasks = [asyncio.create_task(question) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # the first error is on its way


def number(value: float) -> float | str:
    """JSON has no NaN and no infinities; T1's texts for them."""
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return value
