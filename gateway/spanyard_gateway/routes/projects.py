"""Projects and deployments."""

from typing import Any

from aiohttp import web

from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import DeploymentItem, ProjectItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.projects import list_deployments, list_projects
from spanyard_gateway.state import READER


async def _projects(request: web.Request, query: Query) -> Any:
    return await list_projects(request.app[READER], query)


async def _deployments(request: web.Request, query: Query) -> Any:
    return await list_deployments(request.app[READER], query)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects",
        "Projects",
        PageOf(ProjectItem),
        _projects,
        "projects",
        params=("limit", "cursor"),
    ),
    Endpoint(
        "GET",
        "/deployments",
        "Deployments",
        PageOf(DeploymentItem),
        _deployments,
        "projects",
        params=("limit", "cursor", "project"),
    ),
]
