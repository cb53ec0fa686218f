"""The joined timeline of a deployment: from what keeps resources and from what is stored."""

from typing import Any

from aiohttp import web

from spanyard_core.errors import DatabaseUnavailableError
from spanyard_core.object_names import check_project
from spanyard_core.resources.kinds import Build, Deployment, project_id, resource_id
from spanyard_core.serve import problem
from spanyard_gateway.auth.rights import READ, InPath, Right
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.items import TimelinePage
from spanyard_gateway.keeper import Keeper
from spanyard_gateway.params import Query
from spanyard_gateway.queries.projects import one_deployment
from spanyard_gateway.queries.timeline import Whose, stored_entries
from spanyard_gateway.routes.projects import DEPLOYMENT_PATH
from spanyard_gateway.state import READER
from spanyard_gateway.timeline.declared import builds_of, entries
from spanyard_gateway.timeline.entries import KINDS, PLACE_TYPES, Entry, Place, first


async def _timeline(request: web.Request, query: Query) -> Any:
    name = check_project(request.match_info["id"])
    keeper, reader = Keeper.of(request.app), request.app[READER]
    found = await (_by_resources(keeper, name) if keeper else _by_records(request, name))
    if found is None:
        return problem(
            404, "No such deployment", f"There is no deployment {name!r}; see `/deployments`."
        )
    whose, told = found
    scope = scope_of("timeline", name, *query.scope())
    behind = _place(query, scope)
    kinds = query["kinds"] or KINDS
    wanted = query.limit + 1
    some = first(
        told, wanted, kinds=kinds, start=query["from"], end=query["to"], behind=behind,
        descending=query.descending,
    )  # fmt: skip
    partial = ""
    try:
        some += await stored_entries(reader, whose, query, wanted, kinds=kinds, behind=behind)
    except DatabaseUnavailableError as error:
        partial = f"Lines, spans and scores are missing here: {error}"
    some.sort(key=lambda one: one.place, reverse=query.descending)
    more, some = len(some) > query.limit, some[: query.limit]
    cursor = encode_cursor(scope, list(some[-1].place)) if more else None
    return TimelinePage(items=[one.item for one in some], next_cursor=cursor, partial=partial)


def _place(query: Query, scope: str) -> Place | None:
    if not query["cursor"]:
        return None
    return Place(*decode_cursor(query["cursor"], scope, PLACE_TYPES))  # type: ignore[arg-type]  # of PLACE_TYPES


async def _by_resources(keeper: Keeper, name: str) -> tuple[Whose, list[Entry]] | None:
    deployment = await keeper.one(Deployment, name)
    if deployment is None:
        return None
    project = project_id(deployment)
    builds = builds_of(deployment, await keeper.all(Build, project))
    told = entries(deployment, builds, await keeper.events(Deployment, name))
    meta = deployment.metadata
    uids = {resource_id(build): build.metadata.uid for build in builds}
    return Whose(project, meta.name, meta.uid, uids), told


async def _by_records(request: web.Request, name: str) -> tuple[Whose, list[Entry]] | None:
    """Where nobody keeps resources: as its logs tell."""
    found = await one_deployment(request.app[READER], name)
    return (Whose(found.project_id, found.name, found.uid, {}), []) if found else None


ENDPOINTS = [
    Endpoint(
        "GET",
        "/deployments/{id}/timeline",
        "What happened to a deployment, in one story",
        TimelinePage,
        _timeline,
        "deployments",
        description="Sources, builds and their steps, revisions, Events and health, and of what is "
        "stored the notable: lines from `warn` on, root spans that failed or took 10 s "
        "(`minDuration` says otherwise), scores. With ClickHouse away `partial` says what is "
        "missing.",
        params=(
            "limit",
            "cursor",
            "order",
            "from",
            "to",
            "kinds",
            "notable",
            "level",
            "minDuration",
        ),
        path_params=DEPLOYMENT_PATH,
        check=InPath((Right("get", "deployments"), Right("get", "builds"), READ)),
        errors=(400, 404),
    ),
]
