"""Projects and deployments: what is declared and what they left. Changing them: `resources`."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.object_names import check_project
from spanyard_core.resources.kinds import Deployment, Project
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.rights import READ, Across, InPath, Right
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import (
    DeploymentDetail,
    DeploymentItem,
    ProjectDetail,
    ProjectItem,
)
from spanyard_gateway.keeper import Keeper
from spanyard_gateway.params import Query
from spanyard_gateway.queries.projects import (
    declared_deployment,
    declared_deployments,
    list_deployments,
    list_projects,
    one_deployment,
    one_project,
)
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER, TENANTS

DEPLOYMENT_PATH = {"id": "Id of the deployment, `{namespace}.{name}`."}


async def _projects(request: web.Request, query: Query) -> Any:
    keeper = Keeper.of(request.app)
    sight = Caller.of(request).sight()
    declared = await sight.those(await keeper.all(Project) if keeper else [])
    tenants = await request.app[TENANTS].where(sight)
    return await list_projects(request.app[READER], declared, query, tenants)


async def _project(request: web.Request, query: Query) -> Any:
    name, keeper = project_of(request), Keeper.of(request.app)
    declared = await keeper.one(Project, name) if keeper else None
    found = await one_project(request.app[READER], name, declared)
    if found is None:
        return problem(
            404, "No such project", f"Nothing is known of a project {name!r}; see `/projects`."
        )
    events = await keeper.events(Project, name) if keeper and declared else []
    return ProjectDetail(**msgspec.structs.asdict(found), events=list(events))


async def _deployments(request: web.Request, query: Query) -> Any:
    keeper, sight = Keeper.of(request.app), Caller.of(request).sight()
    if keeper is None:
        tenants = await request.app[TENANTS].where(sight)
        return await list_deployments(request.app[READER], query, tenants)
    found = await sight.those(await keeper.all(Deployment, query["project"] or ""))
    return declared_deployments(found, query)


async def _deployment(request: web.Request, query: Query) -> Any:
    name, keeper = check_project(request.match_info["id"]), Keeper.of(request.app)
    if keeper is None:
        item = await one_deployment(request.app[READER], name)
        events = []
    else:
        declared = await keeper.one(Deployment, name)
        item = declared_deployment(declared) if declared else None
        events = list(await keeper.events(Deployment, name)) if declared else []
    if item is None:
        return problem(
            404, "No such deployment", f"There is no deployment {name!r}; see `/deployments`."
        )
    return DeploymentDetail(**msgspec.structs.asdict(item), events=events)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects",
        "Projects",
        PageOf(ProjectItem),
        _projects,
        "projects",
        params=("limit", "cursor"),
        check=Across((Right("list", "projects"), READ)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}",
        "One project",
        ProjectDetail,
        _project,
        "projects",
        path_params=PROJECT_PATH,
        check=InPath((Right("get", "projects"), READ)),
        errors=(400, 404),
    ),
    Endpoint(
        "GET",
        "/deployments",
        "Deployments",
        PageOf(DeploymentItem),
        _deployments,
        "deployments",
        params=("limit", "cursor", "project"),
        check=Across((Right("list", "deployments"), READ)),
    ),
    Endpoint(
        "GET",
        "/deployments/{id}",
        "One deployment",
        DeploymentDetail,
        _deployment,
        "deployments",
        path_params=DEPLOYMENT_PATH,
        check=InPath((Right("get", "deployments"), READ)),
        errors=(400, 404),
    ),
]
