"""Changing resources: apply, put, patch, delete, cancel. Reading them: `projects` and `builds`."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError, InvalidResourceError
from spanyard_core.object_names import check_label, check_project
from spanyard_core.resources.api import Applied
from spanyard_core.resources.kinds import FINISHED, PLURALS, Build, Deployment, Project, R
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.gate import GATE
from spanyard_gateway.auth.rights import ByHandler, InPath, Right, changes
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.items import AppliedList, Deleted
from spanyard_gateway.keeper import Keeper, shown
from spanyard_gateway.params import Query

MAX_MANIFESTS = 1_000
_PLURALS: dict[str, str] = {str(kind): plural for kind, plural in PLURALS.items()}
T = TypeVar("T")


class Manifests(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be there: all of it is applied, or none."""

    manifests: list[dict[str, Any]]


async def _body(request: web.Request, kind: type[T], form: str) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"the body is not {form}: {error}") from error


async def _apply(request: web.Request, query: Query) -> Any:
    body = await _body(request, Manifests, '{"manifests": [{"apiVersion": …, "kind": …}]}')
    if not 1 <= len(body.manifests) <= MAX_MANIFESTS:
        raise BadRecordError(f"manifests: {len(body.manifests)} of them; send 1 to {MAX_MANIFESTS}")
    keeper = Keeper.needed(request.app)
    await _may_apply(request, body.manifests)
    applied = await keeper.apply(body.manifests, dry_run=query["dryRun"] == "true")
    return AppliedList(applied=list(applied))


async def _may_apply(request: web.Request, manifests: list[dict[str, Any]]) -> None:
    """Raises InvalidResourceError for what does not say where it belongs, ForbiddenError."""
    caller = Caller.of(request)
    caller.asked = True
    if not request.app[GATE].enabled:
        return
    wrong: list[tuple[str, str]] = []
    places: dict[tuple[str, str], None] = {}
    for number, manifest in enumerate(manifests, 1):
        metadata = manifest.get("metadata")
        namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
        kind = manifest.get("kind")
        plural = _PLURALS.get(kind) if isinstance(kind, str) else None
        if plural is None or not isinstance(namespace, str) or not namespace:
            where = "kind" if plural is None else "metadata.namespace"
            wrong.append((f"manifest {number}: {where}", "is missing, or none that can be here"))
        else:
            places[check_label(namespace, "namespace"), plural] = None
    if wrong:
        raise InvalidResourceError(wrong)
    for namespace, plural in places:
        await caller.require(namespace, *changes(plural))


def _put(kind: type[R]) -> Callable[[web.Request, Query], Awaitable[Any]]:
    async def put(request: web.Request, query: Query) -> Any:
        name = check_project(request.match_info["id"])
        manifest = await _body(request, dict[str, Any], f"a manifest of kind {kind.__name__}")
        namespace, _, own = name.partition(".")
        metadata = manifest.get("metadata")
        told = metadata if isinstance(metadata, dict) else {}
        wrong = [
            (where, f"is {found!r}, and the address says {wanted!r}")
            for where, found, wanted in (
                ("kind", manifest.get("kind"), kind.__name__),
                ("metadata.name", told.get("name"), own),
                ("metadata.namespace", told.get("namespace", namespace), namespace),
            )
            if found != wanted
        ]
        if wrong:
            raise InvalidResourceError(wrong)
        manifest["metadata"] = told | {"namespace": namespace}
        [applied] = await Keeper.needed(request.app).apply(
            [manifest], dry_run=query["dryRun"] == "true"
        )
        return applied

    return put


def _patch(kind: type[R]) -> Callable[[web.Request, Query], Awaitable[Any]]:
    async def patch(request: web.Request, query: Query) -> Any:
        name = check_project(request.match_info["id"])
        spec = await _body(request, dict[str, Any], "an object with fields of the spec")
        found = await Keeper.needed(request.app).patch(kind, name, spec)
        return _missing(kind, name) if found is None else shown(found)

    return patch


def _delete(kind: type[R]) -> Callable[[web.Request, Query], Awaitable[Any]]:
    async def delete(request: web.Request, query: Query) -> Any:
        name = check_project(request.match_info["id"])
        if await Keeper.needed(request.app).delete(kind, name):
            return Deleted(kind=kind.__name__, id=name)
        return _missing(kind, name)

    return delete


async def _cancel(request: web.Request, query: Query) -> Any:
    name, keeper = check_project(request.match_info["id"]), Keeper.needed(request.app)
    build = await keeper.one(Build, name)
    if build is None:
        return _missing(Build, name)
    if build.status.phase in FINISHED and not build.spec.cancel:
        return problem(
            409,
            "Finished",
            f"Build {name!r} is {build.status.phase.lower()} already; there is nothing to cancel.",
        )
    changed = await keeper.patch(Build, name, {"cancel": True})
    return _missing(Build, name) if changed is None else shown(changed)


def _missing(kind: type[R], name: str) -> web.Response:
    noun = kind.__name__.lower()
    return problem(
        404,
        f"No such {noun}",
        f"There is no {noun} {name!r}; see `/{PLURALS[kind.__name__]}`.",  # type: ignore[index]  # R allows the three kinds
    )


def _operations(kind: type[R]) -> list[Endpoint]:
    noun = kind.__name__.lower()
    plural = noun + "s"
    path = {"id": f"Id of the {noun}, `{{namespace}}.{{name}}`."}
    return [
        Endpoint(
            "PUT",
            f"/{plural}/{{id}}",
            f"Create or change a {noun}",
            Applied,
            _put(kind),
            plural,
            params=("dryRun",),
            path_params=path,
            check=InPath(changes(plural)),
            body=dict,
            body_required=True,
            errors=(400, 404, 413, 422, 501),
        ),
        Endpoint(
            "PATCH",
            f"/{plural}/{{id}}",
            f"Merge fields into the spec of a {noun}",
            kind,
            _patch(kind),
            plural,
            description="RFC 7386: null takes a field away.",
            check=InPath((Right("patch", plural),)),
            path_params=path,
            body=dict,
            body_required=True,
            errors=(400, 404, 413, 422, 501),
        ),
        Endpoint(
            "DELETE",
            f"/{plural}/{{id}}",
            f"Delete a {noun}",
            Deleted,
            _delete(kind),
            plural,
            check=InPath((Right("delete", plural),)),
            path_params=path,
            errors=(400, 404, 501),
        ),
    ]


ENDPOINTS = [
    Endpoint(
        "POST",
        "/apply",
        "Create or change resources",
        AppliedList,
        _apply,
        "resources",
        check=ByHandler((Right("create", "…"), Right("patch", "…"))),
        description="All of them, or none when one is not valid. YAML is the command line's.",
        params=("dryRun",),
        body=Manifests,
        body_required=True,
        errors=(400, 413, 422, 501),
    ),
    *_operations(Project),
    *_operations(Build),
    *_operations(Deployment),
    Endpoint(
        "POST",
        "/builds/{id}/cancel",
        "Stop a build",
        Build,
        _cancel,
        "builds",
        check=InPath((Right("patch", "builds"),)),
        path_params={"id": "Id of the build, `{namespace}.{name}`."},
        errors=(400, 404, 409, 501),
    ),
]
