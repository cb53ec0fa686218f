"""Finds the container runs of the pod by its status, and keeps a follower for each."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import PODS, Kube
from spanyard_sidecar.apilog.follower import Follower
from spanyard_sidecar.apilog.inbox import Inbox
from spanyard_sidecar.apilog.pod_status import PodStatus, Run, status_of
from spanyard_sidecar.apilog.source import KIND, ApiSource
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import Identity, Source, State

log = logging.getLogger("spanyard.sidecar")

OFTEN_S = 1.0
"""Between two looks at the pod's status while its containers start."""
SELDOM_S = 15.0
"""When all run: the end of a log tells of a restart at once."""
AWAY_S = 5.0


@dataclass
class _Followed:
    source: ApiSource
    follower: Follower
    inbox: Inbox


class ApiSources:
    """See `model.Sources`, `model.Forgets` and `model.Remote`. `run` has to be awaited beside."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        rng: Random,
        identity: Identity,
        *,
        exclude: Collection[str] = (),
        wake: Callable[[], None],
        changed: Callable[[], None],
        service: str = "",
    ) -> None:
        """`wake`: there is something to read. `changed`: there are new sources."""
        self._kube = kube
        self._clock = clock
        self._rng = rng
        self._identity = identity
        self._namespace = identity.project.partition(".")[0]
        self._exclude = frozenset(exclude)
        self._wake, self._changed = wake, changed
        self._service = service or identity.deployment
        self._seldom = Seldom(clock.monotonic)
        self._status: PodStatus | None = None
        self._seen = False
        """The status was seen since the last start, and since the end began."""
        self._asking = asyncio.Lock()
        self._asked = 0
        """Counts answers, so that one who waited for the lock need not ask again."""
        self._poke = asyncio.Event()
        self._ending = asyncio.Event()
        self._followed: dict[tuple[str, int], _Followed] = {}
        self._new: asyncio.Queue[_Followed] = asyncio.Queue()
        """As many as the pod has runs: of each container the one before and the newest."""
        self._gone = False
        self._trouble = ""

    # -- for the pipeline ----------------------------------------------------------------------

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        """New sources since the last call. Raises nothing; the network is `run`'s."""
        found: list[Source] = []
        for run in self._runs(states, epoch):
            key = (run.container, run.restart)
            if key not in self._followed:
                followed = self._opened(run, states, epoch)
                self._followed[key] = followed
                if not followed.source.ended:
                    found.append(followed.source)
                    self._new.put_nowait(followed)
        return found

    def _runs(self, states: Mapping[str, State], epoch: str) -> list[Run]:
        """Of the status, and those that the spool knows and that have not ended, in their order."""
        found: dict[tuple[str, int], Run] = {}
        for writer, state in states.items():
            if (
                state.get("kind") == KIND
                and not state.get("ended")
                and writer.endswith(f"@{epoch}")
            ):
                container, restart = _run_of(writer)
                found[container, restart] = Run(
                    container, restart, "ended", "", None, has_log=False, has_previous=False
                )
        for run in self._status.runs.values() if self._status else ():
            if (
                run.has_previous
                and run.restart
                and (run.container, run.restart) not in self._followed
            ):
                found.setdefault((run.container, run.restart - 1), _before(run))
            if run.has_log:
                found[run.container, run.restart] = run
        return [found[key] for key in sorted(found)]

    def _opened(self, run: Run, states: Mapping[str, State], epoch: str) -> _Followed:
        inbox = Inbox(self._wake)
        writer = f"{self._identity.pod_uid}/{run.container}/{run.restart}@{epoch}"
        source = ApiSource(
            self._identity,
            run.container,
            run.restart,
            epoch,
            inbox,
            started_ns=run.started_ns,
            service=self._service,
            state=states.get(writer),
        )
        follower = Follower(
            self._kube,
            f"{PODS.path(self._namespace, self._identity.pod)}/log",
            run,
            inbox,
            position=source.position,
            floor=self._floor(run),
            inside=source.inside,
            status=self._status_now,
            ending=self._ending,
            clock=self._clock,
            rng=self._rng,
            seldom=self._seldom,
        )
        return _Followed(source, follower, inbox)

    def _floor(self, run: Run) -> str:
        """Time of the newest line that was read of the container's earlier runs."""
        return max(
            (
                followed.follower.position.last
                for (container, restart), followed in self._followed.items()
                if container == run.container and restart < run.restart
            ),
            default="",
        )

    def forgotten(self, states: Mapping[str, State]) -> list[str]:
        """Writers whose runs have ended and can be asked for no more."""
        gone = []
        for writer, state in states.items():
            if state.get("kind") == KIND and state.get("ended") and self._status is not None:
                container, restart = _run_of(writer)
                newest = self._status.runs.get(container)
                if newest is None or newest.restart > restart + 1:
                    gone.append(writer)
                    self._followed.pop((container, restart), None)
        return gone

    def ending(self) -> None:
        """The collector ends: read what is there, and follow no longer."""
        if not self._ending.is_set():
            self._seen = False
            self._ending.set()
            self._poke.set()
            for followed in self._followed.values():
                followed.follower.hurry()

    @property
    def unsettled(self) -> list[str]:
        """Writers of which not all is read that was there when the end began."""
        known = self._seen or self._gone
        left = [
            followed.source.writer
            for followed in self._followed.values()
            if not followed.source.ended
            and not (known and followed.follower.settled and followed.source.idle)
        ]
        return left if known or left else ["the pod's containers (its status is not known)"]

    @property
    def trouble(self) -> str:
        """What is wrong right now, in words."""
        said = [f.follower.trouble for f in self._followed.values() if f.follower.trouble]
        return self._trouble or (said[0] if said else "")

    # -- the network ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the pod and follow its containers, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="pod status")
            while True:
                followed = await self._new.get()
                run = followed.follower.run
                group.create_task(
                    followed.follower.work(), name=f"log of {run.container}/{run.restart}"
                )

    async def _watch(self) -> None:
        while True:
            try:
                await self._status_now(True)
                self._trouble = ""
                settled = self._status is None or self._status.settled
                pause = SELDOM_S if settled and self._status else OFTEN_S
            except SpanyardError as error:
                self._trouble = f"the pod's status cannot be read: {error}"
                if self._seldom("status"):
                    log.warning("%s; trying again", self._trouble)
                pause = OFTEN_S if self._ending.is_set() else AWAY_S
            self._poke.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._poke.wait()

    async def _status_now(self, anew: bool) -> PodStatus | None:
        if not anew and (self._status is not None or self._gone):
            return self._status
        asked = self._asked
        async with self._asking:
            if self._asked > asked + 1:
                return self._status  # somebody asked after we had come
            ending = self._ending.is_set()
            pod = await self._kube.get(PODS, self._identity.pod, self._namespace)
            self._asked += 1
            status = status_of(pod, self._exclude) if pod else None
            if status is not None and self._identity.pod_uid not in {status.uid, "local"}:
                status = None  # another pod of this name
            self._gone = status is None
            if status != self._status:
                self._status = status
                self._changed()
            self._seen = self._seen or ending == self._ending.is_set()
            return status


def _before(run: Run) -> Run:
    """The run before, as far as is known of it."""
    started = run.previous_started_ns
    return Run(
        run.container, run.restart - 1, "ended", "", started, has_log=False, has_previous=False
    )


def _run_of(writer: str) -> tuple[str, int]:
    """Container and restart of a writer id."""
    base, _, restart = writer.rpartition("@")[0].rpartition("/")
    return base.rpartition("/")[2], int(restart)
