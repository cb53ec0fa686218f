"""Builds: what they left in the bucket. Works with ClickHouse down (B5)."""

from typing import Any

from aiohttp import web

from spanyard_core.errors import ObjectNotFoundError
from spanyard_core.object_names import check_project
from spanyard_core.serve import problem
from spanyard_gateway.build_logs import read_build_log
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import BuildItem, BuildLog, Page
from spanyard_gateway.params import Query
from spanyard_gateway.state import STORAGE

_ID = {"id": "Id of the build, `{namespace}.{name}`."}


async def _list(request: web.Request, query: Query) -> Any:
    storage = request.app[STORAGE]
    scope = scope_of("builds")
    after = str(decode_cursor(query["cursor"], scope, [str])[0]) if query["cursor"] else ""
    items: list[BuildItem] = []
    # From build to build by `after`: a build with a thousand parts costs one listed row.
    while len(items) <= query.limit:
        build = ""
        async for info in storage.list("builds/", after=f"builds/{after}0" if after else ""):
            build = info.key.split("/")[1]
            break
        if not build:
            break
        done = await storage.exists(f"builds/{build}/build.log")
        items.append(BuildItem(id=build, complete=done))
        after = build
    more = len(items) > query.limit
    items = items[: query.limit]
    return Page(
        items=items, next_cursor=encode_cursor(scope, [items[-1].id]) if more and items else None
    )


async def _one(request: web.Request, query: Query) -> Any:
    build = check_project(request.match_info["id"])
    storage = request.app[STORAGE]
    async for _info in storage.list(f"builds/{build}/"):
        return BuildItem(id=build, complete=await storage.exists(f"builds/{build}/build.log"))
    return _missing(build)


async def _logs(request: web.Request, query: Query) -> Any:
    build = check_project(request.match_info["id"])
    try:
        found = await read_build_log(request.app[STORAGE], build)
    except ObjectNotFoundError:
        return _missing(build)
    return BuildLog(id=build, complete=found.complete, truncated=found.truncated, text=found.text)


def _missing(build: str) -> web.Response:
    return problem(404, "No such build", f"No build {build!r} left anything in storage.")


ENDPOINTS = [
    Endpoint(
        "GET", "/builds", "Builds", PageOf(BuildItem), _list, "builds", params=("limit", "cursor")
    ),
    Endpoint(
        "GET",
        "/builds/{id}",
        "One build",
        BuildItem,
        _one,
        "builds",
        path_params=_ID,
        errors=(400, 404),
    ),
    Endpoint(
        "GET",
        "/builds/{id}/logs",
        "The log of a build",
        BuildLog,
        _logs,
        "builds",
        description="The whole log from storage, or what there is so far while the build runs.",
        path_params=_ID,
        errors=(400, 404),
    ),
]
