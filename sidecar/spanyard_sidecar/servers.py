"""The collector's two HTTP servers: OTLP for the pod, operations and live records for the cluster.

`/healthz` says that the loop lives; `/readyz` is 200 from the start on and tells troubles in its
text only: a collector never makes its pod unready because storage is away.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from spanyard_core.errors import SettingError
from spanyard_core.serve import Address, operations_routes, problem_middleware, serving
from spanyard_sidecar.collector import Collector

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("spanyard.sidecar")

BIND_AGAIN = 5.0
"""Seconds until an address that was taken is tried again (in a pod: the application may have it)."""


def operations_app(collector: Collector) -> "web.Application":
    """Health, metrics, live records, and the switch to quick flushes for preStop."""
    from aiohttp import web

    from spanyard_sidecar.live import live_routes
    from spanyard_sidecar.live_access import live_check

    async def readyz(request: "web.Request") -> "web.Response":
        return web.Response(text="".join(f"{t}\n" for t in collector.troubles()) or "ok\n")

    others = [
        route
        for route in operations_routes(lambda: None, collector.metrics.registry)
        if route.path != "/readyz"
    ]
    app = web.Application(middlewares=[problem_middleware()])
    app.add_routes([*others, web.get("/readyz", readyz), *_flush_fast(collector)])
    check = live_check(collector.settings, collector.clock)
    app.add_routes(live_routes(collector.ring, clock=collector.clock, check=check))
    return app


def otlp_app(collector: Collector) -> "web.Application":
    """OTLP, and the switch to quick flushes, which a preStop command of the pod can reach."""
    from aiohttp import web

    from spanyard_sidecar.otlp.server import otlp_routes

    app = web.Application()
    app.add_routes([*otlp_routes(collector.receiver), *_flush_fast(collector)])
    return app


def _flush_fast(collector: Collector) -> "list[web.RouteDef]":
    from aiohttp import web

    async def flush_fast(request: "web.Request") -> "web.Response":
        collector.flush_fast()
        return web.Response(text="ok\n")

    # The kubelet's preStop knows GET alone.
    return [web.post("/flush-fast", flush_fast), web.get("/flush-fast", flush_fast)]


class Servers:
    """Serves both apps; with `insist`, an address that is taken is an error."""

    def __init__(self, collector: Collector, *, insist: bool) -> None:
        self._collector = collector
        self._insist = insist
        self.addresses: dict[str, Address] = {}
        """`otlp` and `operations` → where they listen."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Servers"]:
        """Serve while the block runs. Raises SettingError when an address is taken and we insist."""
        settings = self._collector.settings
        wanted: list[tuple[str, Callable[[Collector], web.Application], str, int]] = []
        if settings.otlp_listen:
            wanted.append(("otlp", otlp_app, settings.otlp_listen, settings.otlp_port))
        if settings.listen:
            wanted.append(("operations", operations_app, settings.listen, settings.port))
        async with contextlib.AsyncExitStack() as stack:
            late: list[asyncio.Task[None]] = []
            for name, make, host, port in wanted:
                try:
                    await self._serve(stack, name, make, host, port)
                except SettingError as error:
                    if self._insist:
                        raise
                    log.error("%s; going on without %s, and trying again", error, name)
                    again = self._keep_trying(stack, name, make, host, port)
                    late.append(asyncio.create_task(again, name=f"{name} server"))
            try:
                yield self
            finally:
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    async def _serve(
        self,
        stack: contextlib.AsyncExitStack,
        name: str,
        make: "Callable[[Collector], web.Application]",
        host: str,
        port: int,
    ) -> None:
        self.addresses[name] = await stack.enter_async_context(
            serving(make(self._collector), host, port, grace=1.0, auto_decompress=False)
        )

    async def _keep_trying(
        self,
        stack: contextlib.AsyncExitStack,
        name: str,
        make: "Callable[[Collector], web.Application]",
        host: str,
        port: int,
    ) -> None:
        while name not in self.addresses:
            await self._collector.clock.sleep(BIND_AGAIN)
            try:
                await self._serve(stack, name, make, host, port)
                log.info("%s listens after all", name)
            except SettingError:
                pass  # told when it was tried first
            except Exception:  # a mistake of ours, which is seen and stops nothing else
                log.exception("%s cannot be started; trying again", name)
