"""The replicas of one revision: as many as are wanted, started and stopped together."""

import asyncio
from collections.abc import Callable

from spanyard_core.resources import rollout
from spanyard_local.servers.ports import Target
from spanyard_local.servers.replica import Plan, Replica, World


class Group:
    """One revision that runs. `leave` and `scale` only begin: `ended` waits."""

    def __init__(
        self,
        number: int,
        hash_: str,
        plan: Plan,
        world: World,
        *,
        changed: Callable[[], None],
        grace: float,
    ) -> None:
        self.number = number
        self.hash = hash_
        self.since = world.clock.monotonic()
        self.grace = grace
        self._plan = plan
        self._world = world
        self._changed = changed
        self._replicas: list[Replica] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    def scale(self, wanted: int) -> None:
        """Have so many: new ones start, the newest leave first."""
        while len(self._replicas) < wanted:
            replica = Replica(self._plan, self._world, changed=self._changed, grace=self.grace)
            name = f"replica of {self._plan.deployment}, revision {self.number}"
            task = asyncio.create_task(replica.run(), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._on_done)
            self._replicas.append(replica)
        while len(self._replicas) > wanted:
            self._worst().stop()

    def _worst(self) -> Replica:
        """Of those that may go: one that is not ready, else the newest."""
        chosen = next((r for r in reversed(self._replicas) if not r.ready), self._replicas[-1])
        self._replicas.remove(chosen)
        return chosen

    def leave(self) -> None:
        """All stop, in order."""
        self.scale(0)

    def set_grace(self, seconds: float) -> None:
        """For processes that are stopped from now on."""
        self.grace = seconds
        for replica in self._replicas:
            replica.grace = seconds

    async def ended(self) -> None:
        """Return when all that left are gone and what they wrote is stored. Cancelled, it kills."""
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)
        self._changed()

    def check(self) -> None:
        """Raise what ended a replica that should have gone on: a mistake of ours."""
        if self._errors:
            raise self._errors[0]

    @property
    def targets(self) -> list[Target]:
        """Where its replicas take requests."""
        return [r.target for r in self._replicas if r.target is not None]

    def state(self) -> rollout.Group:
        """For the state machine."""
        replicas = self._replicas
        failed = [r for r in replicas if r.failure is not None and not r.ready]
        # The one that will never come up says more than one that is tried again.
        worst = next((r for r in failed if r.hopeless), failed[-1] if failed else None)
        return rollout.Group(
            number=self.number,
            hash=self.hash,
            since=self.since,
            wanted=len(replicas),
            running=sum(r.running for r in replicas),
            ready=sum(r.ready for r in replicas),
            restarts=sum(r.restarts for r in replicas),
            failure=worst.failure if worst else None,
            hopeless=any(r.hopeless for r in replicas),
            trouble=next((r.trouble for r in replicas if not r.ready and r.trouble), ""),
        )
