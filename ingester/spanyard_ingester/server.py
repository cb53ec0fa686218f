"""The ingester's HTTP server: hints, quarantine actions, the audit, health and metrics.

For the gateway and for operators, never for the public: it listens on loopback unless told
otherwise, and then asks for a token.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from spanyard_core.errors import BadRecordError
from spanyard_core.kube.lease import Lease
from spanyard_core.serve import operations_routes, problem, problem_middleware
from spanyard_ingester.erase import Eraser
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.jobs import Jobs, prune_scope, scope_of_request, selection_of
from spanyard_ingester.metrics import IngesterMetrics
from spanyard_ingester.prune import Pruner
from spanyard_ingester.quarantine import CannotReplayError, NotInQuarantineError, Quarantine
from spanyard_ingester.standby import held_gauge

MAX_HINTS = 10_000
_MAX_BODY = 16 * 1024 * 1024
_OPEN_PATHS = ("/healthz", "/readyz", "/metrics")


class _Hints(msgspec.Struct):
    keys: list[str]


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    text: str | None = None


class _Rebuild(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    project: str = ""
    signal: str = ""
    start: str = msgspec.field(name="from", default="")
    end: str = msgspec.field(name="to", default="")
    dry_run: bool = False


class _Delete(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    project: str
    trace: str = ""
    attribute: dict[str, str] = {}
    dry_run: bool = False


class _Prune(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    project: str
    before: str
    """Nanoseconds since the epoch, as text: JSON's numbers are not that long everywhere."""
    signals: list[str] = []
    dry_run: bool = False


def make_app(
    ingester: Ingester,
    quarantine: Quarantine,
    *,
    token: str = "",
    jobs: Jobs | None = None,
    eraser: Eraser | None = None,
    pruner: Pruner | None = None,
    lease: Lease | None = None,
) -> web.Application:
    """The application; with `token`, everything but health and metrics asks for it."""

    async def hints(request: web.Request) -> web.Response:
        body = await _body(request, _Hints)
        if len(body.keys) > MAX_HINTS:
            raise BadRecordError(f"{len(body.keys)} keys in one hint; at most {MAX_HINTS}")
        return _json({"taken": ingester.hint(body.keys)})

    async def replay(request: web.Request) -> web.Response:
        body = await _body(request, _Replay)
        return await _acted(lambda: quarantine.replay(request.match_info["id"], body.text))

    async def delete(request: web.Request) -> web.Response:
        return await _acted(lambda: quarantine.delete(request.match_info["id"]))

    async def audit(request: web.Request) -> web.Response:
        return _json({"deletedAttempts": await ingester.audit()})

    async def rebuild(request: web.Request) -> web.Response:
        body = await _body(request, _Rebuild)
        selection = selection_of(body.project, body.signal, body.start, body.end)
        if jobs is None:
            return problem(501, "Not possible", "This ingester has no way to delete rows.")
        if not jobs.begin(selection, dry_run=body.dry_run):
            return problem(409, "Busy", "A rebuild is under way; see GET /rebuild.")
        return _json({"started": True}, status=202)

    async def progress(request: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(jobs.progress if jobs is not None else None) or {})

    async def erase(request: web.Request) -> web.Response:
        body = await _body(request, _Delete)
        scope = scope_of_request(body.project, body.trace, body.attribute)
        if eraser is None:
            return problem(501, "Not possible", "This ingester has no way to delete rows.")
        return _json(msgspec.to_builtins(await eraser.run(scope, dry_run=body.dry_run)))

    async def prune(request: web.Request) -> web.Response:
        body = await _body(request, _Prune)
        scope = prune_scope(body.project, body.before, body.signals)
        if pruner is None:
            return problem(501, "Not possible", "This ingester has no way to delete rows.")
        return _json(msgspec.to_builtins(await pruner.run(scope, dry_run=body.dry_run)))

    metrics = IngesterMetrics(ingester)
    if lease is not None:
        held_gauge(metrics.registry, lease)
    app = web.Application(
        middlewares=[problem_middleware(), _token_middleware(token)], client_max_size=_MAX_BODY
    )
    app.add_routes(operations_routes(ingester.not_ready, metrics.registry))
    app.add_routes(
        [
            web.post("/hints", hints),
            web.post("/quarantine/{id}/replay", replay),
            web.post("/quarantine/{id}/delete", delete),
            web.post("/audit", audit),
            web.post("/rebuild", rebuild),
            web.get("/rebuild", progress),
            web.post("/delete", erase),
            web.post("/prune", prune),
        ]
    )
    if jobs is not None:
        app.on_shutdown.append(jobs.stop)
    return app


Body = Any


async def _body(request: web.Request, kind: type[Body]) -> Body:
    raw = await request.read()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"the body is not what belongs here: {error}") from error


async def _acted(action: Callable[[], Awaitable[dict[str, Any]]]) -> web.Response:
    try:
        return _json(await action())
    except NotInQuarantineError as error:
        return problem(404, "Not in quarantine", str(error))
    except CannotReplayError as error:
        return problem(409, "Cannot be replayed", str(error))


def _json(value: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


def _token_middleware(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def ask_for_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path not in _OPEN_PATHS:
            given = request.headers.get("Authorization", "").encode(errors="replace")
            if not hmac.compare_digest(given, expected):
                return problem(
                    401,
                    "No or wrong token",
                    "Send the ingester's token as `Authorization: Bearer …`.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

    return ask_for_token
