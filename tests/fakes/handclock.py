"""A clock that a test moves by hand."""

import asyncio


class HandClock:
    """See `spanyard_core.clock.Clock`; time passes only in `advance`."""

    def __init__(self, wall_ns: int = 1_795_272_300_000_000_000) -> None:
        self.wall_ns = wall_ns
        self.now = 1000.0

    def time_ns(self) -> int:
        return self.wall_ns

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.wall_ns += int(seconds * 1e9)
