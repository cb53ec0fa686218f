"""The laptop's controller: looks at the store whenever something changes, and sees to it.

What is to be done is decided by pure functions, what takes long is done by runners; a look writes
status and starts or ends them. As in a cluster it is level-triggered: a look does the same whether
it sees a change alone or with a hundred others, or for the first time after a kill.
"""

import asyncio
import contextlib
import logging

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import SpanyardError
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.deployments import latest_successful
from spanyard_core.resources.kinds import Project, ProjectStatus, resource_id
from spanyard_core.resources.reasons import REASONS
from spanyard_local.controller_builds import Builds
from spanyard_local.controller_servers import Servers
from spanyard_local.store import ResourceStore

log = logging.getLogger("spanyard.local")

LOOK_S = 15.0
"""A look without a change: builds grow too old, a job has ended."""
AGAIN_S = 1.0
"""After a look that failed, such as on a full disk."""


class Controller:
    """All three kinds. `run` it as a task, then `stop`."""

    def __init__(
        self, store: ResourceStore, builds: Builds, servers: Servers, clock: Clock
    ) -> None:
        self._store = store
        self._builds = builds
        self._servers = servers
        self._clock = clock

    async def begin(self) -> None:
        """To be called once, before `run` and before anybody looks at statuses."""
        await self._servers.begin()

    async def run(self) -> None:
        """Look, for ever."""
        with self._store.watching() as watch:
            while True:
                wait = LOOK_S
                try:
                    await self.look()
                except SpanyardError as error:
                    log.error("%s", error)
                    wait = AGAIN_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await watch.changed()

    async def look(self) -> None:
        """One look at everything."""
        await self._builds.look()
        await self._servers.look()
        for project in self._store.projects():
            await self._project(project)

    async def stop(self) -> None:
        """End servers in order, interrupt builds; returns when all have ended."""
        await asyncio.gather(self._servers.stop(), self._builds.stop())

    async def _project(self, project: Project) -> None:
        of_it = resource_id(project)
        builds, deployments = self._store.builds(of_it), self._store.deployments(of_it)
        newest = latest_successful(project.metadata.name, builds)
        ready = Because("Accepted", REASONS["Accepted"].message)
        reconciling = None
        if project.metadata.deletion_timestamp:
            if not builds and not deployments:
                await self._store.forget(project)
                return
            # Nothing is removed that nobody named: its children are to be deleted, too.
            waits = (
                f"waits for {len(builds)} builds and {len(deployments)} deployments to be deleted"
            )
            ready = reconciling = Because("Deleting", REASONS["Deleting"].told(detail=waits))
        status = ProjectStatus(
            observed_generation=project.metadata.generation,
            conditions=conditions(
                project.status.conditions,
                generation=project.metadata.generation,
                now=rfc3339(self._clock.time_ns()),
                ready="False" if reconciling else "True",
                because=ready,
                reconciling=reconciling,
            ),
            latest_build=newest.metadata.name if newest else "",
            running_builds=sum(b.status.phase == "Building" for b in builds),
            queued_builds=sum(b.status.phase == "Queued" for b in builds),
            deployments=len(deployments),
        )
        await self._store.set_status(project, status)
