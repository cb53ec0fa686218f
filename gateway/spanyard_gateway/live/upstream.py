"""The seam to a collector: its records from given places on, and what became of those in between."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from spanyard_core.errors import SpanyardError
from spanyard_gateway.live.records import Block


class UpstreamError(SpanyardError):
    """The collector does not answer, or says what nobody understands; comes again."""


@dataclass(frozen=True, slots=True)
class LivePod:
    """A pod whose collector can be listened to."""

    uid: str
    name: str
    namespace: str
    project: str
    """Name, without namespace."""
    url: str = ""
    """`http://host:port` of the collector; empty for one in this process."""
    deployment: str = ""
    build: str = ""


@dataclass(frozen=True, slots=True)
class UpToDate:
    """What the collector had when it was asked has been given; from here on it is live."""


@dataclass(frozen=True, slots=True)
class Left:
    """The collector dropped so many records of the writer before its next block: we were slow."""

    writer: str
    count: int


UpstreamEvent = Block | UpToDate | Left


class Upstream(Protocol):
    """Connects to collectors."""

    def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AbstractAsyncContextManager[AsyncIterator[UpstreamEvent]]:
        """All records that the collector still has after `after[writer]` (of other writers from the
        first one on), then live ones. Raises UpstreamError, also while iterating.
        """
        ...


class PodFinder(Protocol):
    """Which pods there are."""

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        """Those that run now (or have just ended and still answer). Raises SpanyardError."""
        ...
