"""Metric points of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import MetricItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.metrics import PARAMS, list_metrics
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER


async def _list(request: web.Request, query: Query) -> Any:
    return await list_metrics(request.app[READER], project_of(request), query)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/metrics",
        "Metric points of a project",
        PageOf(MetricItem),
        _list,
        "metrics",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
]
