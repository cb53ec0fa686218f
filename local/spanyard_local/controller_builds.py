"""Builds of the store: started when their turn comes, ended, retried, removed.

The rules are pure functions of `spanyard_core.resources.builds`, the work is the runner's. A build
that a killed `up` left half done is started again: its status says that it builds, and nobody here
does it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from spanyard_core.build_log import finish_build_log
from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import SpanyardError, StorageError
from spanyard_core.resources.builds import (
    admit,
    expired,
    failed,
    queued,
    too_many_attempts,
    wants_retry,
)
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.deployments import builds_in_use
from spanyard_core.resources.kinds import (
    FINISHED,
    Build,
    BuildStatus,
    Project,
    project_id,
    resource_id,
)
from spanyard_core.resources.reasons import REASONS, explain
from spanyard_core.storage import Storage
from spanyard_local.store import ResourceStore

log = logging.getLogger("spanyard.local")

Changed = Callable[[BuildStatus], Awaitable[None]]
MOST_ATTEMPTS = 20
"""Of one build, all but the first after a killed `up`: a source that brings it down each time must
not do so for ever."""
AGAIN_S = 2.0
"""Before what failed here is tried again: a full disk stays full for a while."""
CLEANUP_S = 20.0
"""How long the objects of a build are tried to be removed; then it goes without."""


class Runner(Protocol):
    """What is seen of `builds.runner.BuildRunner`."""

    async def run(
        self,
        build: Build,
        *,
        attempt: int,
        changed: Changed,
        cancel: asyncio.Event,
        logs_whole: Callable[[], bool],
    ) -> BuildStatus: ...


@dataclass(slots=True)
class _Job:
    task: "asyncio.Task[None]"
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    runs: bool = True
    """It is an attempt, not a cleanup."""


class Builds:
    """All builds."""

    def __init__(
        self,
        store: ResourceStore,
        runner: Runner,
        storage: Storage,
        clock: Clock,
        *,
        at_once: int = 2,
        unstored: Callable[[Build], bool] = lambda build: False,
    ) -> None:
        """`at_once` builds run at a time, of all projects: a laptop has few processors.

        `unstored` tells whether a pod of an earlier attempt still has output that is not stored.
        """
        self._store = store
        self._runner = runner
        self._storage = storage
        self._clock = clock
        self._at_once = at_once
        self._unstored = unstored
        self._jobs: dict[str, _Job] = {}
        """By uid."""
        self._damaged: set[str] = set()
        """Uids of builds whose log will never be whole."""
        self._stopping = False

    def _now(self) -> str:
        return rfc3339(self._clock.time_ns())

    # --- one look ----------------------------------------------------------------------------

    async def look(self) -> None:
        """See what the store wants now. Does not wait for what takes long."""
        if self._stopping:
            return
        self._jobs = {uid: job for uid, job in self._jobs.items() if not job.task.done()}
        # Those that are first seen in one look are queued in the order in which they were made.
        for build in sorted(self._store.builds(), key=_made):
            await self._settle(build)
        for project in self._store.projects():
            await self._retire(project)
        room = self._at_once - sum(job.runs for job in self._jobs.values())
        for build in self._interrupted()[: max(0, room)]:
            self._start(build)
            room -= 1
        for project in self._store.projects():
            room -= await self._admit(project, room)

    async def _settle(self, build: Build) -> None:
        """What needs no room: a beginning, a wish to end, an end."""
        job = self._jobs.get(build.metadata.uid)
        if job is not None:
            if build.spec.cancel or build.metadata.deletion_timestamp:
                job.cancel.set()
            return
        if build.metadata.deletion_timestamp:
            self._begin(build, self._remove(build), runs=False)
            return
        status = build.status
        if wants_retry(build) or (status.phase == "Queued" and not status.queued_at):
            await self._store.set_status(build, queued(build, now=self._now()))
        elif status.phase in FINISHED:
            wanting = status.attempt and not status.log_complete and not self._unstored(build)
            if wanting and build.metadata.uid not in self._damaged:
                self._begin(build, self._finish_log(build), runs=False)
        elif build.spec.cancel:
            await self._fail(build, "Cancelled")
        elif self._store.find("Project", project_id(build)) is None:
            await self._waits(build)
        elif failure := too_many_attempts(build, limit=MOST_ATTEMPTS):
            status = failed(build, status, failure, now=self._now(), log_complete=False)
            await self._store.set_status(build, status)

    async def _fail(self, build: Build, reason: str, name: str = "") -> None:
        failure = explain(reason, name=name)
        ended = failed(
            build,
            build.status,
            failure,
            now=self._now(),
            log_complete=build.status.attempt == 0,  # nothing was ever printed
        )
        await self._store.set_status(build, ended)

    async def _waits(self, build: Build) -> None:
        told = REASONS["ProjectMissing"].told(name=build.spec.project)
        because = Because("ProjectMissing", told)
        status = msgspec.structs.replace(
            build.status,
            observed_generation=build.metadata.generation,
            reason=because.reason,
            message=because.message,
            conditions=conditions(
                build.status.conditions,
                generation=build.metadata.generation,
                now=self._now(),
                ready="False",
                because=because,
                reconciling=because,
            ),
        )
        await self._store.set_status(build, status)

    def _interrupted(self) -> Sequence[Build]:
        return [
            build
            for build in self._store.builds()
            if build.status.phase == "Building"
            and build.metadata.uid not in self._jobs
            and not build.metadata.deletion_timestamp
            and self._store.find("Project", project_id(build)) is not None
        ]

    async def _admit(self, project: Project, room: int) -> int:
        """Start builds of a project whose turn it is; returns how many."""
        builds = {
            b.metadata.name: self._as_it_is(b)
            for b in self._store.builds(resource_id(project))
            if (b.status.queued_at or b.status.phase == "Building")
            # One that is deleted takes its turn until its processes have ended.
            and (not b.metadata.deletion_timestamp or self._runs(b))
        }
        plan = admit(builds.values(), project.spec.builds.concurrency_policy, room=max(0, room))
        for name, newer in plan.supersede.items():
            await self._fail(builds[name], "Superseded", newer)
        for name, ahead in plan.wait.items():
            status = queued(builds[name], now=self._now(), waits_for=ahead)
            await self._store.set_status(builds[name], status)
        for name in plan.start:
            self._start(builds[name])
        return len(plan.start)

    def _as_it_is(self, build: Build) -> Build:
        """One that was started may not have said so yet: it must not be started twice."""
        if not self._runs(build):
            return build
        status = msgspec.structs.replace(build.status, phase="Building")
        return msgspec.structs.replace(build, status=status)

    def _runs(self, build: Build) -> bool:
        job = self._jobs.get(build.metadata.uid)
        return job is not None and job.runs and not job.task.done()

    # --- running -----------------------------------------------------------------------------

    def _start(self, build: Build) -> None:
        self._begin(build, self._run(build), runs=True)

    def _begin(self, build: Build, work: Awaitable[None], *, runs: bool) -> None:
        async def job() -> None:
            try:
                await work
            except (SpanyardError, OSError) as error:
                log.error("%s: %s", resource_id(build), error)
                await self._clock.sleep(AGAIN_S)  # the next look begins it again
            except Exception:
                log.exception("%s: a mistake of ours", resource_id(build))
                await self._clock.sleep(AGAIN_S)

        task = asyncio.create_task(job(), name=f"build {resource_id(build)}")
        task.add_done_callback(lambda _: self._store.touch(build))  # there is room again
        self._jobs[build.metadata.uid] = _Job(task, runs=runs)

    async def _run(self, build: Build) -> None:
        async def changed(status: BuildStatus) -> None:
            await self._store.set_status(build, status)

        await asyncio.sleep(0)  # so that the job is known
        cancel = self._jobs[build.metadata.uid].cancel
        attempt = build.status.attempt + 1
        try:
            status = await self._runner.run(
                build,
                attempt=attempt,
                changed=changed,
                cancel=cancel,
                logs_whole=lambda: not self._unstored(build),
            )
        except Exception as error:
            told = isinstance(error, (SpanyardError, OSError))
            log.error("build %s failed here: %s", resource_id(build), error, exc_info=not told)
            current = self._store.find("Build", resource_id(build))
            last = current.status if isinstance(current, Build) else build.status
            status = failed(
                build,
                last,
                explain("InternalError", detail=str(error)),
                now=self._now(),
                log_complete=False,
            )
        await self._keep(build, status)

    async def _keep(self, build: Build, status: BuildStatus) -> None:
        """Write the last status, also when the disk is full for a while."""
        while True:
            try:
                await self._store.set_status(build, status)
                return
            except SpanyardError as error:
                log.error("%s", error)
                await self._clock.sleep(AGAIN_S)

    async def stop(self) -> None:
        """Interrupt what runs: the next `up` starts it again. Returns when all has ended."""
        self._stopping = True
        for job in self._jobs.values():
            job.task.cancel()
        await asyncio.gather(*(job.task for job in self._jobs.values()), return_exceptions=True)

    # --- the end of a build ------------------------------------------------------------------

    async def _finish_log(self, build: Build) -> None:
        """Put the log together that an interruption left in parts."""
        done = await finish_build_log(self._storage, resource_id(build))
        if done.damaged:
            log.error("parts of the log of %s cannot be read: %s", resource_id(build), done.damaged)
            self._damaged.add(build.metadata.uid)
            return
        current = self._store.find("Build", resource_id(build))
        if isinstance(current, Build) and current.status.finished_at == build.status.finished_at:
            status = msgspec.structs.replace(current.status, log_complete=True)
            await self._keep(build, status)

    async def _retire(self, project: Project) -> None:
        of_it = resource_id(project)
        builds = [
            b
            for b in self._store.builds(of_it)
            if not b.metadata.deletion_timestamp and b.metadata.uid not in self._jobs
        ]
        in_use = builds_in_use(self._store.deployments(of_it))
        now = datetime.fromtimestamp(self._clock.time_ns() / 1e9, UTC)
        for gone in expired(builds, project.spec.builds.retention, now=now, in_use=in_use):
            name = gone.build.metadata.name
            await self._store.delete("Build", resource_id(gone.build))
            told = REASONS["BuildRemoved"].told(name=name, detail=gone.why)
            await self._store.add_event(project, "Normal", "BuildRemoved", told)

    async def _remove(self, build: Build) -> None:
        """Delete what a build stored, then the object: log parts, `build.log`, artifact, facts."""
        trouble = ""
        deadline = self._clock.monotonic() + CLEANUP_S
        while True:
            try:
                async for info in self._storage.list(f"builds/{resource_id(build)}/"):
                    await self._storage.delete(info.key)
                trouble = ""
                break
            except StorageError as error:
                trouble = str(error)
                if self._clock.monotonic() >= deadline:
                    break
                await self._clock.sleep(1.0)
        else:
            trouble = ""
        if trouble:
            log.warning("what %s stored could not all be removed: %s", resource_id(build), trouble)
        await self._store.forget(build)


def _made(build: Build) -> tuple[str, int]:
    """Order of creation. Its time has seconds only; the version is of one count for all objects."""
    metadata = build.metadata
    version = metadata.resource_version
    return metadata.creation_timestamp, int(version) if version.isdigit() else 0
