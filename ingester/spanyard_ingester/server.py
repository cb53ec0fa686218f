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
from spanyard_core.serve import operations_routes, problem, problem_middleware
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.metrics import IngesterMetrics
from spanyard_ingester.quarantine import CannotReplayError, NotInQuarantineError, Quarantine

MAX_HINTS = 10_000
_MAX_BODY = 16 * 1024 * 1024
_OPEN_PATHS = ("/healthz", "/readyz", "/metrics")


class _Hints(msgspec.Struct):
    keys: list[str]


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    text: str | None = None


def make_app(ingester: Ingester, quarantine: Quarantine, *, token: str = "") -> web.Application:
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

    metrics = IngesterMetrics(ingester)
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
        ]
    )
    return app


Body = Any


async def _body(request: web.Request, kind: type[Body]) -> Body:
    raw = await request.read()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise BadRecordError(f"the body is not what belongs here: {error}") from error


async def _acted(action: Callable[[], Awaitable[dict[str, Any]]]) -> web.Response:
    try:
        return _json(await action())
    except NotInQuarantineError as error:
        return problem(404, "Not in quarantine", str(error))
    except CannotReplayError as error:
        return problem(409, "Cannot be replayed", str(error))


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _token_middleware(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def ask_for_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path not in _OPEN_PATHS:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, expected):
                return problem(
                    401,
                    "No or wrong token",
                    "Send the ingester's token as `Authorization: Bearer …`.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

    return ask_for_token
