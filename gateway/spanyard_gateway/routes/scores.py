"""Scores of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import ScoreItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.scores import PARAMS, list_scores
from spanyard_gateway.routes.common import PROJECT_PATH, project_of, query_settings
from spanyard_gateway.state import DATABASE


async def _list(request: web.Request, query: Query) -> Any:
    return await list_scores(
        request.app[DATABASE], project_of(request), query, query_settings(request)
    )


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/scores",
        "Scores of a project",
        PageOf(ScoreItem),
        _list,
        "scores",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
    ),
]
