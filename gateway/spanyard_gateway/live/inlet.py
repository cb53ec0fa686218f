"""What waits for one listener: bounded; when it is slow the oldest goes, counted record by record."""

import asyncio
from collections import deque
from dataclasses import dataclass

from spanyard_gateway.live.records import Block, LiveSignal


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a writer has come."""

    signal: LiveSignal
    last: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Records `first…last` of the writer will not come this way."""

    writer: str
    signal: LiveSignal
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Joined:
    """A pod is there: what its collector still had, oldest first. Shared memory, not counted."""

    pod: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """The feed of a pod knows how far its writers are stored: of that no block may come."""

    pod: str
    writers: dict[str, Reached]


@dataclass(frozen=True, slots=True)
class Gone:
    """The pod's collector will say nothing more; its writers came so far."""

    pod: str
    writers: dict[str, Reached]


@dataclass(frozen=True, slots=True)
class Told:
    """How something is now (a build's phase, a server's health); newer words replace older ones."""

    name: str
    message: bytes
    """JSON without its subscription's id: what comes after `{"id":"…",`."""


Item = Block | Dropped | Joined | Begun | Gone | Told


class Inlet:
    """One listener's queue. `offer` never waits."""

    def __init__(self, limit: int) -> None:
        """At most `limit` bytes of blocks wait, or one block."""
        self._limit = limit
        self._queue: deque[Item] = deque()
        self._told: dict[str, Told] = {}
        self._size = 0
        self._blocks = 0
        self._wake = asyncio.Event()

    def offer(self, item: Item) -> None:
        """Put it at the end; of blocks beyond the limit the oldest are dropped."""
        if isinstance(item, Told):
            self._told[item.name] = item
        else:
            self._queue.append(item)
        if isinstance(item, Block):
            self._size += item.size
            self._blocks += 1
            if self._size > self._limit and self._blocks > 1:
                self._shed()
        self._wake.set()

    def _shed(self) -> None:
        """Drop oldest blocks until half the limit is free: what is dropped is one piece per writer."""
        kept: deque[Item] = deque()
        dropped: dict[str, Dropped] = {}
        while self._queue and self._size > self._limit // 2 and self._blocks > 1:
            item = self._queue.popleft()
            if isinstance(item, Block):
                self._size -= item.size
                self._blocks -= 1
                item = Dropped(item.writer, item.signal, item.first, item.last)
            if isinstance(item, Dropped):
                before = dropped.get(item.writer)
                first = item.first if before is None else min(before.first, item.first)
                dropped[item.writer] = Dropped(item.writer, item.signal, first, item.last)
            else:
                kept.append(item)
        # A pod joins before its first block: whoever joined stays ahead of what was dropped.
        self._queue.extendleft(reversed(dropped.values()))
        self._queue.extendleft(reversed(kept))

    async def get(self) -> Item:
        """The next; waits for one."""
        while not (self._queue or self._told):
            self._wake.clear()
            await self._wake.wait()
        if self._told:
            return self._told.pop(next(iter(self._told)))
        item = self._queue.popleft()
        if isinstance(item, Block):
            self._size -= item.size
            self._blocks -= 1
        return item

    def waiting_now(self) -> list[Item]:
        """All that is there, taken out."""
        items = [*self._told.values(), *self._queue]
        self._told.clear()
        self._queue.clear()
        self._size = self._blocks = 0
        return items

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._queue or self._told)

    @property
    def waiting(self) -> int:
        """Bytes of blocks that wait."""
        return self._size
