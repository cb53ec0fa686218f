"""Scores of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import ScoreItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.scores import PARAMS, list_scores
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER


async def _list(request: web.Request, query: Query) -> Any:
    return await list_scores(request.app[READER], project_of(request), query)


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
        check=InPath((READ,)),
    ),
]
