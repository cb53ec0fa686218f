"""Time: the seam through which the data path reads the clock and sleeps.

The simulator runs the same code under virtual time. Timeouts may use `asyncio.timeout`, whose
clock is the event loop's: the simulator's loop is virtual too.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time and waiting."""

    def time_ns(self) -> int:
        """Nanoseconds since the epoch. May jump: never measure a duration with it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or raise CancelledError."""
        ...


class SystemClock:
    """The machine's clock."""

    def time_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # 30 ms that an application which only formats times need not pay

        await asyncio.sleep(seconds)


def rfc3339(ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, nine digits, as every line carries it."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    t = time.gmtime(seconds)
    return (
        f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
        f"T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{fraction:09d}Z"
    )


def compact_utc(ns: int) -> str:
    """Nanoseconds since the epoch as `20261121T144500Z`, as object names carry it."""
    t = time.gmtime(ns // 1_000_000_000)
    return (
        f"{t.tm_year:04d}{t.tm_mon:02d}{t.tm_mday:02d}T{t.tm_hour:02d}{t.tm_min:02d}{t.tm_sec:02d}Z"
    )


def utc_day(ns: int) -> str:
    """Nanoseconds since the epoch as `2026-11-21`, the ingest day of a plan."""
    t = time.gmtime(ns // 1_000_000_000)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
