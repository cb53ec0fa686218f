"""When `spanyard up --once` is there: builds have ended, servers serve, or it is clear that not."""

from collections.abc import Sequence

from spanyard_core.resources.conditions import READY, RECONCILING, is_true
from spanyard_core.resources.deployments import latest_successful
from spanyard_core.resources.kinds import FINISHED, Build, Deployment, project_id
from spanyard_local.store import ResourceStore
from spanyard_local.up_wanted import Expected


class Goal:
    """See the module."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._expected = Expected([], [])

    def expect(self, expected: Expected) -> None:
        """What is wanted now."""
        self._expected = expected

    async def reached(self) -> None:
        """Return when nothing changes any more without somebody's doing."""
        with self._store.watching() as watch:
            while not self.is_settled():
                await watch.changed()

    def is_settled(self) -> bool:
        """Whether all builds have ended and all servers are what they will be."""
        return all(_ended(b) for b in self._builds()) and all(
            self._at_rest(d) for d in self._deployments()
        )

    @property
    def code(self) -> int:
        """The exit code: 0 when every build succeeded and every server serves."""
        good = all(b.status.phase == "Succeeded" for b in self._builds())
        return 0 if good and all(_well(d) for d in self._deployments()) else 1

    def _builds(self) -> Sequence[Build]:
        found = (self._store.find("Build", name) for name in self._expected.builds)
        return [b for b in found if isinstance(b, Build)]

    def _deployments(self) -> Sequence[Deployment]:
        found = (self._store.find("Deployment", name) for name in self._expected.deployments)
        return [d for d in found if isinstance(d, Deployment)]

    def _at_rest(self, deployment: Deployment) -> bool:
        """With all builds ended, whether it is what it will be."""
        status, generation = deployment.status, deployment.metadata.generation
        if status.observed_generation < generation:
            return False
        builds = self._store.builds(project_id(deployment))
        latest = latest_successful(deployment.spec.project, builds)
        if is_true(status.conditions, RECONCILING):
            # Waiting for a build that nobody makes is waiting for somebody.
            return latest is None and status.reason in {"WaitingForBuild", "ProjectMissing"}
        if not deployment.spec.follow or latest is None:
            return True
        name = latest.metadata.name
        return any(
            revision.build == name and revision.state in {"Serving", "Failed"}
            for revision in status.revisions
        )


def _ended(build: Build) -> bool:
    return build.status.phase in FINISHED and build.spec.retry <= build.status.observed_retry


def _well(deployment: Deployment) -> bool:
    if deployment.spec.suspend:
        return True
    return is_true(deployment.status.conditions, READY) and deployment.status.failure is None
