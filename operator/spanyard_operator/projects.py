"""A project, looked at: whose turn it is to build, which builds have had their time, the status."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from spanyard_core.kube import BUILDS
from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.deployments import builds_in_use, latest_successful
from spanyard_core.resources.durations import seconds_or
from spanyard_core.resources.kinds import FINISHED, Build, BuildRetention, Project, ProjectStatus
from spanyard_core.resources.metadata import MAX_NAME
from spanyard_core.resources.reasons import REASONS, explain
from spanyard_operator.builds.pods import pods_of, seconds_since
from spanyard_operator.builds.start import Attempts, queued_status
from spanyard_operator.cache import Cache
from spanyard_operator.context import Context
from spanyard_operator.names import build_pod_name
from spanyard_operator.status import write_status
from spanyard_operator.workqueue import Again, Key


class Projects:
    """All projects; one per process."""

    def __init__(self, context: Context, attempts: Attempts) -> None:
        self._context = context
        self._attempts = attempts
        self._starting: set[str] = set()
        """Uids of builds that are being started: their room is taken, their status not written."""
        self._removed: set[str] = set()
        """Uids of builds whose removal was asked for, and was not seen yet."""

    async def reconcile(self, namespace: str, name: str) -> Again | None:
        """One look at one project. Raises KubeError, KubeUnavailableError: it comes again."""
        project = self._context.cache.project(namespace, name)
        if project is None or project.metadata.deletion_timestamp:
            return None
        looks = []
        if len(namespace) <= MAX_NAME:
            looks.append(await self._admit(project))
            looks.append(await self._retire(project))
        await self._write(project)
        soonest = min((again.after for again in looks if again is not None), default=None)
        return None if soonest is None else Again(soonest)

    # --- whose turn it is --------------------------------------------------------------------

    async def _admit(self, project: Project) -> Again | None:
        context, metadata = self._context, project.metadata
        builds = {
            build.metadata.name: build
            for build in context.cache.builds(metadata.namespace, metadata.name)
            if build.status.queued_at or build.status.phase == "Building"
            # One that is deleted keeps its turn until its pods have gone.
            if not build.metadata.deletion_timestamp or pods_of(context, build)
        }
        plan = life.admit(
            map(self._as_it_is, builds.values()),
            project.spec.builds.concurrency_policy,
            room=self._room(),
        )
        # From here to the end of the loop nothing waits: nobody else gives away this room.
        mine = [builds[name] for name in plan.start]
        self._starting |= {build.metadata.uid for build in mine}
        try:
            for name, newer in plan.supersede.items():
                await self._supersede(builds[name], newer)
            for name, ahead in plan.wait.items():
                status = queued_status(builds[name], now=context.now(), waits_for=ahead)
                await write_status(context.kube, context.cache, builds[name], status)
            looks = [again for build in mine if (again := await self._start(build)) is not None]
        finally:
            self._starting -= {build.metadata.uid for build in mine}
        return min(looks, key=lambda again: again.after, default=None)

    async def _start(self, build: Build) -> Again | None:
        metadata = build.metadata
        again = await self._attempts.start(build)
        now = self._context.cache.build(metadata.namespace, metadata.name)
        if now is not None and now.status.phase == "Queued":
            return again
        self._context.queue.add(Key("Build", metadata.namespace, metadata.name))  # its time runs
        return None

    async def _supersede(self, build: Build, newer: str) -> None:
        context = self._context
        failure = explain("Superseded", name=newer)
        never_ran = build.status.attempt == 0
        status = life.failed(
            build, build.status, failure, now=context.now(), log_complete=never_ran
        )
        if await write_status(context.kube, context.cache, build, status):
            await context.events.tell(build, "Superseded", failure.message, once=newer)

    def _as_it_is(self, build: Build) -> Build:
        """One that was started may not say so yet: it must not be counted as waiting."""
        if build.status.phase != "Queued" or not self._has_begun(build):
            return build
        status = msgspec.structs.replace(build.status, phase="Building")
        return msgspec.structs.replace(build, status=status)

    def _has_begun(self, build: Build) -> bool:
        if build.metadata.uid in self._starting or build.metadata.deletion_timestamp:
            return True
        mine = build_pod_name(build.metadata.name, build.status.attempt + 1)
        return any(pod["metadata"]["name"] == mine for pod in pods_of(self._context, build))

    def _room(self) -> int:
        cache = self._context.cache
        running = {b.metadata.uid for b in cache.builds() if b.status.phase == "Building"}
        return self._context.settings.build_room - len(running | self._starting)

    # --- whose time is over ------------------------------------------------------------------

    async def _retire(self, project: Project) -> Again | None:
        context, metadata = self._context, project.metadata
        there = context.cache.builds(metadata.namespace, metadata.name)
        if self._removed:  # those that have gone need not be remembered
            self._removed &= {build.metadata.uid for build in context.cache.builds()}
        builds = [
            build
            for build in there
            if not build.metadata.deletion_timestamp and build.metadata.uid not in self._removed
        ]
        in_use = builds_in_use(context.cache.deployments(metadata.namespace, metadata.name))
        retention = project.spec.builds.retention
        now = context.now()
        for gone in life.expired(builds, retention, now=datetime.fromisoformat(now), in_use=in_use):
            about = gone.build.metadata
            await context.kube.delete(BUILDS, about.name, about.namespace, uid=about.uid)
            self._removed.add(about.uid)
            told = REASONS["BuildRemoved"].told(name=about.name, detail=gone.why)
            await context.events.tell(project, "BuildRemoved", told, once=about.uid)
        left = [build for build in builds if build.metadata.uid not in self._removed]
        return _next_expiry(left, retention, in_use, now)

    # --- what is told ------------------------------------------------------------------------

    async def _write(self, project: Project) -> None:
        context, metadata = self._context, project.metadata
        builds = [
            build
            for build in context.cache.builds(metadata.namespace, metadata.name)
            if not build.metadata.deletion_timestamp
        ]
        deployments = context.cache.deployments(metadata.namespace, metadata.name)
        latest = latest_successful(metadata.name, builds)
        phases = [build.status.phase for build in builds]
        status = ProjectStatus(
            observed_generation=metadata.generation,
            latest_build=latest.metadata.name if latest is not None else "",
            running_builds=phases.count("Building"),
            queued_builds=phases.count("Queued"),
            deployments=sum(not one.metadata.deletion_timestamp for one in deployments),
        )
        well = Because("Accepted", REASONS["Accepted"].message)
        bad: Because | None = None
        if len(metadata.namespace) > MAX_NAME:
            told = f"it has {len(metadata.namespace)} characters, at most {MAX_NAME} are possible"
            bad = Because(
                "InvalidSpec", REASONS["InvalidSpec"].told(where="metadata.namespace", detail=told)
            )
        status.conditions = conditions(
            project.status.conditions,
            generation=metadata.generation,
            now=context.now(),
            ready="False" if bad else "True",
            because=bad or well,
            stalled=bad,
        )
        if await write_status(context.kube, context.cache, project, status) and bad:
            await context.events.tell(project, bad.reason, bad.message)


def waiting_projects(cache: Cache) -> list[Key]:
    """Projects with a build that waits for its turn."""
    found = {
        Key("Project", build.metadata.namespace, build.spec.project)
        for build in cache.builds()
        if build.status.phase == "Queued" and build.status.queued_at
    }
    return sorted(found)


def _next_expiry(
    builds: Iterable[Build], retention: BuildRetention, in_use: Iterable[str], now: str
) -> Again | None:
    kept = set(in_use)
    soonest: float | None = None
    for build in builds:
        if build.status.phase not in FINISHED or build.metadata.name in kept:
            continue
        good = build.status.phase == "Succeeded"
        ttl = retention.ttl_after_succeeded if good else retention.ttl_after_failed
        longest = seconds_or(ttl, None)
        if longest is None:
            continue
        left = max(1.0, longest - seconds_since(build.status.finished_at, now) + 0.1)
        soonest = left if soonest is None else min(soonest, left)
    return None if soonest is None else Again(soonest)
