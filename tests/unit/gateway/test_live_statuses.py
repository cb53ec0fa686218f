"""Statuses: asked for and encoded once per channel, told to each listener, and told anew to nobody."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import msgspec

from spanyard_core.errors import StorageError
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import Build, Kind, Resource
from spanyard_gateway.live.channels import parse_channel
from spanyard_gateway.live.inlet import Inlet, Told
from spanyard_gateway.live.messages import said_again
from spanyard_gateway.live.statuses import Statuses
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import SimLoop, abandon_all

CHANNEL = parse_channel("build:local.web-1")


class Builds:
    """The part of `ResourceApi` that is asked."""

    def __init__(self) -> None:
        self.phase = "Building"
        self.away = False
        self.questions = 0

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        self.questions += 1
        if self.away:
            raise StorageError("away")
        assert (kind, resource_id) == ("Build", "local.web-1")
        found = {
            "apiVersion": "spanyard.dev/v1alpha1",
            "kind": "Build",
            "metadata": {"name": "web-1", "namespace": "local", "uid": "u1"},
            "spec": {"project": "web", "source": {"directory": {"path": "."}}},
            "status": {"phase": self.phase},
        }
        return msgspec.convert(found, Build)

    async def list(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        assert project == "local.web", "nobody asked for all"
        self.questions += 1
        return []


async def _next(inlet: Inlet) -> dict[str, Any]:
    async with asyncio.timeout(5):
        told = await inlet.get()
    assert isinstance(told, Told)
    message: dict[str, Any] = msgspec.json.decode(said_again("mine", told.message))
    assert message["id"] == "mine"
    return message


def test_many_listeners_to_one_build_are_told_the_same_bytes_once_per_change() -> None:
    async def scene() -> None:
        builds = Builds()
        statuses = Statuses(lambda: cast(ResourceApi, builds), SimClock(WallClock()))
        inlets = [Inlet(1) for _ in range(20)]
        for inlet in inlets:
            statuses.join(CHANNEL, inlet)
        for inlet in inlets:
            assert (await _next(inlet))["status"]["phase"] == "Building"
        await asyncio.sleep(10)
        assert 10 <= builds.questions <= 12
        assert all(inlet.empty for inlet in inlets), "nothing changed"
        builds.away = True
        await asyncio.sleep(5)
        assert all(inlet.empty for inlet in inlets), "it is as it was, as far as anybody knows"
        builds.away, builds.phase = False, "Failed"
        await asyncio.sleep(2)
        builds.phase = "Succeeded"
        await asyncio.sleep(2)
        told = [await inlet.get() for inlet in inlets]
        assert len({id(cast(Told, each).message) for each in told}) == 1, "encoded once"
        assert all(inlet.empty for inlet in inlets), "the newest word replaces the one before"
        late = Inlet(1)
        statuses.join(CHANNEL, late)
        assert (await _next(late))["status"]["phase"] == "Succeeded"
        for inlet in (*inlets, late):
            await statuses.leave(CHANNEL, inlet)
        before = builds.questions
        await asyncio.sleep(10)
        assert builds.questions == before, "nobody listens, nobody asks"

    play(scene())


def test_a_listener_whose_leave_is_cancelled_leaves_nobody_asking() -> None:
    async def scene() -> None:
        builds = Builds()
        statuses = Statuses(lambda: cast(ResourceApi, builds), SimClock(WallClock()))
        channel, inlet = parse_channel("project:local.web"), Inlet(1)
        statuses.join(channel, inlet)
        await asyncio.sleep(3)
        leaving = asyncio.create_task(statuses.leave(channel, inlet))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        before = builds.questions
        assert before >= 6, "builds and deployments, every second"
        await asyncio.sleep(10)
        assert builds.questions == before

    play(scene())


def play(scene: Coroutine[Any, Any, None]) -> None:
    loop = SimLoop()
    try:
        loop.run_until_complete(scene)
    finally:
        abandon_all(loop)
        loop.close()
