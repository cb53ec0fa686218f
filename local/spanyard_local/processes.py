"""Processes of the laptop that must run: started, started again when they die, ended in order."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable

from spanyard_local.child import Child

log = logging.getLogger("spanyard.local")

RESTART_DELAYS_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Between a death and the next start; the last one for ever."""
STEADY_S = 30.0
"""Who ran this long starts again at once."""


class Supervised:
    """One process that is started again whenever it ends by itself."""

    def __init__(self, name: str, start: Callable[[], Awaitable[Child]]) -> None:
        self.name = name
        self._start = start
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self.deaths = 0
        self.last_status: int | None = None

    async def start(self) -> None:
        """Start it; raises OSError when it cannot be started at all."""
        self._child = await self._start()
        self._task = asyncio.create_task(self._watch(), name=f"watch over the {self.name}")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        quick = 0
        while True:
            assert self._child is not None
            began = loop.time()
            self.last_status = await self._child.wait()
            self.deaths += 1
            quick = 0 if loop.time() - began > STEADY_S else quick + 1
            log.warning("the %s ended (%s); starting it again", self.name, self.last_status)
            await asyncio.sleep(RESTART_DELAYS_S[min(quick, len(RESTART_DELAYS_S) - 1)])
            while True:
                try:
                    self._child = await self._start()
                    break
                except OSError as error:  # out of processes or memory: later it may go
                    log.error("the %s cannot be started: %s", self.name, error)
                    await asyncio.sleep(RESTART_DELAYS_S[-1])

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.running

    def kill(self) -> None:
        """SIGKILL, as an accident would; it is started again."""
        if self._child is not None and self._child.running:
            os.kill(self._child.process.pid, signal.SIGKILL)

    async def stop(self, grace: float) -> int:
        """End it in order; returns its exit status. Raises what ended the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        return await self._child.stop(grace) if self._child is not None else 0
