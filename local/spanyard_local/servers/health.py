"""Watches over one process: the kubelet's startup, readiness and liveness probes in one.

Until the server is ready it is looked at often, for `startupTimeout` at most. Then every `period`;
after `failureThreshold` bad looks in a row it gets no more requests, after three times as many it
is to be started again.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from spanyard_core.clock import Clock
from spanyard_core.resources.durations import text
from spanyard_core.resources.kinds import Failure
from spanyard_local.servers.endings import never_ready
from spanyard_local.servers.ports import Target, listening
from spanyard_local.servers.probe import Look
from spanyard_local.shim_tree import LINUX, descendants

EAGER_S = 0.1
"""Between looks at a server that starts."""
LIVENESS_FACTOR = 3
"""So many times `failureThreshold` bad looks after it was ready: it hangs."""
FOREIGN_S = 2.0
"""A port that is open, but not by a process of ours, counts as ours after so long: the server may
be in a container. Before, it may be somebody's who took the port first, and ours is about to end."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`spec.health`; times in seconds."""

    path: str
    period: float
    timeout: float
    failure_threshold: int
    startup_timeout: float


class Patient(Protocol):
    """Who is watched over, and is told."""

    def well(self, target: Target) -> None:
        """It answers, there. Told at each change only."""
        ...

    def unwell(self, trouble: str) -> None:
        """It gets no more requests, until `well`."""
        ...


def listening_below(pid: int) -> Sequence[int] | None:
    """Ports on which this process and its descendants listen; None where that cannot be told."""
    if not LINUX:
        return None
    with contextlib.suppress(OSError):
        return listening([pid, *descendants(pid)])
    return None


class Health:
    """The watch over one run of a process."""

    def __init__(
        self,
        rules: Rules,
        patient: Patient,
        clock: Clock,
        *,
        look: Callable[[int, str, float], Awaitable[Look]],
        listens: Callable[[int], Sequence[int] | None] = listening_below,
    ) -> None:
        self.trouble = ""
        """What the last look found; empty when all was well."""
        self._rules = rules
        self._patient = patient
        self._clock = clock
        self._look_once = look
        self._listens = listens

    async def watch(self, pod: str, port: int, pid: int) -> Failure:
        """Returns why it must be started again."""
        target = await self._start(port, pid)
        if target is None:
            return never_ready(
                pod=pod,
                limit=text(self._rules.startup_timeout),
                trouble=self.trouble,
                port=port,
                listens=self._listens(pid) or (),
            )
        self._patient.well(target)
        bad = await self._keep_watch(port)
        return never_ready(
            pod=pod,
            limit=text(bad * self._rules.period),
            trouble=f"it was ready before, then {self.trouble}, {bad} times in a row",
            port=port,
            listens=(),
        )

    async def _look(self, port: int) -> Target | None:
        found = await self._look_once(port, self._rules.path, self._rules.timeout)
        self.trouble = found.trouble
        return found.target if found.well else None

    async def _start(self, port: int, pid: int) -> Target | None:
        """Where it listens when it is ready; None when it is not in time."""
        deadline = self._clock.monotonic() + self._rules.startup_timeout
        foreign_since: float | None = None
        while True:
            # Not cut off by the deadline: a look that has begun may find it ready.
            target = await self._look(port)
            now = self._clock.monotonic()
            if target is None:
                foreign_since = None
            else:
                ours = self._listens(pid)
                if ours is None or port in ours:
                    return target
                foreign_since = now if foreign_since is None else foreign_since
                if now - foreign_since >= FOREIGN_S:
                    return target
                self.trouble = f"port {port} is open, but not by this server"
            if now >= deadline:
                return None
            await self._clock.sleep(min(EAGER_S, self._rules.period))

    async def _keep_watch(self, port: int) -> int:
        """How many bad looks in a row were too many."""
        threshold = self._rules.failure_threshold
        bad = 0
        while bad < threshold * LIVENESS_FACTOR:
            await self._clock.sleep(self._rules.period)
            target = await self._look(port)
            if target is None:
                bad += 1
                if bad == threshold:
                    self._patient.unwell(self.trouble)
            else:
                if bad >= threshold:
                    self._patient.well(target)
                bad = 0
        return bad
