"""The simulated machine's clock: wall time that may jump, durations that never do."""

import asyncio

from tests.sim.process import Process

START_NS = 1_795_272_300_000_000_000
"""2026-11-21T14:45:00Z, where every history begins."""


class WallClock:
    """Wall time of one machine, shared by its processes."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self._offset_ns = start_ns

    def time_ns(self) -> int:
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            now = 0.0  # before the history begins
        return self._offset_ns + int(now * 1e9)

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock, forward or (negative) back."""
        self._offset_ns += int(seconds * 1e9)


class SimClock:
    """The Clock seam of one process."""

    def __init__(self, wall: WallClock, process: Process | None = None) -> None:
        self._wall = wall
        self._process = process

    def time_ns(self) -> int:
        if self._process is not None:
            self._process.check()
        return self._wall.time_ns()

    def monotonic(self) -> float:
        if self._process is not None:
            self._process.check()
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        if self._process is not None:
            self._process.check()
        await asyncio.sleep(seconds)
