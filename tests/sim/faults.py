"""Kills at named fault points: which process, at which pass of which point."""

import contextlib
import random
from collections.abc import Iterator, Sequence

from spanyard_core.faults import set_hook
from tests.sim.chronicle import Chronicle
from tests.sim.process import Process, current_process


class Kills:
    """Sees every fault point that is passed; kills who was armed."""

    def __init__(self, rng: random.Random, chronicle: Chronicle, points: Sequence[str]) -> None:
        self._rng, self._note, self._points = rng, chronicle.note, points
        self._armed: dict[Process, tuple[str, int]] = {}
        self.passed: dict[str, int] = {}
        self.killed: set[str] = set()
        """Points at which a process was killed in this history."""

    def arm(self, process: Process, points: Sequence[str] = (), share: float = 0.6) -> None:
        """With this probability let `process` die at a random pass of a random point."""
        if self._rng.random() < share:
            point = self._rng.choice(points or self._points)
            passes = 1 if len(points) == 1 else self._rng.choice((1, 1, 1, 2, 3, 5))
            self._armed[process] = (point, passes)

    def disarm(self) -> None:
        self._armed.clear()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        set_hook(self._pass)
        try:
            yield
        finally:
            set_hook(None)

    def _pass(self, point: str) -> None:
        self.passed[point] = self.passed.get(point, 0) + 1
        process = current_process()
        if process is None:
            return
        process.check()
        armed = self._armed.get(process)
        if armed is None or armed[0] != point:
            return
        if armed[1] > 1:
            self._armed[process] = (point, armed[1] - 1)
            return
        self._note(f"{process.name} is killed at {point}")
        self.killed.add(point)
        del self._armed[process]
        process.kill()
        process.check()
