"""One replica: a pod in which a server's process runs, is watched, and is started again.

Between two starts lies a back-off of 0.5 s, doubling up to 30 s (the kubelet: 10 s up to 5 min; on
a laptop somebody is waiting), that begins anew when the server was ready and ran for a minute.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.errors import ObjectNotFoundError, SpanyardError, StorageError
from spanyard_core.resources.deployments import program
from spanyard_core.resources.durations import text
from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import REASONS, explain
from spanyard_core.retry import Backoff
from spanyard_local.podapi import Pod, PodHost, PodIdentity
from spanyard_local.servers.endings import CONTAINER, ending, exit_code, not_found
from spanyard_local.servers.health import Health, Rules, listening_below
from spanyard_local.servers.ports import Target, free_port
from spanyard_local.servers.probe import Look, look
from spanyard_local.shimmed import (
    CommandNotFoundError,
    ExitStatus,
    NoSpaceError,
    Shimmed,
    ShimSpec,
    StartError,
)

log = logging.getLogger("spanyard.local")

FIRST_DELAY_S, MOST_DELAY_S = 0.5, 30.0
STEADY_S = 60.0
"""Ready for so long, and the back-off begins anew."""
PORT_ATTEMPTS = 3
"""Starts in a row without back-off when a free port was taken by somebody quicker."""
DRAIN_S = 10.0
"""For requests that are open at a switch; a server may finish those still open after SIGTERM."""


class Process(Protocol):
    """What is seen of `shimmed.Shimmed`."""

    pid: int

    async def wait(self) -> ExitStatus: ...
    async def stop(self, grace: float | None = None) -> ExitStatus: ...


async def start_shimmed(spec: ShimSpec) -> Process:
    """Start for real."""
    return await Shimmed.start(spec)


@dataclass(frozen=True, kw_only=True)
class World:
    """What replicas of a deployment share: the seams, and whom they tell."""

    pods: PodHost
    clock: Clock
    rng: random.Random
    event: Callable[[str, str, str], None]
    """Type, reason, message."""
    release: Callable[[Target, float], Awaitable[None]]
    """Returns when no request to it is open, or after a time."""
    start: Callable[[ShimSpec], Awaitable[Process]] = start_shimmed
    look: Callable[[int, str, float], Awaitable[Look]] = look
    listens: Callable[[int], Sequence[int] | None] = listening_below
    port: Callable[[], int] = free_port


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a replica runs: the same for all of a revision."""

    namespace: str
    deployment: str
    project: str
    """Id."""
    resource_uid: str
    revision: int
    command: str
    environment: Mapping[str, str]
    """Without what the pod adds."""
    fetch: Callable[[Path], Awaitable[None]]
    """Puts the artifact into a folder. Raises SpanyardError; StorageError may pass by itself."""
    health: Rules
    memory_limit: int | None = None
    memory_text: str = ""


class Replica:
    """See the module. `run` it as a task; `stop` ends it in order."""

    def __init__(
        self, plan: Plan, world: World, *, changed: Callable[[], None], grace: float
    ) -> None:
        self.plan = plan
        self.grace = grace
        """Seconds between SIGTERM and SIGKILL; may be set until it is used."""
        self.target: Target | None = None
        """Where it takes requests; None when it does not."""
        self.running = False
        self.restarts = 0
        self.failure: Failure | None = None
        """The last one; None again when it is ready."""
        self.hopeless = False
        """It waits for its end: another start would end the same way."""
        self._world = world
        self._changed = changed
        self._stopping = asyncio.Event()
        self._starts = 0
        self._backoff = Backoff(world.rng, first=FIRST_DELAY_S, most=MOST_DELAY_S, jitter=0.1)
        self._ports_taken = 0
        self._name = ""
        self._was_ready = False
        """In this run of the process."""
        self._health: Health | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self.target is not None

    def stop(self) -> None:
        """Let `run` come to its end: requests are finished, the process ends, all is stored."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Never raises for what users or the machine do."""
        while not self._stopping.is_set():
            identity = self._identity()
            self._name = identity.pod
            pod: Pod | None = None
            try:
                async with self._world.pods.pod(identity) as pod:
                    await self._live(pod)
            except SpanyardError as error:
                if self._stopping.is_set():
                    log.error("%s did not end in order: %s", identity.pod, error)
                    break
                reason = "NoSpace" if isinstance(error, NoSpaceError) else "InternalError"
                self._fail(explain(reason, pod=identity.pod, detail=str(error)))
                await self._pause()
            if pod is not None and not pod.drained:
                self._tell(
                    "LogIncomplete",
                    f"{identity.pod}: the end of its output is not stored yet; "
                    "the next `spanyard up` goes on with it",
                )

    def _identity(self) -> PodIdentity:
        letters = "".join(self._world.rng.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        plan = self.plan
        return PodIdentity(
            namespace=plan.namespace,
            pod=f"{plan.deployment}-{plan.revision}-{letters}",
            uid=str(uuid.UUID(int=self._world.rng.getrandbits(128), version=4)),
            project=plan.project,
            deployment=plan.deployment,
            resource_uid=plan.resource_uid,
        )

    # --- the life of a pod ------------------------------------------------------------------

    async def _live(self, pod: Pod) -> None:
        if not await self._prepared(pod):
            return
        self._starts = 0
        while not self._stopping.is_set():
            if self._starts:
                self.restarts += 1
            await self._one_run(pod)
            if self.hopeless:
                await self._stopping.wait()
            elif not self._stopping.is_set() and not self._try_another_port():
                await self._pause()

    async def _prepared(self, pod: Pod) -> bool:
        """Fetch the artifact; False when it is to end before that worked."""
        while not self._stopping.is_set():
            try:
                await self.plan.fetch(pod.app_dir)
            except ObjectNotFoundError as error:
                await self._despair(_artifact_invalid(pod, f"it is not in storage: {error}"))
            except (StorageError, OSError) as error:
                self._fail(explain("InternalError", pod=pod.identity.pod, detail=str(error)))
                await self._pause()
            except SpanyardError as error:
                await self._despair(_artifact_invalid(pod, str(error)))
            else:
                return True
        return False

    async def _one_run(self, pod: Pod) -> None:
        world = self._world
        try:
            port = world.port()
        except OSError as error:
            # This machine has no descriptor left, say: that passes, and is tried again.
            raise StartError(f"{pod.identity.pod}: no port is to be had: {error}") from error
        try:
            process = await world.start(self._spec(pod, port))
        except CommandNotFoundError:
            self.hopeless = True
            self._fail(not_found(self.plan.command, pod=pod.identity.pod))
            return
        self._starts += 1
        self.running = True
        self._changed()
        began = world.clock.monotonic()
        self._health = Health(
            self.plan.health, self, world.clock, look=world.look, listens=world.listens
        )
        ended = asyncio.create_task(process.wait(), name=f"end of {pod.identity.pod}")
        watched = asyncio.create_task(
            self._health.watch(pod.identity.pod, port, process.pid),
            name=f"health of {pod.identity.pod}",
        )
        stopped = asyncio.create_task(self._stopping.wait(), name=f"stop of {pod.identity.pod}")
        tasks = (ended, watched, stopped)
        self._was_ready = False
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                self._not_ready()
                if not self._stopping.is_set():
                    self._on_end(pod, port, ended.result())
            elif watched.done():
                failure = watched.result()
                exit_ = await self._end(pod, process)
                self._fail(msgspec.structs.replace(failure, last_lines=exit_.tail))
                self._tell("Restarted", f"{pod.identity.pod} {failure.message}; it starts again")
            else:
                watched.cancel()
                await self._end(pod, process)
        except BaseException:
            # Cancelled, or a mistake of ours: no process stays behind.
            await asyncio.shield(process.stop(self.grace))
            raise
        finally:
            self.running = False
            self._health = None
            self._not_ready()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._was_ready and world.clock.monotonic() - began >= STEADY_S:
            self._backoff.reset()

    def _spec(self, pod: Pod, port: int) -> ShimSpec:
        plan, identity = self.plan, pod.identity
        return ShimSpec(
            command=["/bin/sh", "-c", f"exec {program(plan.command)}"],
            # The pod's variables win over the spec's: telemetry goes where this pod's collector is.
            environment={**plan.environment, **pod.env, "PORT": str(port)},
            directory=pod.app_dir,
            log_root=pod.log_root,
            namespace=identity.namespace,
            pod=identity.pod,
            uid=identity.uid,
            container=CONTAINER,
            restart=self._starts,
            status_file=pod.status_dir / f"{CONTAINER}.{self._starts}.json",
            grace=self.grace,
            memory_limit=plan.memory_limit,
            held=pod.held,
        )

    async def _end(self, pod: Pod, process: Process) -> ExitStatus:
        """End the process when the requests that are open are answered."""
        target = self.target
        self._not_ready()
        if target is not None:
            await self._world.release(target, min(DRAIN_S, self.grace))
        exit_ = await process.stop(self.grace)
        self._noted(pod, exit_)
        if exit_.signal == 9:
            self._tell(
                "Killed",
                f"{pod.identity.pod} did not end within {text(self.grace)} after SIGTERM "
                "and was killed",
            )
        return exit_

    def _on_end(self, pod: Pod, port: int, exit_: ExitStatus) -> None:
        plan = self.plan
        self._noted(pod, exit_)
        what = ending(
            exit_,
            pod=pod.identity.pod,
            command=plan.command,
            port=port,
            memory=plan.memory_text,
            was_ready=self._was_ready,
        )
        self.hopeless = what.hopeless
        self._ports_taken = self._ports_taken + 1 if what.port_taken else 0
        self._fail(what.failure)
        if not what.hopeless:
            self._tell(
                "Restarted",
                f"{pod.identity.pod} ended with exit code {exit_code(exit_)} "
                f"({what.failure.reason}) and starts again",
            )

    def _noted(self, pod: Pod, exit_: ExitStatus) -> None:
        """What the shim has to say; most of all, which output is lost."""
        for note in exit_.notes:
            log.warning("%s: %s", pod.identity.pod, note)
        if exit_.lost_lines or exit_.reason == "ShimLost":
            self._tell("LogIncomplete", f"{pod.identity.pod}: {'; '.join(exit_.notes)}")

    # --- health -----------------------------------------------------------------------------

    def well(self, target: Target) -> None:
        """It answers."""
        self.target = target
        self._was_ready = True
        self.failure = None
        self._ports_taken = 0
        self._tell("Healthy", f"{self._name} answers")
        self._changed()

    def unwell(self, trouble: str) -> None:
        """It does not any more."""
        self._not_ready()
        self._tell("Unhealthy", f"{self._name} does not answer well: {trouble}")

    @property
    def trouble(self) -> str:
        """What the last look found, while it runs and is not ready."""
        return self._health.trouble if self._health is not None else ""

    def _not_ready(self) -> None:
        if self.target is not None:
            self.target = None
            self._changed()

    # --- failures ---------------------------------------------------------------------------

    def _try_another_port(self) -> bool:
        return 0 < self._ports_taken < PORT_ATTEMPTS

    async def _pause(self) -> None:
        """The back-off, or less when it is to end."""
        pause = asyncio.create_task(self._world.clock.sleep(self._backoff.next()))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((pause, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pause, stopped):
                task.cancel()
            await asyncio.gather(pause, stopped, return_exceptions=True)

    async def _despair(self, failure: Failure) -> None:
        self.hopeless = True
        self._fail(failure)
        await self._stopping.wait()

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self._changed()

    def _tell(self, reason: str, message: str) -> None:
        self._world.event(REASONS[reason].event, reason, message)


def _artifact_invalid(pod: Pod, detail: str) -> Failure:
    return explain("ArtifactInvalid", pod=pod.identity.pod, detail=detail)
