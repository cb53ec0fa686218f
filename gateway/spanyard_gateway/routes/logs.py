"""Log lines of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import LogItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.logs import PARAMS, list_logs
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER


async def _list(request: web.Request, query: Query) -> Any:
    return await list_logs(request.app[READER], project_of(request), query)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/logs",
        "Log lines of a project",
        PageOf(LogItem),
        _list,
        "logs",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
    ),
]
