"""Metric points of a project."""

from typing import Any

from aiohttp import web

from spanyard_core.errors import SettingError
from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.figures import MetricNames, MetricSeries
from spanyard_gateway.items import MetricItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.buckets import buckets_of
from spanyard_gateway.queries.metric_series import NAMES_PARAMS, metric_names, metric_series
from spanyard_gateway.queries.metric_series import PARAMS as SERIES_PARAMS
from spanyard_gateway.queries.metrics import PARAMS, list_metrics
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import CLOCK, READER


async def _list(request: web.Request, query: Query) -> Any:
    return await list_metrics(request.app[READER], project_of(request), query)


async def _names(request: web.Request, query: Query) -> Any:
    buckets = buckets_of(query, request.app[CLOCK].time_ns())
    return await metric_names(request.app[READER], project_of(request), query, buckets)


async def _series(request: web.Request, query: Query) -> Any:
    if query["name"] is None:
        raise SettingError("name: missing. Which metric; `/metrics/names` tells what there is")
    buckets = buckets_of(query, request.app[CLOCK].time_ns())
    return await metric_series(request.app[READER], project_of(request), query, buckets)


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
    Endpoint(
        "GET",
        "/projects/{id}/metrics/names",
        "What was measured",
        MetricNames,
        _names,
        "metrics",
        "By name: kind, unit, attributes. Without `from` the hour before `to`.",
        params=NAMES_PARAMS,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/metrics/series",
        "One metric over time",
        MetricSeries,
        _series,
        "metrics",
        "Gauges as they are, counters as rates, histograms as percentiles. Without `from` the hour "
        "before `to`. `attribute` takes the place of `by`.",
        params=SERIES_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
]
