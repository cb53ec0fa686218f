"""A gateway's `/ws` over a world of the tests, on a port that it keeps over restarts."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import pytest
from aiohttp import web

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.socket import LiveSockets, RefusedError, SocketLimits
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from spanyard_local.live_client import client
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, World

CHANNEL = f"server:{NAMESPACE}.{DEPLOYMENT}"


class LiveGateway:
    """One that can be killed and started again; what it has open is gone with it."""

    def __init__(
        self,
        world: World,
        limits: SocketLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        tokens: set[str] | None = None,
    ) -> None:
        """`tokens`: those that it takes now; None: it asks nobody who he is."""
        self.world = world
        self.tls = tls
        self.tokens = tokens
        self.limits = limits or SocketLimits()
        self.port = 0
        self.away = 0
        """So many subscriptions are refused for a passing reason."""
        self._running: contextlib.AsyncExitStack | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        clock = SystemClock()
        hub = Hub(self.world, self.world, self.world, clock, random.Random(1))
        live = LiveSockets(hub, Statuses(lambda: None, clock), self._find, self._check, self.limits)
        app = web.Application()

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self._takes(request):
                return web.json_response({"title": "Not signed in"}, status=401)
            return await live.handle(request)

        app.add_routes([web.get("/ws", handle)])
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(_running(hub))
        address = await stack.enter_async_context(
            serving(app, "127.0.0.1", self.port, grace=0.5, before_stop=live.close, tls=self.tls)
        )
        self.port, self._running = address.port, stack

    async def stop(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            await running.aclose()

    async def _find(self, request: web.Request, channel: Channel) -> Target:
        if channel.name != DEPLOYMENT:
            raise RefusedError("not-found", "there is no such deployment")
        if self.away:
            self.away -= 1
            raise RefusedError("away", "the keeper of resources is away")
        return Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)

    def _takes(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.tokens is None or given in self.tokens

    async def _check(self, request: web.Request, target: Target) -> None:
        if not self._takes(request):
            raise RefusedError("not-signed-in", "the token has ended")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


@contextlib.asynccontextmanager
async def _running(hub: Hub) -> AsyncIterator[None]:
    task = asyncio.create_task(hub.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of live streams wait fractions of a second where they wait seconds."""
    monkeypatch.setattr(client, "FIRST_S", 0.02)
    monkeypatch.setattr(client, "LONGEST_S", 0.2)
    monkeypatch.setattr(client, "AGAIN_S", 0.02)
