"""Log lines of a project."""

from typing import Any

from aiohttp import web

from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.figures import Facets, LogHistogram
from spanyard_gateway.items import FollowPage, LogItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import buckets_of
from spanyard_gateway.queries.facets import limited
from spanyard_gateway.queries.follow import follow_logs
from spanyard_gateway.queries.log_counts import (
    FACET_PARAMS,
    HISTOGRAM_PARAMS,
    log_facets,
    log_histogram,
)
from spanyard_gateway.queries.logs import PARAMS, list_logs
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import CLOCK, READER

FOLLOW_PARAMS = tuple(name for name in PARAMS if name not in {"order", "spanId"})


async def _list(request: web.Request, query: Query) -> Any:
    return await list_logs(request.app[READER], project_of(request), query)


async def _follow(request: web.Request, query: Query) -> Any:
    return await follow_logs(request.app[READER], project_of(request), query)


async def _histogram(request: web.Request, query: Query) -> Any:
    buckets = buckets_of(query, request.app[CLOCK].time_ns())
    return await log_histogram(request.app[READER], project_of(request), query, buckets)


async def _facets(request: web.Request, query: Query) -> Any:
    within = limited(query, request.app[CLOCK].time_ns())
    return await log_facets(request.app[READER], project_of(request), within)


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
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/logs/follow",
        "Log lines as they are stored",
        FollowPage,
        _follow,
        "logs",
        description="Without a cursor: no items, and the cursor for now. With one: what was stored "
        "since, whatever its time says, each line once. Ask every half second, or at once while "
        "`caughtUp` is false.",
        params=FOLLOW_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/logs/histogram",
        "Log lines over time, by level",
        LogHistogram,
        _histogram,
        "logs",
        description="Buckets begin at round times, the first at or before `from`; at most `buckets` "
        "cover the time. Without `from` the hour before `to`.",
        params=HISTOGRAM_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/logs/facets",
        "The most frequent values of log lines",
        Facets,
        _facets,
        "logs",
        description="Of level, stream, container, deployment, pod and service; `limit` values each. "
        "Without `from` of the hour before `to`, or of all of a trace that is named.",
        params=FACET_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
]
