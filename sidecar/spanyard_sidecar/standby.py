"""In a pod, a collector that cannot work stands by instead of ending.

The application must not pay for it: a sidecar that is not running makes its pod unready, and one
that never got up keeps the pod from starting. So it answers health checks, says what is wrong, and
asks OTLP clients to come again. What the application writes stays in the kubelet's files.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from spanyard_core.end_signals import hold, release
from spanyard_core.errors import SettingError
from spanyard_core.serve import operations_routes, serving

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("spanyard.sidecar")

RETRY_AFTER_S = 5
FIRST_PAUSE_S = 1.0
MOST_PAUSE_S = 60.0


def pause_after(failures: int) -> float:
    """Seconds to stand by after so many failures in a row, the first is 1."""
    return float(min(MOST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10)))


def stand_by(why: str, addresses: list[tuple[str, int]], seconds: float | None) -> bool:
    """Answer on the addresses for so long, or until told to end; whether it was told to.

    None: until told to. An address that is taken is logged and left. When the time is over, signals are
    held for the next process.
    """
    return asyncio.run(_stand_by(why, addresses, seconds))


async def _stand_by(why: str, addresses: list[tuple[str, int]], seconds: float | None) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    release()
    async with contextlib.AsyncExitStack() as stack:
        for host, port in addresses:
            await stack.enter_async_context(_answering(why, host, port))
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            hold()
    return stop.is_set()


@contextlib.asynccontextmanager
async def _answering(why: str, host: str, port: int) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(_app(why), host, port, grace=0.2))
        except SettingError as error:
            log.error("%s", error)
        yield


def _app(why: str) -> "web.Application":
    from aiohttp import web

    async def readyz(request: "web.Request") -> "web.Response":
        return web.Response(text=f"{why}\n")

    async def flush_fast(request: "web.Request") -> "web.Response":
        return web.Response(text="nothing to flush\n")

    async def later(request: "web.Request") -> "web.Response":
        return web.Response(
            status=503, text=f"{why}\n", headers={"Retry-After": str(RETRY_AFTER_S)}
        )

    app = web.Application()
    app.add_routes(r for r in operations_routes(lambda: None) if r.path != "/readyz")
    app.add_routes([web.get("/readyz", readyz), web.route("*", "/flush-fast", flush_fast)])
    app.router.add_route("*", "/{path:.*}", later)
    return app
