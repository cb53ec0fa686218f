"""A Deployment on a real ServerRunner, with what tests want to see of it."""

import asyncio
import contextlib
import hashlib
import io
import random
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import zstandard

from spanyard_core.clock import SystemClock
from spanyard_core.resources.conditions import find
from spanyard_core.resources.kinds import ArtifactStatus, Build, Deployment, DeploymentStatus
from spanyard_core.storage import Storage, open_storage
from spanyard_local.servers.runner import ServerRunner
from tests.fakes.pods import FakePods

PATIENCE_S = 60.0


def packed(files: Mapping[str, str]) -> bytes:
    """An artifact with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return zstandard.ZstdCompressor().compress(buffer.getvalue())


@dataclass
class Deployed:
    """A runner that runs; statuses and events as they came."""

    storage: Storage
    pods: FakePods
    runner: ServerRunner
    task: "asyncio.Task[None]"
    statuses: list[DeploymentStatus] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    builds: dict[str, Build] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def build(self, build: Build, files: Mapping[str, str]) -> Build:
        """Store the artifact of a build, as a successful one."""
        data = packed(files)
        key = f"builds/{build.metadata.namespace}.{build.metadata.name}/artifact.tar.zst"
        await self.storage.write(key, data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        build.status.artifact = ArtifactStatus(key=key, digest=digest, size=len(data))
        self.builds[build.metadata.name] = build
        return build

    def want(self, deployment: Deployment) -> None:
        """Ask for it, with the builds that there are."""
        if self.statuses:
            deployment = msgspec.structs.replace(deployment, status=self.statuses[-1])
        self.runner.want(deployment, list(self.builds.values()))

    @property
    def status(self) -> DeploymentStatus:
        """The newest."""
        return self.statuses[-1]

    async def until(
        self, what: Callable[[DeploymentStatus], bool], patience: float = PATIENCE_S
    ) -> DeploymentStatus:
        """The first status from now on, the present one included, of which `what` is true."""
        seen = max(0, len(self.statuses) - 1)
        try:
            async with asyncio.timeout(patience):
                while True:
                    for status in self.statuses[seen:]:
                        if what(status):
                            return status
                    seen = len(self.statuses)
                    if self.task.done():
                        await self.task
                    self.news.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await self.news.wait()
        except TimeoutError:
            last = self.statuses[-1] if self.statuses else None
            raise AssertionError(f"it did not come to that; the last status is {last}") from None

    async def until_event(self, reason: str, patience: float = PATIENCE_S) -> str:
        """The message of the first event with this reason."""
        async with asyncio.timeout(patience):
            while True:
                for _, told, message in self.events:
                    if told == reason:
                        return message
                await asyncio.sleep(0.02)

    async def get(self, path: str = "/") -> tuple[int, str]:
        """A request to the endpoint, on a connection of its own."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.status.endpoint + path) as response,
        ):
            return response.status, await response.text()

    async def send(self, path: str) -> bytes:
        """One request that nobody repeats; what came back until the end."""
        parts = urlsplit(self.status.endpoint)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    def reasons(self) -> list[str]:
        """Of the events, in order."""
        return [reason for _, reason, _ in self.events]


def is_ready(status: DeploymentStatus, revision: int | None = None) -> bool:
    """Whether it serves, and nothing is under way."""
    ready = find(status.conditions, "Ready")
    return (
        ready is not None
        and ready.status == "True"
        and find(status.conditions, "Reconciling") is None
        and (revision is None or status.revision == revision)
    )


def is_stalled(status: DeploymentStatus) -> bool:
    """Whether it does not go on by itself."""
    return find(status.conditions, "Stalled") is not None


@contextlib.asynccontextmanager
async def deployed(folder: Path, **options: Any) -> AsyncIterator[Deployed]:
    """A runner while the block runs; it is stopped in order."""
    bucket = folder / "bucket"
    bucket.mkdir(exist_ok=True)
    storage = open_storage(bucket.as_uri())
    pods = options.pop("pods", None) or FakePods(folder / "runs")
    made: list[Deployed] = []

    async def changed(status: DeploymentStatus) -> None:
        made[0].statuses.append(status)
        made[0].news.set()

    runner = ServerRunner(
        storage=storage,
        pods=pods,
        clock=SystemClock(),
        rng=random.Random(7),
        changed=changed,
        event=lambda *told: made[0].events.append(told),
        **options,
    )
    task = asyncio.create_task(runner.run(), name="server runner")
    made.append(Deployed(storage, pods, runner, task))
    try:
        yield made[0]
    finally:
        await runner.stop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait([task])
                if not task.cancelled():
                    await task
        finally:
            await storage.close()
