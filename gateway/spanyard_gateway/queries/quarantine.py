"""The quarantine, as stored; its actions are the ingester's."""

import base64
from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import Page, QuarantineItem
from spanyard_gateway.params import Query
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

_COLUMNS = (
    "id, key, signal, project, writer, line, offset, reason, size, status,"
    f" {rfc3339('created_at')} AS created, base64Encode(bytes) AS raw"
)


def _item(row: dict[str, Any]) -> QuarantineItem:
    return QuarantineItem(
        id=row["id"],
        key=row["key"],
        signal=row["signal"],
        project_id=row["project"],
        writer=row["writer"],
        line=row["line"],
        offset=row["offset"],
        reason=row["reason"],
        size=row["size"],
        status=row["status"],
        quarantined_at=row["created"],
        text=base64.b64decode(row["raw"]).decode("utf-8", "replace"),
    )


async def list_quarantine(reader: Reader, query: Query, tenants: Where) -> Page:
    """A page of what was set aside, by project and id; `tenants` says whose."""
    scope = scope_of("quarantine", *query.scope())
    where = Where()
    where.extend(tenants)
    if query["project"]:
        where.add("project = {project:String}", project=query["project"])
    if query["signal"]:
        where.add("signal = {signal:String}", signal=query["signal"])
    if query["state"]:
        where.add("status = {state:String}", state=query["state"])
    if query["cursor"]:
        position = decode_cursor(query["cursor"], scope, [str, str])
        where.add(
            "(project, id) > ({c_project:String}, {c_id:String})",
            c_project=position[0],
            c_id=position[1],
        )
    rows = await reader.rows(
        f"SELECT {_COLUMNS} FROM quarantine FINAL WHERE {where.sql()}"
        f" ORDER BY project, id LIMIT {query.limit + 1}",
        where.params,
    )
    more = len(rows) > query.limit
    items = [_item(row) for row in rows[: query.limit]]
    return Page(
        items=items,
        next_cursor=encode_cursor(scope, [items[-1].project_id, items[-1].id]) if more else None,
    )


async def one_quarantined(
    reader: Reader, quarantine_id: str, tenants: Where
) -> QuarantineItem | None:
    """One line or object that was set aside; None when the id is unknown, or of none of these
    tenants."""
    where = Where()
    where.extend(tenants)
    where.add("id = {id:String}", id=quarantine_id)
    rows = await reader.rows(
        f"SELECT {_COLUMNS} FROM quarantine FINAL WHERE {where.sql()} LIMIT 1", where.params
    )
    return _item(rows[0]) if rows else None
