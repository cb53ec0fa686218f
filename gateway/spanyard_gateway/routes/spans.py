"""Spans of a project, and one span by its id."""

from typing import Any

from aiohttp import web

from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.rights import READ, Across, InPath
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import SpanItem
from spanyard_gateway.params import Query, span_id
from spanyard_gateway.queries.spans import PARAMS, list_spans, spans_of_trace
from spanyard_gateway.routes.common import PROJECT_PATH, patience_of, project_of
from spanyard_gateway.state import READER, TENANTS


async def _list(request: web.Request, query: Query) -> Any:
    return await list_spans(request.app[READER], project_of(request), query, patience_of(request))


async def _one(request: web.Request, query: Query) -> Any:
    span = span_id(request.match_info["id"])
    where = await request.app[TENANTS].where(Caller.of(request).sight())
    where.add("id = {id:String}", id=span)
    if query["project"]:
        where.add("project = {project:String}", project=query["project"])
    if query["traceId"]:
        where.add("trace_id = {traceId:String}", traceId=query["traceId"])
    found = await spans_of_trace(request.app[READER], where, 2, patience_of(request))
    if not found:
        return problem(404, "No such span", f"No span {span[:80]!r} is stored.")
    if len(found) > 1:
        return problem(
            409,
            "Several spans",
            f"Several spans have the id {span[:80]!r}; say which by traceId or project.",
        )
    return found[0]


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/spans",
        "Spans of a project",
        PageOf(SpanItem),
        _list,
        "spans",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
    ),
    Endpoint(
        "GET",
        "/spans/{id}",
        "One span",
        SpanItem,
        _one,
        "spans",
        params=("project", "traceId"),
        path_params={"id": "Id of the span, 16 hex digits."},
        errors=(400, 404, 409),
        check=Across((READ,)),
    ),
]
