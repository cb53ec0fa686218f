"""Projects and deployments, as far as their records tell."""

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import DeploymentItem, Page, ProjectItem
from spanyard_gateway.params import Query
from spanyard_gateway.reader import Reader


async def list_projects(reader: Reader, query: Query) -> Page:
    """Projects by name, from the ledger's copy: its rows are objects, not records."""
    scope = scope_of("projects")
    after = str(decode_cursor(query["cursor"], scope, [str])[0]) if query["cursor"] else ""
    rows = await reader.rows(
        "SELECT project, toString(toDate(min(time))) AS first_day,"
        " toString(toDate(max(time))) AS last_day, sum(records) AS records"
        " FROM ledger FINAL WHERE status = 'committed' AND project > {after:String}"
        f" GROUP BY project ORDER BY project LIMIT {query.limit + 1}",
        {"after": after},
    )
    more = len(rows) > query.limit
    items = [
        ProjectItem(
            id=row["project"],
            first_day=row["first_day"],
            last_day=row["last_day"],
            records=row["records"],
        )
        for row in rows[: query.limit]
    ]
    return Page(items=items, next_cursor=encode_cursor(scope, [items[-1].id]) if more else None)


async def list_deployments(reader: Reader, query: Query) -> Page:
    """Deployments that wrote logs, by project and name."""
    scope = scope_of("deployments", *query.scope())
    position = (
        decode_cursor(query["cursor"], scope, [str, str, str]) if query["cursor"] else ["", "", ""]
    )
    condition = "project = {project:String}" if query["project"] else "1"
    rows = await reader.rows(
        f"SELECT project, deployment, uid, {rfc3339('min(timestamp)')} AS first_seen,"
        f" {rfc3339('max(timestamp)')} AS last_seen, count() AS logs FROM logs"
        f" WHERE deployment != '' AND {condition} AND (project, deployment, uid) >"
        " ({p:String}, {d:String}, {u:String})"
        f" GROUP BY project, deployment, uid ORDER BY project, deployment, uid"
        f" LIMIT {query.limit + 1}",
        {"project": query["project"] or "", "p": position[0], "d": position[1], "u": position[2]},
    )
    more = len(rows) > query.limit
    items = [
        DeploymentItem(
            project_id=row["project"],
            name=row["deployment"],
            uid=row["uid"],
            first_seen=row["first_seen"],
            last_seen=row["last_seen"],
            logs=row["logs"],
        )
        for row in rows[: query.limit]
    ]
    cursor = (
        encode_cursor(scope, [items[-1].project_id, items[-1].name, items[-1].uid])
        if more
        else None
    )
    return Page(items=items, next_cursor=cursor)
