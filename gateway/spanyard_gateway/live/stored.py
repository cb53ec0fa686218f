"""The seam to what is stored: the newest records, and runs of one writer's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import Block, LiveSignal, Record
from spanyard_gateway.live.upstream import LivePod


@dataclass(frozen=True, slots=True)
class Target:
    """Whose records a subscription is about."""

    namespace: str
    project: str
    """Name, without namespace."""
    deployment: str = ""
    build: str = ""
    """Id, as stored: `{namespace}.{name}`."""
    uid: str = ""
    """Of the Deployment or Build: one made again under the same name is another."""
    trace: str = ""

    @property
    def project_id(self) -> str:
        return f"{self.namespace}.{self.project}"


@dataclass(frozen=True, slots=True)
class Row:
    """One stored record."""

    writer: str
    record: Record


class Stored(Protocol):
    """The seam to the database. Everything raises SpanyardError while it is away."""

    async def reached(self, pod: LivePod) -> Mapping[str, Reached]:
        """How far each of the pod's writers is stored."""
        ...

    async def newest(
        self,
        target: Target,
        signals: Sequence[LiveSignal],
        filter_: Filter,
        count: int,
        below: Mapping[str, int],
    ) -> list[Row]:
        """The newest records, oldest first; of writers in `below` only smaller numbers."""
        ...

    async def between(
        self, writer: str, signal: LiveSignal, after: int, before: int | None
    ) -> list[Block]:
        """Some of the writer's records after one number and before another, in order.

        Empty when nothing of it is stored.
        """
        ...

    async def begun_since(
        self, target: Target, signals: Sequence[LiveSignal], since_ms: int
    ) -> Mapping[str, Reached]:
        """Writers of which anything was stored since then (milliseconds since the epoch)."""
        ...

    async def last_of(
        self, target: Target, signals: Sequence[LiveSignal], writers: Sequence[str]
    ) -> Mapping[str, Reached]:
        """How far these writers are stored; those that are not, or are others', are left out."""
        ...

    async def ends_of(self, writers: Sequence[str]) -> Mapping[str, int]:
        """Last numbers of those of the writers that have ended and whose end is stored."""
        ...
