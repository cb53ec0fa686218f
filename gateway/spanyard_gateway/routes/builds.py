"""Builds: what is declared, and what they left in the bucket. Works with ClickHouse down (B5)."""

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.build_log import read_build_log
from spanyard_core.errors import ObjectNotFoundError, SettingError
from spanyard_core.object_names import check_project
from spanyard_core.resources.kinds import Build, resource_id
from spanyard_core.serve import problem
from spanyard_core.storage import Storage
from spanyard_gateway.auth.caller import Caller, Sight
from spanyard_gateway.auth.rights import READ, Across, InPath, Right
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.items import BuildDetail, BuildItem, BuildLog, Page
from spanyard_gateway.keeper import Keeper, shown
from spanyard_gateway.params import Query
from spanyard_gateway.state import STORAGE

BUILD_PATH = {"id": "Id of the build, `{namespace}.{name}`."}


async def _list(request: web.Request, query: Query) -> Any:
    storage, keeper = request.app[STORAGE], Keeper.of(request.app)
    project = query["project"] or ""
    if project and keeper is None:
        raise SettingError(
            "project: this gateway keeps no resources, and what builds left in the bucket does not "
            "name their project; leave it out"
        )
    scope = scope_of("builds", project)
    after = str(decode_cursor(query["cursor"], scope, [str])[0]) if query["cursor"] else ""
    sight = Caller.of(request).sight()
    declared = await sight.those(await keeper.all(Build, project) if keeper else [])
    known = {resource_id(b): b for b in declared if _place(resource_id(b)) > _place(after)}
    left = [] if project else await _left_after(storage, after, query.limit + 1, sight)
    ids = sorted({*left, *known}, key=_place)
    if len(left) > query.limit:
        ids = [
            name for name in ids if _place(name) <= _place(left[-1])
        ]  # further ones were not listed
    items = [await _item(storage, name, known.get(name)) for name in ids[: query.limit]]
    more = len(ids) > query.limit
    return Page(items=items, next_cursor=encode_cursor(scope, [items[-1].id]) if more else None)


def _place(build: str) -> str:
    """Builds go in the order of their keys: `b-c/` lies before `b/`."""
    return build and build + "/"


async def _left_after(storage: Storage, after: str, wanted: int, sight: Sight) -> list[str]:
    """Ids of builds that left something in the bucket, from build to build: one with a thousand
    parts costs one listed row, a namespace that may not be seen too."""
    found: list[str] = []
    start = f"builds/{after}0" if after else ""
    while len(found) < wanted:
        build = ""
        async for info in storage.list("builds/", after=start):
            build = info.key.split("/")[1]
            break
        if not build:
            break
        namespace, dot, _ = build.partition(".")
        if dot and not await sight.holds(namespace):
            start = f"builds/{namespace}/"  # behind all of `{namespace}.`
            continue
        if dot or await sight.everything():
            found.append(build)
        start = f"builds/{build}0"
    return found


async def _item(storage: Storage, build: str, declared: Build | None) -> BuildItem:
    told = declared is not None and declared.status.log_complete
    complete = told or await storage.exists(f"builds/{build}/build.log")
    return BuildItem(id=build, complete=complete, resource=shown(declared) if declared else None)


async def _one(request: web.Request, query: Query) -> Any:
    build = check_project(request.match_info["id"])
    storage, keeper = request.app[STORAGE], Keeper.of(request.app)
    declared = await keeper.one(Build, build) if keeper else None
    if declared is None and not await _left_anything(storage, build):
        return _missing(build)
    item = await _item(storage, build, declared)
    events = list(await keeper.events(Build, build)) if keeper and declared else []
    return BuildDetail(**msgspec.structs.asdict(item), events=events)


async def _left_anything(storage: Storage, build: str) -> bool:
    async for _info in storage.list(f"builds/{build}/"):
        return True
    return False


async def _logs(request: web.Request, query: Query) -> Any:
    build = check_project(request.match_info["id"])
    try:
        found = await read_build_log(request.app[STORAGE], build)
    except ObjectNotFoundError:
        keeper = Keeper.of(request.app)
        if keeper is None or await keeper.one(Build, build) is None:
            return _missing(build)
        # Queued, or its first lines are on their way.
        return BuildLog(id=build, complete=False, truncated=False, text="")
    text, offset = found.text, query["offset"] or 0
    if offset:
        raw = text.encode("utf-8", "replace")
        if hashlib.sha256(raw[:offset]).hexdigest() == query["prefix"]:
            text = raw[offset:].decode("utf-8", "replace")
        else:
            offset = 0
    return BuildLog(
        id=build, complete=found.complete, truncated=found.truncated, text=text, offset=offset
    )


def _missing(build: str) -> web.Response:
    return problem(
        404,
        "No such build",
        f"There is no build {build!r}, and none left anything in storage; see `/builds`.",
    )


ENDPOINTS = [
    Endpoint(
        "GET",
        "/builds",
        "Builds",
        PageOf(BuildItem),
        _list,
        "builds",
        params=("limit", "cursor", "project"),
        check=Across((Right("list", "builds"),)),
    ),
    Endpoint(
        "GET",
        "/builds/{id}",
        "One build",
        BuildDetail,
        _one,
        "builds",
        check=InPath((Right("get", "builds"),)),
        path_params=BUILD_PATH,
        errors=(400, 404),
    ),
    Endpoint(
        "GET",
        "/builds/{id}/logs",
        "The log of a build",
        BuildLog,
        _logs,
        "builds",
        check=InPath((READ,)),
        description="The whole log from storage, or what there is so far while the build runs. "
        "Who has the first `offset` bytes, whose sha256 is `prefix`, gets the rest alone; `offset` "
        "of the answer says whether that was so.",
        params=("offset", "prefix"),
        path_params=BUILD_PATH,
        errors=(400, 404),
    ),
]
