"""A hub over a world of pods under virtual time, and one who listens."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Inlet
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.records import Block
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.subscription import Subscription, Wish
from spanyard_gateway.live.upstream import LivePod, UpstreamEvent
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, Pod, World
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import SimLoop, abandon_all

Task = asyncio.Task[None]

TARGET = Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)
OTHER = Target("other", PROJECT, deployment=DEPLOYMENT)


class Counting(World):
    """Counts questions to the database; a pod may speak of writers that are not its own."""

    questions = 0
    spoken: tuple[Block, ...] = ()

    async def _asked(self) -> None:
        self.questions += 1
        await super()._asked()

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        async with super().listen(pod, after) as events:
            yield self._with_spoken(events)

    async def _with_spoken(
        self, events: AsyncIterator[UpstreamEvent]
    ) -> AsyncIterator[UpstreamEvent]:
        async for event in events:
            yield event
            for block in self.spoken:
                yield block
            self.spoken = ()


class Untold(World):
    """A database in which nothing is stored."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))

    async def _asked(self) -> None:
        """At once."""


class Scene:
    """A hub over a world, and one listener."""

    def __init__(self) -> None:
        self.clock = SimClock(WallClock())
        self.world = Counting(random.Random(1), self.clock)
        self.world.random_failures = False
        self.hub = Hub(self.world, self.world, self.world, self.clock, random.Random(1))
        self.heard: list[dict[str, Any]] = []

    async def say(self, data: bytes) -> None:
        self.heard.append(json.loads(data))

    async def listen(self, inlet: Inlet, *, history: int = 0, resume: Resume | None = None) -> None:
        channel = parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}")
        wish = Wish("s", channel, Filter(), history, resume)
        async with self.hub.attached(TARGET, inlet) as attached:
            stored = self.hub.stored
            self.subscription = Subscription(wish, TARGET, inlet, stored, self.clock, self.say)
            await self.subscription.run(*attached.begin())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Pod]:
        pod = self.world.new_pod()
        await self.world.print(pod, 10)
        tasks = [
            asyncio.create_task(self.hub.run()),
            asyncio.create_task(self.listen(Inlet(1 << 20))),
        ]
        try:
            await asyncio.sleep(4)
            yield pod
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def lines(self) -> list[str]:
        return [i["line"] for m in self.heard if m["type"] == "server:log" for i in m["items"]]


def encode(block: Block) -> None:
    """As for one who listens to everything."""
    for piece in block.pieces():
        items, _ = piece.picked(None, "all")
        piece.said("all", lambda items=items: items)  # type: ignore[misc]


def encoded(block: Block) -> int:
    """How many encodings are kept with the block."""
    pieces = block._pieces or []
    return len(block._picked) + len(block._said) + sum(map(encoded, pieces))


def play(scene: Any) -> None:
    loop = SimLoop()
    try:
        loop.run_until_complete(scene)
    finally:
        abandon_all(loop)
        loop.close()
