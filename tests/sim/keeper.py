"""A keeper starts a program, and again when it ended: what a kubelet or systemd does."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.sim.chronicle import Chronicle
from tests.sim.faults import Kills
from tests.sim.process import Process

Program = Callable[[Process, asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set, then ends in good order."""


MOST_FAILURES = 20


class Keeper:
    """One program, one incarnation at a time."""

    def __init__(
        self,
        name: str,
        program: Program,
        rng: random.Random,
        chronicle: Chronicle,
        kills: Kills,
        *,
        points: Sequence[str] = (),
        may_fail: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.points = points
        self.armed_share = 0.5
        self.process: Process | None = None
        self.failures: list[BaseException] = []
        """Ends by an error of its own, at a time when nothing explains them."""
        self._program, self._rng, self._kills = program, rng, kills
        self._note = chronicle.note
        self._may_fail = may_fail
        self._count = 0
        self._paused = False
        self._ending = False
        self._ended = False
        self._stop: asyncio.Event | None = None

    async def run(self) -> None:
        """Keep the program running until `end`."""
        while not self._ended:
            if self._paused:
                await asyncio.sleep(0.1)
                continue
            await self._life()
            if not self._ended:
                await asyncio.sleep(self._rng.uniform(0.1, 2))

    async def _life(self) -> None:
        self._count += 1
        process = self.process = Process(f"{self.name}-{self._count}")
        self._stop = asyncio.Event()
        if self._ending:
            self._stop.set()  # it died while it was ending: again
        if self.points:
            self._kills.arm(process, self.points, self.armed_share)
        self._note(f"{process.name} starts")
        gone = asyncio.Event()
        process.at_end(gone.set)
        task = process.start(self._program(process, self._stop))
        task.add_done_callback(lambda _: gone.set())
        await gone.wait()
        if process.alive:
            error = None if task.cancelled() else task.exception()
            self._note(f"{process.name} ends: {error!r}")
            if error is not None and not self._may_fail():
                self.failures.append(error)
            process.exit()
            self._ended = self._ending and error is None
        elif task.done() and not task.cancelled():
            task.exception()
        self.process = None

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self.process is not None and self.process.alive:
            self._note(f"{self.process.name} is killed")
            self.process.kill()

    def arm(self, point: str) -> None:
        """Let the process that runs die at this point, perhaps."""
        if self.process is not None:
            self._kills.arm(self.process, [point], 0.5)

    def pause(self) -> None:
        """It is not started again until `resume`."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    async def end(self) -> None:
        """SIGTERM; returns when it has ended in good order."""
        self._ending = True
        if self._stop is not None:
            self._stop.set()
        while not self._ended:
            await asyncio.sleep(0.05)
            assert len(self.failures) < MOST_FAILURES, f"{self.name} fails again and again"

    async def until_running(self) -> Process:
        """The living process."""
        while self.process is None or not self.process.alive:
            await asyncio.sleep(0.05)
        return self.process

    def raise_failures(self) -> None:
        """Raises what the program died of by its own fault."""
        with contextlib.suppress(IndexError):
            raise self.failures[0]
