"""A gateway and a collector in processes of their own, as in a cluster, for the benchmark of live streams.

    python -m benchmarks.live_apart collector        a ring that is fed, behind the real `/live`
    python -m benchmarks.live_apart gateway URL      hub and `/ws`, which listen to that collector

Each prints its address. The collector takes lines per second on its input. There is no database:
nothing is stored, and nobody asks for history.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence

from aiohttp import web

from benchmarks.open_files import allow_many
from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.live.channels import Channel, Filter
from spanyard_gateway.live.collectors import Collectors
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import Block, LiveSignal
from spanyard_gateway.live.socket import LiveSockets
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Row, Target
from spanyard_gateway.live.upstream import LivePod
from spanyard_sidecar.live import live_routes
from spanyard_sidecar.ring import Ring

WRITER = "pod-uid/server/0@e"


class Nothing:
    """Implements `Stored` with nothing in it, and `PodFinder` with one pod."""

    def __init__(self, url: str) -> None:
        self._pod = LivePod("pod-uid", "live-1", "local", "live", url=url, deployment="live")

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        """The one."""
        return [self._pod]

    async def reached(self, pod: LivePod) -> Mapping[str, Reached]:
        """Nothing."""
        return {}

    async def newest(
        self,
        target: Target,
        signals: Sequence[LiveSignal],
        filter_: Filter,
        count: int,
        below: Mapping[str, int],
    ) -> list[Row]:
        """Nothing."""
        return []

    async def between(
        self, writer: str, signal: LiveSignal, after: int, before: int | None
    ) -> list[Block]:
        """Nothing."""
        return []

    async def begun_since(
        self, target: Target, signals: Sequence[LiveSignal], since_ms: int
    ) -> Mapping[str, Reached]:
        """Nothing."""
        return {}

    async def last_of(
        self, target: Target, signals: Sequence[LiveSignal], writers: Sequence[str]
    ) -> Mapping[str, Reached]:
        """Nothing."""
        return {}

    async def ends_of(self, writers: Sequence[str]) -> Mapping[str, int]:
        """Nothing."""
        return {}


async def collector() -> None:
    """Publish lines with the time at which they are made, in steps of 10 or 50 ms."""
    ring, seq, rate = Ring(), 0, 20

    async def listen_to_rate() -> None:
        nonlocal rate
        while line := await asyncio.to_thread(sys.stdin.readline):
            rate = int(line)

    app = web.Application()
    app.add_routes(live_routes(ring, clock=SystemClock()))
    async with serving(app, "127.0.0.1", 0, grace=1.0) as address:
        print(json.dumps({"url": address.url}), flush=True)
        listening = asyncio.create_task(listen_to_rate())
        due = time.monotonic()
        while not listening.done():
            step = 0.01 if rate >= 1000 else 0.05
            count = max(1, round(rate * step))
            lines = b"".join(_line(seq + i + 1) for i in range(count))
            ring.publish("server", WRITER, seq + 1, lines, count)
            seq += count
            due = max(due + step, time.monotonic() - step)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await listening


def _line(seq: int) -> bytes:
    now = time.time_ns()
    return (
        b'{"type":"log","project":"local.live","writer":"%b","seq":%d,"deployment":"live","pod":'
        b'"live-1","container":"server","stream":"stdout","timestamp":"2026-11-21T14:45:00.123456789Z",'
        b'"level":"info","message":"t=%d a line of some length %b"}\n'
    ) % (WRITER.encode(), seq, now, b"x" * 60)


async def gateway(url: str) -> None:
    """Serve `/ws` until the end of the input."""
    nothing, clock, upstream = Nothing(url), SystemClock(), Collectors()
    hub = Hub(nothing, upstream, nothing, clock, random.Random())

    async def find(request: web.Request, channel: Channel) -> Target:
        return Target(channel.namespace, "live", deployment=channel.name)

    async def check(request: web.Request, target: Target) -> None:
        pass

    sockets = LiveSockets(hub, Statuses(lambda: None, clock), find, check)
    app = web.Application()
    app.add_routes([web.get("/ws", sockets.handle)])
    running = asyncio.create_task(hub.run())
    try:
        async with serving(app, "127.0.0.1", 0, grace=1.0, before_stop=sockets.close) as address:
            print(json.dumps({"url": address.url}), flush=True)
            await asyncio.to_thread(sys.stdin.readline)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await upstream.close()


if __name__ == "__main__":
    allow_many()
    role = gateway(sys.argv[2]) if sys.argv[1] == "gateway" else collector()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(role)
