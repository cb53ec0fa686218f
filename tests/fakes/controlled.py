"""A controller of the laptop over builds and servers that only tell, and manifests for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from spanyard_core.clock import SystemClock
from spanyard_core.resources import builds as life
from spanyard_core.resources.api import ResourceEvent
from spanyard_core.resources.kinds import (
    API_VERSION,
    ArtifactStatus,
    Build,
    BuildStatus,
    Deployment,
    Kind,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.storage import Storage
from spanyard_local.controller import Controller
from spanyard_local.controller_builds import Builds, Changed
from spanyard_local.controller_servers import Servers
from spanyard_local.store import ResourceStore
from spanyard_local.undisturbed import settled

NOW = "2026-11-21T12:00:00Z"


def manifest(kind: str, name: str, **spec: Any) -> Mapping[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def build(name: str, project: str = "shop", **spec: Any) -> Mapping[str, Any]:
    source = {"directory": {"path": "/src"}}
    return manifest("Build", name, project=project, source=source, **spec)


def deployment(name: str, **spec: Any) -> Mapping[str, Any]:
    return manifest("Deployment", name, project="shop", follow=True, command="./run", **spec)


class Attempts:
    """A runner of builds whose attempts end when the test says so."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Future[str]] = {}
        self.started: list[tuple[str, int]] = []
        self.most = 0
        self.silent = False
        """Whether it takes its time to say that it builds."""
        self.slow_end: asyncio.Event | None = None
        """Until it is set, cancelled attempts do not end."""

    async def run(
        self,
        build: Build,
        *,
        attempt: int,
        changed: Changed,
        cancel: asyncio.Event,
        logs_whole: Callable[[], bool],
    ) -> BuildStatus:
        name = build.metadata.name
        assert name not in self.running, "started twice"
        self.started.append((name, attempt))
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.running[name] = end
        self.most = max(self.most, len(self.running))
        cancelled = asyncio.create_task(cancel.wait())
        status = life.begun(build, now=NOW)
        try:
            if not self.silent:
                await changed(status)
            await asyncio.wait({end, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            result = end.result() if end.done() else "Cancelled"
            if result == "Cancelled" and self.slow_end is not None:
                await self.slow_end.wait()
        finally:
            del self.running[name]
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
        if result == "Succeeded":
            artifact = ArtifactStatus(key=f"builds/local.{name}/artifact.tar.zst")
            return life.succeeded(build, status, artifact, now=NOW, log_complete=True)
        return life.failed(build, status, explain(result), now=NOW, log_complete=True)

    def end(self, name: str, how: str = "Succeeded") -> None:
        self.running[name].set_result(how)

    def break_(self, name: str) -> None:
        self.running[name].set_exception(RuntimeError("a mistake"))


class Server:
    """A runner of a deployment that notes what it is told."""

    made: "list[Server]"

    def __init__(self, deployment: Deployment, changed: Any, event: Any) -> None:
        self.deployment = deployment
        self.changed = changed
        self.event = event
        self.builds: Sequence[Build] = ()
        self.ended = asyncio.Event()
        self.failing = asyncio.Event()

    def want(self, deployment: Deployment, builds: Sequence[Build]) -> None:
        self.deployment = deployment
        self.builds = builds

    async def run(self) -> None:
        waits = [asyncio.create_task(e.wait()) for e in (self.ended, self.failing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self.failing.is_set():
            raise RuntimeError("a mistake")

    async def stop(self) -> None:
        self.ended.set()


class World:
    """A controller that runs."""

    def __init__(self, store: ResourceStore, storage: Storage) -> None:
        self.store = store
        self.storage = storage
        self.attempts = Attempts()
        self.servers: list[Server] = []
        self.unstored = False
        clock = SystemClock()
        builds = Builds(
            store, self.attempts, storage, clock, at_once=2, unstored=lambda _: self.unstored
        )
        self.cleaned: list[str] = []
        servers = Servers(
            store, self._make, clock, clean=lambda d: self.cleaned.append(d.metadata.uid)
        )
        self.controller = Controller(store, builds, servers, clock)

    def _make(self, deployment: Deployment, changed: Any, event: Any) -> Server:
        self.servers.append(Server(deployment, changed, event))
        return self.servers[-1]

    def build(self, name: str) -> Build:
        found = self.store.find("Build", f"local.{name}")
        assert isinstance(found, Build)
        return found

    async def until(self, what: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not what():
                await asyncio.sleep(0.002)

    async def told(self, kind: Kind, name: str, count: int) -> Sequence[ResourceEvent]:
        """Its events, once there are so many."""
        async with asyncio.timeout(60):
            while len(found := await self.store.events(kind, f"local.{name}")) < count:
                await asyncio.sleep(0.002)
        return found

    async def quiet(self) -> None:
        """Let it do what it wants to do."""
        await asyncio.sleep(0.05)

    async def gone(self, kind: Kind, name: str) -> None:
        await self.until(lambda: self.store.find(kind, f"local.{name}") is None)


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    await world.controller.begin()
    task = asyncio.create_task(world.controller.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.controller.stop()
        await settled()
