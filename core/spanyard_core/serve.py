"""HTTP pieces that every component shares: health, metrics, errors, an orderly start and stop.

aiohttp and prometheus-client are imported when a server is made, not before: the command line
and the collector's pure parts pay nothing for them.
"""

import contextlib
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from spanyard_core.errors import (
    AddressTakenError,
    BadRecordError,
    DatabaseUnavailableError,
    InvalidResourceError,
    SettingError,
    SpanyardError,
    StorageError,
)

if TYPE_CHECKING:
    import ssl

    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware
    from prometheus_client import CollectorRegistry

log = logging.getLogger("spanyard.serve")

PROBLEM_TYPE = "application/problem+json"
PROBLEM_BASE = "about:blank"
"""RFC 9457's type for problems that the status and title explain."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, with the port that the system chose when 0 was asked for."""

    host: str
    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        """`http://host:port`, with brackets around an IPv6 address."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> "web.Response":
    """An error answer by RFC 9457. `extra` members (field, hint, …) stand beside the standard ones."""
    from aiohttp import web

    body: dict[str, Any] = {"type": PROBLEM_BASE, "title": title, "status": status}
    if detail:
        body["detail"] = detail
    body.update(extra)
    return web.Response(
        status=status,
        body=msgspec.json.encode(body, enc_hook=str),
        content_type=PROBLEM_TYPE,
        headers=headers,
    )


def problem_of(error: SpanyardError) -> "web.Response":
    """The answer for an error that was raised on purpose; its text is fit for users."""
    if isinstance(error, (BadRecordError, SettingError)):
        return problem(400, "Bad request", str(error))
    if isinstance(error, InvalidResourceError):
        errors = [{"where": where, "what": what} for where, what in error.problems]
        return problem(422, "Invalid resource", str(error), errors=errors)
    if isinstance(error, (DatabaseUnavailableError, StorageError)):
        return problem(503, "Temporarily unavailable", str(error), headers={"Retry-After": "5"})
    return problem(500, "Internal error", str(error))


def problem_middleware() -> "Middleware":
    """Turns what handlers raise into problem+json: our errors, aiohttp's 4xx, and the unexpected.

    The unexpected is logged with its trace under a reference; the client gets the reference only.
    """
    from aiohttp import web

    @web.middleware
    async def errors_as_problems(
        request: "web.Request", handler: "Handler"
    ) -> "web.StreamResponse":
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400 or error.content_type == PROBLEM_TYPE:
                raise
            kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
            return problem(error.status, error.reason, _detail(request, error), headers=kept)
        except SpanyardError as error:
            answer = problem_of(error)
            if answer.status >= 500:
                log.warning("%s %s: %s", request.method, request.path, error)
            return answer
        except Exception:
            reference = os.urandom(6).hex()
            log.exception(
                "%s %s failed", request.method, request.path, extra={"fields": {"ref": reference}}
            )
            return problem(
                500,
                "Internal error",
                f"Something failed on our side; our log has it as ref={reference}.",
                reference=reference,
            )

    return errors_as_problems


def _detail(request: "web.Request", error: "web.HTTPException") -> str:
    if error.status == 404:
        return f"There is nothing at {request.path[:200]}."
    if error.status == 405:
        return f"{request.method} is not possible at {request.path[:200]}."
    text = error.text or ""
    return "" if text == f"{error.status}: {error.reason}" else text


def operations_routes(
    ready: Callable[[], str | None], registry: "CollectorRegistry | None" = None
) -> "list[web.RouteDef]":
    """`/healthz` (the loop lives), `/readyz` (`ready()` gives None, or why not), `/metrics`."""
    from aiohttp import web

    async def healthz(request: "web.Request") -> "web.Response":
        return web.Response(text="ok\n")

    async def readyz(request: "web.Request") -> "web.Response":
        reason = ready()
        if reason is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{reason}\n")

    async def metrics(request: "web.Request") -> "web.Response":
        from prometheus_client import REGISTRY, generate_latest

        return web.Response(
            body=generate_latest(registry or REGISTRY),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metrics),
    ]


MAX_LINE_BYTES = 65_536
"""Of a request's first line. A search of 2,000 letters beyond ASCII is 24,000 bytes in an address;
aiohttp takes 8,190."""


@contextlib.asynccontextmanager
async def serving(
    app: "web.Application",
    host: str,
    port: int,
    *,
    grace: float = 5.0,
    before_stop: Callable[[], Awaitable[None]] | None = None,
    auto_decompress: bool = True,
    cancel_abandoned: bool = False,
    tls: "ssl.SSLContext | None" = None,
) -> AsyncIterator[Address]:
    """Serve `app` while the block runs; gives the bound address (`port=0`: a free one).

    Without `auto_decompress` handlers get bodies as they came: aiohttp drops the connection when
    a body is not the gzip that it says, where OTLP has to answer 400.
    With `tls` it speaks HTTPS alone. With `cancel_abandoned` a handler is cancelled when its client has gone away; else it goes on.
    At the end no new connection is taken, `before_stop` runs, and requests under way have `grace`
    seconds to finish. Raises SettingError when the address cannot be bound.
    """
    from aiohttp import web

    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=grace,
        auto_decompress=auto_decompress,
        handler_cancellation=cancel_abandoned,
        max_line_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            raise (AddressTakenError if taken else SettingError)(
                f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; "
                "choose another address or port"
            ) from error
        bound = _bound(runner, "https" if tls else "http")
        log.info("listening on %s", bound.url)
        try:
            yield bound
        finally:
            await site.stop()
            if before_stop is not None:
                await before_stop()
    finally:
        await runner.cleanup()


def _bound(runner: "web.AppRunner", scheme: str) -> Address:
    # `localhost` binds IPv4 and IPv6; the first is as good as the other.
    name: Any = runner.addresses[0]
    return Address(str(name[0]), int(name[1]), scheme)
