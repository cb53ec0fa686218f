"""Traces of a project, and one trace with all its spans."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from spanyard_core.errors import SettingError
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.rights import READ, Across, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.figures import Facets, TraceSeries
from spanyard_gateway.hanging import Patience
from spanyard_gateway.items import Page, SpanItem, TraceDetail, TraceItem
from spanyard_gateway.outlines import TraceOutline
from spanyard_gateway.params import Query, trace_id
from spanyard_gateway.queries.buckets import buckets_of
from spanyard_gateway.queries.facets import limited
from spanyard_gateway.queries.one_trace import (
    TraceAt,
    one_trace,
    places_of_trace,
    some_spans,
    trace_outline,
)
from spanyard_gateway.queries.series import PARAMS as SERIES_PARAMS
from spanyard_gateway.queries.series import trace_series
from spanyard_gateway.queries.trace_counts import FACET_PARAMS, trace_facets
from spanyard_gateway.queries.traces import PARAMS, list_traces
from spanyard_gateway.reader import Reader
from spanyard_gateway.routes.common import PROJECT_PATH, patience_of, project_of
from spanyard_gateway.state import CLOCK, READER, TENANTS


async def _list(request: web.Request, query: Query) -> Any:
    return await list_traces(request.app[READER], project_of(request), query, patience_of(request))


async def _series(request: web.Request, query: Query) -> Any:
    buckets = buckets_of(query, request.app[CLOCK].time_ns())
    return await trace_series(request.app[READER], project_of(request), query, buckets)


async def _facets(request: web.Request, query: Query) -> Any:
    within = limited(query, request.app[CLOCK].time_ns())
    return await trace_facets(request.app[READER], project_of(request), within)


async def _found(request: web.Request, query: Query) -> TraceAt | web.Response:
    """Where the trace is that the path names, or why it cannot be told."""
    trace = trace_id(request.match_info["id"])
    tenants = await request.app[TENANTS].where(Caller.of(request).sight())
    places = await places_of_trace(request.app[READER], trace, tenants)
    project = query["project"]
    if project is None:
        projects = list(places)
        if len(projects) > 1:
            return problem(
                409,
                "Several traces",
                f"Several projects have a trace {trace[:80]!r}: {', '.join(projects)}. "
                "Say which with project=.",
                projects=projects,
            )
        project = projects[0] if projects else ""
    return TraceAt(project, trace, places.get(project)) if project else _unknown(request)


def _unknown(request: web.Request) -> web.Response:
    trace = trace_id(request.match_info["id"])
    return problem(
        404,
        "No such trace",
        f"No trace {trace[:80]!r} is stored. A trace shows up within seconds of its first "
        "ended span; was its project deleted?",
    )


def _answer(
    whole: Callable[[Reader, TraceAt, Patience], Awaitable[TraceDetail | TraceOutline | None]],
) -> Callable[[web.Request, Query], Awaitable[Any]]:
    """The handler that says of a trace what `whole` finds."""

    async def answer(request: web.Request, query: Query) -> Any:
        at = await _found(request, query)
        if isinstance(at, web.Response):
            return at
        return await whole(request.app[READER], at, patience_of(request)) or _unknown(request)

    return answer


async def _spans(request: web.Request, query: Query) -> Any:
    if not query["ids"]:  # said to those alone who may ask
        raise SettingError("ids: missing. Say which spans of the trace, separated by commas")
    at = await _found(request, query)
    if isinstance(at, web.Response):
        return at
    found = await some_spans(request.app[READER], at, query["ids"], patience_of(request))
    if not found and at.times is None:
        return _unknown(request)
    return Page(items=found, next_cursor=None)


TRACE_PATH = {"id": "Id of the trace, 32 hex digits."}
ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/traces",
        "Traces of a project",
        PageOf(TraceItem),
        _list,
        "traces",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/traces/series",
        "Traces over time",
        TraceSeries,
        _series,
        "traces",
        "Counts, failures, durations, tokens and cost of the traces that the list with the same "
        "filters has, by the time they began. Without `from` the hour before `to`. Tokens and cost "
        "are those of spans that begin up to an hour before that time, or up to six hours after the "
        "last of its root spans has ended, at most a day.",
        params=SERIES_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/projects/{id}/traces/facets",
        "The most frequent values of traces",
        Facets,
        _facets,
        "traces",
        description="Of their status, name, service, deployment and revision, and of the models of their "
        "spans; `limit` values each. Without `from` of the hour before `to`, or of the trace that is "
        "named.",
        params=FACET_PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/traces/{id}",
        "One trace with all its spans",
        TraceDetail,
        _answer(one_trace),
        "traces",
        params=("project",),
        path_params=TRACE_PATH,
        errors=(400, 404, 409),
        check=Across((READ,)),
    ),
    Endpoint(
        "GET",
        "/traces/{id}/outline",
        "One trace with all its spans in outline",
        TraceOutline,
        _answer(trace_outline),
        "traces",
        "What a waterfall is drawn from: attributes, events, links and resources are left out, but "
        "for the attributes that tell what kind of step a span is. `/traces/{id}/spans` has them.",
        params=("project",),
        path_params=TRACE_PATH,
        errors=(400, 404, 409),
        check=Across((READ,)),
    ),
    Endpoint(
        "GET",
        "/traces/{id}/spans",
        "Some spans of a trace, whole",
        PageOf(SpanItem),
        _spans,
        "traces",
        "Those that `ids` names, oldest first, with attributes, events, links and resource; ids that "
        "the trace does not have are left out. One page.",
        params=("ids", "project"),
        path_params=TRACE_PATH,
        errors=(400, 404, 409),
        check=Across((READ,)),
    ),
]
