"""Live streams in seeded histories: for every listener and writer, what was passed on, left out by
its filter and told as dropped is all there was, in order, nothing twice.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Inlet
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.subscription import Subscription, Wish
from spanyard_gateway.live.upstream import LivePod, UpstreamEvent
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, World
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import SimLoop, abandon_all

TARGET = Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)
SECONDS = 60.0
FILTERS = (
    Filter(),
    Filter(level=["error"]),
    Filter(),
    Filter(q='(level:error OR "line 7") -"line 35" pod:pod*'),
)
REPLICAS = 2


@dataclass
class Listener:
    """A client: keeps account of what it was told, over its disconnects."""

    name: str
    slow: float
    filter: Filter
    history: int
    seen: dict[str, int] = field(default_factory=dict)
    """Writer → last number that is accounted for."""
    first: dict[str, int] = field(default_factory=dict)
    """Writer → where its account begins: history or not, from here on nothing may be missing."""
    at: int | None = None
    lines: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    left: int = 0
    lives: int = 0

    def hear(self, data: bytes) -> None:
        message: dict[str, Any] = json.loads(data)
        kind = message["type"]
        if kind == "live":
            self.lives += 1
            self.at = message["resume"]["at"]
            for writer, seq in message["resume"]["seen"].items():
                assert self.seen.get(writer, 0) <= seq
                if self.seen.get(writer, 0) < seq:
                    # Only the first time: what history left out before the stream begins.
                    assert self.lives == 1, (self.name, writer, self.seen.get(writer), seq)
                    self.seen[writer] = seq
                self.first.setdefault(writer, seq + 1)
        elif kind == "server:log":
            self._lines(message)
        elif kind == "passed":
            # All numbers up to `last` were left out.
            self._account(message, message["last"], message["left"], 0)
        elif kind == "dropped":
            count = message["last"] - message["first"] + 1
            assert count == message["count"]
            assert message["first"] == self._next(message), (self.name, message, self.seen)
            self.seen[message["writer"]] = message["last"]
            reason = message["reason"]
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        else:
            assert kind == "partial", message

    def _next(self, message: dict[str, Any]) -> int:
        writer = message["writer"]
        if writer not in self.first:
            self.first[writer] = message.get("first", 1)
        return self.seen.get(writer, self.first[writer] - 1) + 1

    def _lines(self, message: dict[str, Any]) -> None:
        writer, items = message["writer"], message["items"]
        seqs = [item["seq"] for item in items]
        assert seqs == sorted(set(seqs)), message
        assert all(item["line"] == f"line {item['seq']}" for item in items)
        if message.get("history"):
            assert self.lives == 0
            assert self.seen.get(writer, 0) < seqs[0], "a line of history twice"
            self.seen[writer] = seqs[-1]
            self.lines += len(items)
            return
        assert message["first"] <= seqs[0] <= seqs[-1] <= message["last"]
        self._account(message, message["last"], message["left"], len(items))
        self.lines += len(items)

    def _account(self, message: dict[str, Any], last: int, left: int, shown: int) -> None:
        writer = message["writer"]
        if writer not in self.first:
            assert self.seen.get(writer, 0) == 0
            self.first[writer] = 1
        before = self.seen.get(writer, self.first[writer] - 1)
        assert last - before == left + shown, (self.name, message, before)
        self.seen[writer] = last
        self.left += left


class Wire:
    """A socket: what is written is read in that order; who writes waits for a slow reader."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._changed = asyncio.Condition()

    async def say(self, data: bytes) -> None:
        self._messages.append(data)  # before anything is waited for, as a transport does
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._messages) < 3)

    async def read(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._messages))
            data = self._messages.pop(0)
            self._changed.notify_all()
            return data


class Connections:
    """One gateway's `Upstream`: counts its connections per pod."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: dict[str, int] = {}
        self.most = 0

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        async with self._world.listen(pod, after) as events:
            self._open[pod.uid] = self._open.get(pod.uid, 0) + 1
            self.most = max(self.most, self._open[pod.uid])
            try:
                yield events
            finally:
                self._open[pod.uid] -= 1


class History:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = SimClock(WallClock())
        self.world = World(self.rng, self.clock)
        self.busy = True
        self.listeners: list[Listener] = []

    async def play(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 3)):
            self.world.new_pod()
        for n in range(4):
            wanted = FILTERS[n]
            slow = rng.choice([0.0, 0.0, 0.3, 1.5])
            self.listeners.append(Listener(f"c{n}", slow, wanted, rng.choice([0, 5, 500])))
        happening = [
            asyncio.create_task(self._printing()),
            asyncio.create_task(self._storing()),
            asyncio.create_task(self._breaking()),
        ]
        try:
            while asyncio.get_running_loop().time() < SECONDS:
                await self._gateways(rng.uniform(2, 25))
            for task in happening:
                task.cancel()
            await asyncio.gather(*happening, return_exceptions=True)
            self.world.database_away = False
            for pod in self.world.pods_by_uid.values():
                pod.answers = True
            while any(w.stored < w.last for w in self.world.all.values()):
                self.world.store()
            self.busy = False
            last_words = asyncio.create_task(self._last_words())
            await self._gateways(60.0)
            await last_words
        finally:
            for task in happening:
                task.cancel()

    async def _gateways(self, seconds: float) -> None:
        """Replicas that live for a while, and their listeners, who come, go, and meet another."""
        views = [Connections(self.world) for _ in range(REPLICAS)]
        hubs = [Hub(self.world, view, self.world, self.clock, self.rng) for view in views]
        running = [asyncio.create_task(hub.run()) for hub in hubs]
        until = asyncio.get_running_loop().time() + seconds
        clients = [asyncio.create_task(self._client(hubs, c, until)) for c in self.listeners]
        await asyncio.gather(*clients)
        if not self.busy:
            await asyncio.sleep(8)
            assert [hub.connections for hub in hubs] == [0] * REPLICAS, "nobody listens"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert all(view.most <= 1 for view in views), "one upstream per pod"

    async def _client(self, hubs: list[Hub], listener: Listener, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (now := loop.time()) < until:
            end = until if not self.busy else min(until, now + self.rng.uniform(0.5, 12))
            await self._listen(self.rng.choice(hubs), listener, end - now)
            if self.busy:
                await asyncio.sleep(self.rng.uniform(0, 3))

    async def _listen(self, hub: Hub, listener: Listener, seconds: float) -> None:
        wire = Wire()
        resume = Resume(listener.at, dict(listener.seen)) if listener.at is not None else None
        if resume is None:
            listener.seen.clear()  # it never got to live: it begins anew
            listener.first.clear()
        wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), listener.filter,
                    listener.history, resume)  # fmt: skip
        inlet = Inlet(self.rng.choice([3_000, 100_000]))
        reading = asyncio.create_task(self._read(wire, listener))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), hub.attached(TARGET, inlet) as attached:
                subscription = Subscription(wish, TARGET, inlet, hub.stored, self.clock, wire.say)
                await subscription.run(*attached.begin())
        reading.cancel()  # what is still on the wire is lost
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    async def _read(self, wire: "Wire", listener: Listener) -> None:
        while True:
            data = await wire.read()
            if listener.slow and self.busy:
                await asyncio.sleep(self.rng.random() * listener.slow)
            listener.hear(data)

    async def _last_words(self) -> None:
        """A pod whose collector breaks, prints and ends: the rest is in the database alone."""
        await asyncio.sleep(10)
        pod = next(pod for pod in self.world.pods_by_uid.values() if pod.there)
        if not pod.writers[-1].last:
            await self.world.print(pod, 1)  # whom nobody has heard of nobody misses
            await asyncio.sleep(8)
        pod.answers = False
        await self.world.restart_collector(pod)
        await self.world.print(pod, 30)
        await self.world.end(pod)
        while not pod.writers[-1].end_stored:
            await asyncio.sleep(1)
            self.world.store()

    async def _printing(self) -> None:
        while True:
            await asyncio.sleep(self.rng.random() * 0.2)
            there = [pod for pod in self.world.pods_by_uid.values() if pod.there]
            if there:
                await self.world.print(self.rng.choice(there), self.rng.randint(1, 12))

    async def _storing(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 4))
            if not self.world.database_away:
                self.world.store()

    async def _breaking(self) -> None:
        world = self.world
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 5))
            there = [pod for pod in world.pods_by_uid.values() if pod.there]
            match self.rng.randrange(6):
                case 0:
                    world.new_pod()
                case 1 if len(there) > 1:
                    await world.end(self.rng.choice(there))
                case 2 if there:
                    await world.restart_collector(self.rng.choice(there))
                case 3 if there:
                    pod = self.rng.choice(there)
                    pod.answers = not pod.answers
                case 4 if there:
                    pod = self.rng.choice(there)
                    async with pod.changed:
                        pod.writers[-1].ended = True
                        world.new_writer(pod)
                case 5:
                    world.database_away = self.rng.random() < 0.3
                case _:
                    pass

    def check(self) -> None:
        """At the end each listener has an account of every writer that it ever met, to its end."""
        for listener in self.listeners:
            assert listener.at is not None
            for writer in self.world.all.values():
                seen = listener.seen.get(writer.id)
                if seen is not None or not writer.ended:
                    assert (seen or 0) == writer.last, (
                        listener,
                        writer.id,
                        writer.last,
                        writer.ended,
                    )


def play(seed: int) -> History:
    loop = SimLoop()
    history = History(seed)
    try:
        loop.run_until_complete(history.play())
        history.check()
    finally:
        abandon_all(loop)
        loop.close()
    return history


@pytest.mark.parametrize("seed", range(12))
def test_every_line_is_passed_on_left_out_or_told_as_dropped(seed: int) -> None:
    history = play(seed)
    assert sum(listener.lines for listener in history.listeners) > 100
