"""Scores of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.figures import ScoreSeries
from spanyard_gateway.items import ScoreItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import buckets_of
from spanyard_gateway.queries.score_series import PARAMS as SERIES_PARAMS
from spanyard_gateway.queries.score_series import score_series
from spanyard_gateway.queries.scores import PARAMS, list_scores
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import CLOCK, READER


async def _list(request: web.Request, query: Query) -> Any:
    return await list_scores(request.app[READER], project_of(request), query)


async def _series(request: web.Request, query: Query) -> Any:
    buckets = buckets_of(query, request.app[CLOCK].time_ns())
    return await score_series(request.app[READER], project_of(request), query, buckets)


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
    Endpoint(
        "GET",
        "/projects/{id}/scores/series",
        "Scores over time",
        ScoreSeries,
        _series,
        "scores",
        "By name, or by name and revision: how many, their mean and range over time, and how they "
        "are distributed. Without `from` the hour before `to`. The attribute `label` (or "
        "`gen_ai.evaluation.score.label`) makes a score one of a category.",
        params=SERIES_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
]
