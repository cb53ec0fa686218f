"""The sockets of a gateway over a world, and clients of theirs, for tests of `/ws`."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.live import hub as hub_module
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.socket import LiveSockets, RefusedError, SocketLimits
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, World

CHANNEL = f"server:{NAMESPACE}.{DEPLOYMENT}"


class Client:
    """One socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types, or of any."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), 60)
            assert message.type is WSMsgType.TEXT, message
            found: dict[str, Any] = json.loads(message.data)
            if not kinds or found["type"] in kinds:
                return found

    async def end(self) -> int | None:
        """Wait for the server's close; gives its code."""
        while (found := await asyncio.wait_for(self.socket.receive(), 60)).type is WSMsgType.TEXT:
            pass
        self.reason = str(found.extra or "")
        return self.socket.close_code


class Hurried(SystemClock):
    """Heartbeats come 150 times as often; whether a pong is late is still aiohttp's to say: with
    heartbeats of 0.1 s a process that stands still for 50 ms would have lost its client."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 150)


class Served:
    """A gateway's sockets over a world."""

    def __init__(self, limits: SocketLimits, clock: SystemClock) -> None:
        self.world = World(random.Random(1))
        self.world.random_failures = False
        self.allowed = True
        hub = Hub(self.world, self.world, self.world, clock, random.Random(1))
        self.live = LiveSockets(hub, Statuses(lambda: None, clock), self._find, self._check, limits)
        self.hub = hub

    async def _find(self, request: web.Request, channel: Channel) -> Target:
        if channel.name != DEPLOYMENT:
            raise RefusedError("not-found", "there is no such deployment")
        return Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)

    async def _check(self, request: web.Request, target: Target) -> None:
        if not self.allowed:
            raise RefusedError("forbidden", "not any more")


@contextlib.asynccontextmanager
async def served(
    limits: SocketLimits | None = None, clock: SystemClock | None = None
) -> AsyncIterator[tuple[Served, str]]:
    # On a machine that stands still for seconds a subscription would begin without what there is.
    ready_s, hub_module.READY_S = hub_module.READY_S, 60.0
    found = Served(limits or SocketLimits(), clock or SystemClock())
    app = web.Application()
    app.add_routes([web.get("/ws", found.live.handle)])
    running = asyncio.create_task(found.hub.run())
    try:
        async with serving(app, "127.0.0.1", 0, grace=0.5, before_stop=found.live.close) as address:
            yield found, address.url + "/ws"
    finally:
        hub_module.READY_S = ready_s
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
        client = Client(socket)
        hello = await client.hear("hello")
        assert hello["version"] == 1
        yield client
