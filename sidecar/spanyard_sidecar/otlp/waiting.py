"""What waits for the OTLP log, within which limits, and what comes of it."""

import asyncio
from dataclasses import dataclass, field

from spanyard_core.records import Signal
from spanyard_sidecar.otlp.decode import Run


class LogUnavailableError(Exception):
    """The request was not stored; sending it again in `retry_after` seconds may help."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Limits of the log."""

    segment_bytes: int = 16_000_000
    """A segment is closed when it has this many bytes, so that it can be given back soon."""
    waiting_bytes: int = 32 << 20
    """Encoded records that may wait for the disk; beyond, requests are turned away."""
    group_bytes: int = 8 << 20
    """About how much goes into one write."""
    retry_full: float = 2.0
    """Seconds after which a client may try again when there is no room. OpenTelemetry's SDK for
    Python tries for 10 s in all and gives up when a longer wait is asked for than is left."""
    retry_busy: float = 1.0
    """The same while others wait."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request's records on their way to the disk."""

    signal: Signal
    runs: list[Run]
    records: int
    size: int
    """Bytes of the runs."""
    time_ns: int
    """Time of the first record."""
    taken_ns: int
    """When the request came."""
    digest: bytes
    refused: int = 0
    message: str = ""
    done: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(slots=True)
class LogCounts:
    """What happened since the start, for metrics."""

    requests: int = 0
    records: dict[Signal, int] = field(default_factory=dict)
    groups: int = 0
    bytes: int = 0
    turned_away: int = 0
    """Requests answered with "try again later": no room, or the disk failed."""
