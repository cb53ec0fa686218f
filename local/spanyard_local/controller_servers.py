"""Deployments of the store: a runner for each, from its first sight to its end.

The runner does the work; this starts it, hands it every newer wish, writes what it tells into the
store, and takes it away: when the object is deleted (then the object goes, too), and when `up` ends.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol, cast

import msgspec

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import SpanyardError
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.kinds import (
    Build,
    Deployment,
    DeploymentStatus,
    project_id,
    resource_id,
)
from spanyard_core.resources.reasons import REASONS
from spanyard_core.retry import Backoff
from spanyard_local.store import ResourceStore

log = logging.getLogger("spanyard.local")

Changed = Callable[[DeploymentStatus], Awaitable[None]]
Event = Callable[[str, str, str], None]
"""Type, reason, message."""
MAX_WAITING_EVENTS = 1_000
"""Of one Deployment; the store keeps 100."""
LAST_EVENTS_S = 5.0
"""For those that wait when the runner has ended."""


class Server(Protocol):
    """What is seen of `servers.runner.ServerRunner`."""

    def want(self, deployment: Deployment, builds: Sequence[Build]) -> None: ...
    async def run(self) -> None: ...
    async def stop(self) -> None: ...


Make = Callable[[Deployment, Changed, Event], Server]


class Servers:
    """All Deployments."""

    def __init__(
        self,
        store: ResourceStore,
        make: Make,
        clock: Clock,
        *,
        clean: Callable[[Deployment], None] = lambda deployment: None,
    ) -> None:
        """`clean` removes what runners kept of a Deployment that goes; it may be called again."""
        self._store = store
        self._make = make
        self._clock = clock
        self._clean = clean
        self._kept: dict[str, _One] = {}
        """By uid."""
        self._stopping = False

    async def begin(self) -> None:
        """Nothing runs yet, whatever statuses of an earlier run say."""
        why = Because("Starting", "`spanyard up` has just begun")
        for deployment in self._store.deployments():
            made = conditions(
                deployment.status.conditions,
                generation=deployment.metadata.generation,
                now=rfc3339(self._clock.time_ns()),
                ready="False",
                because=why,
                reconciling=why,
            )
            status = msgspec.structs.replace(
                deployment.status, conditions=made, ready_replicas=0, failure=None
            )
            await self._store.set_status(deployment, status)

    async def look(self) -> None:
        """See what the store wants now. Does not wait for what takes long."""
        if self._stopping:
            return
        there = {d.metadata.uid: d for d in self._store.deployments()}
        for uid, one in list(self._kept.items()):
            if one.done:
                del self._kept[uid]
            elif uid not in there:
                await one.end()
        for uid, deployment in there.items():
            one_ = self._kept.get(uid)
            if deployment.metadata.deletion_timestamp:
                if one_ is None:
                    self._clean(deployment)
                    await self._store.forget(deployment)
                else:
                    await one_.end()
            elif one_ is not None:
                one_.want(deployment)
            elif self._store.find("Project", project_id(deployment)) is None:
                await self._waits(deployment)
            else:
                self._kept[uid] = _One(
                    deployment, self._store, self._make, self._clock, self._clean
                )

    async def _waits(self, deployment: Deployment) -> None:
        why = Because(
            "ProjectMissing", REASONS["ProjectMissing"].told(name=deployment.spec.project)
        )
        status = msgspec.structs.replace(
            deployment.status,
            observed_generation=deployment.metadata.generation,
            reason=why.reason,
            message=why.message,
            ready_replicas=0,
            replicas=0,
            conditions=conditions(
                deployment.status.conditions,
                generation=deployment.metadata.generation,
                now=rfc3339(self._clock.time_ns()),
                ready="False",
                because=why,
                reconciling=why,
            ),
        )
        await self._store.set_status(deployment, status)

    async def stop(self) -> None:
        """End all in order; returns when everything they wrote is stored or in a spool."""
        self._stopping = True
        await asyncio.gather(*(one.end() for one in self._kept.values()))
        await asyncio.gather(*(one.task for one in self._kept.values()), return_exceptions=True)


class _One:
    """One Deployment and its runner, which is made again should it fail."""

    def __init__(
        self,
        deployment: Deployment,
        store: ResourceStore,
        make: Make,
        clock: Clock,
        clean: Callable[[Deployment], None],
    ) -> None:
        self._clean = clean
        self._deployment = deployment
        self._store = store
        self._make = make
        self._clock = clock
        self._runner: Server | None = None
        self._ending = asyncio.Event()
        self._events: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(MAX_WAITING_EVENTS)
        self.task = asyncio.create_task(self._run(), name=f"server {resource_id(deployment)}")
        self.task.add_done_callback(lambda _: store.touch(deployment))

    @property
    def done(self) -> bool:
        return self.task.done()

    def want(self, deployment: Deployment) -> None:
        """A newer wish, or other builds."""
        self._deployment = deployment
        if self._runner is not None:
            self._runner.want(deployment, self._store.builds())

    async def end(self) -> None:
        """Let it end. Idempotent; does not wait."""
        self._ending.set()
        if self._runner is not None:
            await self._runner.stop()

    async def _run(self) -> None:
        telling = asyncio.create_task(self._tell(), name="poster of events")
        backoff = Backoff(random.SystemRandom(), first=0.5, most=30.0)
        try:
            while not self._ending.is_set():
                self._runner = self._make(self._deployment, self._changed, self._event)
                self._runner.want(self._deployment, self._store.builds())
                try:
                    await self._runner.run()
                except Exception as error:
                    told = isinstance(error, (SpanyardError, OSError))
                    log.error(
                        "the runner of %s failed: %s",
                        resource_id(self._deployment),
                        error,
                        exc_info=not told,
                    )
                    self._event("Warning", "InternalError", str(error))
                    await self._pause(backoff.next())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_EVENTS_S):
                    await self._events.join()
        finally:
            self._runner = None
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        current = self._store.find("Deployment", resource_id(self._deployment))
        if current is not None and current.metadata.deletion_timestamp:
            self._clean(self._deployment)
            await self._store.forget(self._deployment)

    async def _pause(self, seconds: float) -> None:
        waits = [
            asyncio.create_task(self._clock.sleep(seconds)),
            asyncio.create_task(self._ending.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _changed(self, status: DeploymentStatus) -> None:
        try:
            await self._store.set_status(self._deployment, status)
        except SpanyardError as error:  # a full disk: the next status may go again
            log.error("%s", error)

    def _event(self, kind: str, reason: str, message: str) -> None:
        if self._events.full():
            self._events.get_nowait()
            self._events.task_done()
        self._events.put_nowait((kind, reason, message))

    async def _tell(self) -> None:
        while True:
            kind, reason, message = await self._events.get()
            try:
                await self._store.add_event(
                    self._deployment, cast(Literal["Normal", "Warning"], kind), reason, message
                )
            except SpanyardError as error:
                log.error("%s", error)
            self._events.task_done()
