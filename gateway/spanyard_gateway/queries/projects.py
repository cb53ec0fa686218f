"""Projects and deployments: what is declared of them, and what their records tell."""

from collections.abc import Sequence
from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_core.resources.kinds import Deployment, Project, project_id, resource_id
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.items import DeploymentItem, Page, ProjectItem
from spanyard_gateway.keeper import shown
from spanyard_gateway.params import Query
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

_STORED = (
    "SELECT project, toString(toDate(min(time))) AS first_day,"
    " toString(toDate(max(time))) AS last_day, sum(records) AS records"
    " FROM ledger FINAL WHERE status = 'committed' AND {condition}"
    " GROUP BY project ORDER BY project"
)
"""From the ledger's copy: its rows are objects, not records."""


async def list_projects(
    reader: Reader, declared: Sequence[Project], query: Query, tenants: Where
) -> Page:
    """Projects by id: those that are declared, and those that have records.

    `tenants` says whose; of `declared` the caller has left out the others.
    """
    scope = scope_of("projects")
    after = str(decode_cursor(query["cursor"], scope, [str])[0]) if query["cursor"] else ""
    wanted = query.limit + 1
    rows = await reader.rows(
        _STORED.format(condition=f"project > {{after:String}} AND {tenants.sql()}")
        + f" LIMIT {wanted}",
        {"after": after, **tenants.params},
    )
    stored = {row["project"]: row for row in rows}
    known = {resource_id(p): p for p in declared if resource_id(p) > after}
    ids = sorted(stored.keys() | known.keys())
    if len(rows) == wanted:
        ids = [name for name in ids if name <= rows[-1]["project"]]  # further ones were not asked
    items = [_project(name, stored.get(name), known.get(name)) for name in ids[: query.limit]]
    more = len(ids) > query.limit
    return Page(items=items, next_cursor=encode_cursor(scope, [items[-1].id]) if more else None)


async def one_project(reader: Reader, name: str, declared: Project | None) -> ProjectItem | None:
    """A project; None when nothing is known of it."""
    rows = await reader.rows(
        _STORED.format(condition="project = {project:String}"), {"project": name}
    )
    if not rows and declared is None:
        return None
    return _project(name, rows[0] if rows else None, declared)


def _project(name: str, row: dict[str, Any] | None, declared: Project | None) -> ProjectItem:
    return ProjectItem(
        id=name,
        first_day=row["first_day"] if row else None,
        last_day=row["last_day"] if row else None,
        records=row["records"] if row else 0,
        resource=shown(declared) if declared else None,
    )


def declared_deployments(found: Sequence[Deployment], query: Query) -> Page:
    """A page of deployments by id, from what keeps them; works without ClickHouse."""
    scope = scope_of("declared deployments", *query.scope())
    after = str(decode_cursor(query["cursor"], scope, [str])[0]) if query["cursor"] else ""
    rest = sorted((d for d in found if resource_id(d) > after), key=resource_id)
    items = [declared_deployment(d) for d in rest[: query.limit]]
    more = len(rest) > query.limit
    return Page(items=items, next_cursor=encode_cursor(scope, [items[-1].id]) if more else None)


def declared_deployment(found: Deployment) -> DeploymentItem:
    """A deployment as it was declared."""
    return DeploymentItem(
        id=resource_id(found),
        project_id=project_id(found),
        name=found.metadata.name,
        uid=found.metadata.uid,
        resource=shown(found),
    )


_SEEN = (
    f"SELECT project, deployment, uid, {rfc3339('min(timestamp)')} AS first_seen,"
    f" {rfc3339('max(timestamp)')} AS last_seen, count() AS logs FROM logs"
    " WHERE deployment != '' AND {condition} GROUP BY project, deployment, uid"
)


async def list_deployments(reader: Reader, query: Query, tenants: Where) -> Page:
    """Deployments that wrote logs, by project and name; `tenants` says whose."""
    scope = scope_of("deployments", *query.scope())
    position = (
        decode_cursor(query["cursor"], scope, [str, str, str]) if query["cursor"] else ["", "", ""]
    )
    condition = "project = {project:String}" if query["project"] else "1"
    rows = await reader.rows(
        _SEEN.format(
            condition=f"{condition} AND {tenants.sql()} AND (project, deployment, uid) >"
            " ({p:String}, {d:String}, {u:String})"
        )
        + f" ORDER BY project, deployment, uid LIMIT {query.limit + 1}",
        {
            "project": query["project"] or "",
            "p": position[0],
            "d": position[1],
            "u": position[2],
            **tenants.params,
        },
    )
    more = len(rows) > query.limit
    items = [_seen(row) for row in rows[: query.limit]]
    cursor = (
        encode_cursor(scope, [items[-1].project_id, items[-1].name, items[-1].uid])
        if more
        else None
    )
    return Page(items=items, next_cursor=cursor)


async def one_deployment(reader: Reader, deployment: str) -> DeploymentItem | None:
    """A deployment by its id, the latest of that name that wrote logs; None when none did."""
    namespace, _, name = deployment.partition(".")
    rows = await reader.rows(
        _SEEN.format(
            condition="deployment = {name:String} AND startsWith(project, {namespace:String})"
        )
        + " ORDER BY last_seen DESC LIMIT 1",
        {"name": name, "namespace": namespace + "."},
    )
    return _seen(rows[0]) if rows else None


def _seen(row: dict[str, Any]) -> DeploymentItem:
    namespace = row["project"].partition(".")[0]
    return DeploymentItem(
        id=f"{namespace}.{row['deployment']}",
        project_id=row["project"],
        name=row["deployment"],
        uid=row["uid"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        logs=row["logs"],
    )
