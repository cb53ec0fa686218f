"""The ring: the newest records of each container, for `/live`, with the ids that storage gets.

Memory holds encoded blocks as the pipeline made them (nothing is decoded or copied to keep them);
below it the spool's entries on disk, those just uploaded included, reach further back. History
ends exactly where live begins: `subscribe` first, then take `history`, without an await between.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

Batch = tuple[str, int, bytes]
"""Writer, seq of the first line, whole JSON lines."""

DiskHistory = Callable[[str, Mapping[str, int]], Iterator[Batch]]
"""`(container, after) -> batches` of what the spool still has, oldest first."""


@dataclass(slots=True)
class _Kept:
    blocks: deque[tuple[str, int, int, bytes]] = field(default_factory=deque)
    """Writer, first seq, number of lines, lines."""
    lines: int = 0
    size: int = 0


class Subscription:
    """What came after the subscription began. Bounded: a slow reader loses the oldest, counted."""

    def __init__(self, ring: "Ring", containers: frozenset[str] | None, limit: int) -> None:
        self._ring = ring
        self._containers = containers
        self._limit = limit
        self._queue: deque[tuple[str, str, int, int, bytes]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self.dropped: dict[str, int] = {}
        """Writer → lines dropped since `take_dropped`."""

    def _offer(self, container: str, writer: str, first: int, count: int, lines: bytes) -> None:
        if self._containers is not None and container not in self._containers:
            return
        self._queue.append((container, writer, first, count, lines))
        self._size += len(lines)
        while self._size > self._limit and len(self._queue) > 1:
            _, old, _, lost, data = self._queue.popleft()
            self._size -= len(data)
            self.dropped[old] = self.dropped.get(old, 0) + lost
            self._ring.dropped_lines += lost
        self._wake.set()

    def take_dropped(self) -> dict[str, int]:
        """Drops per writer since the last call; those lines came before what `get` gives next."""
        dropped, self.dropped = self.dropped, {}
        return dropped

    async def get(self) -> tuple[str, str, int, bytes]:
        """The next block: container, writer, seq of its first line, its lines. Waits for one."""
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()
        container, writer, first, _, lines = self._queue.popleft()
        self._size -= len(lines)
        return container, writer, first, lines

    def close(self) -> None:
        """Receive nothing more. Idempotent."""
        self._ring._subscriptions.discard(self)
        self._queue.clear()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ring:
    """Newest lines per container: at most `lines` of each, and `size` bytes of all together."""

    def __init__(
        self, *, lines: int = 10_000, size: int = 8 << 20, disk: DiskHistory | None = None
    ) -> None:
        self._lines = lines
        self._limit = size
        self._disk = disk
        self._kept: dict[str, _Kept] = {}
        self._subscriptions: set[Subscription] = set()
        self.size = 0
        """Bytes kept."""
        self.dropped_lines = 0
        """Lines that slow subscribers lost, ever."""

    @property
    def containers(self) -> list[str]:
        """Containers that have something in memory."""
        return sorted(self._kept)

    @property
    def subscribers(self) -> int:
        """Open subscriptions."""
        return len(self._subscriptions)

    def publish(
        self, container: str, writer: str, first: int, lines: bytes, count: int | None = None
    ) -> None:
        """Keep a block and show it to subscribers. `count` spares counting its newlines."""
        if count is None:
            count = lines.count(b"\n")
        if not count:
            return
        kept = self._kept.get(container)
        if kept is None:
            kept = self._kept[container] = _Kept()
        kept.blocks.append((writer, first, count, lines))
        kept.lines += count
        kept.size += len(lines)
        self.size += len(lines)
        # The oldest block goes when the rest alone has the lines asked for: 10,000 are kept whole.
        while kept.blocks and kept.lines - kept.blocks[0][2] >= self._lines:
            self._evict(kept)
        while self.size > self._limit:
            largest = max(self._kept.values(), key=lambda k: k.size)
            self._evict(largest)
        for subscription in self._subscriptions:
            subscription._offer(container, writer, first, count, lines)

    def _evict(self, kept: _Kept) -> None:
        _, _, count, lines = kept.blocks.popleft()
        kept.lines -= count
        kept.size -= len(lines)
        self.size -= len(lines)

    def history(self, container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        """What is still there of `container`, oldest first, later than `after[writer]`.

        Memory is captured now, the disk is read as the iterator advances; nothing is given twice.
        """
        kept = self._kept.get(container)
        blocks = list(kept.blocks) if kept else []
        return self._history(container, after, blocks)

    def _history(
        self,
        container: str,
        after: Mapping[str, int],
        blocks: list[tuple[str, int, int, bytes]],
    ) -> Iterator[Batch]:
        seen = dict(after)
        in_memory: dict[str, int] = {}
        for writer, first, _, _ in blocks:
            in_memory.setdefault(writer, first)
        if self._disk is not None:
            for writer, start, data in self._disk(container, after):
                # Where memory begins, the disk ends.
                joint = in_memory.get(writer)
                batch = tail_of(data, start, seen.get(writer, 0))
                if batch is not None and joint is not None:
                    batch = head_of(batch[1], batch[0], joint)
                if batch is not None:
                    seen[writer] = batch[0] + batch[1].count(b"\n") - 1
                    yield writer, *batch
        for writer, first, count, lines in blocks:
            done = seen.get(writer, 0)
            if first + count - 1 <= done:
                continue
            batch = tail_of(lines, first, done)
            assert batch is not None
            seen[writer] = first + count - 1
            yield writer, *batch

    def subscribe(
        self, containers: frozenset[str] | None = None, *, limit: int = 1 << 20
    ) -> Subscription:
        """Receive what is published from now on: of `containers`, or of all.

        At most `limit` bytes wait for a slow reader.
        """
        subscription = Subscription(self, containers, limit)
        self._subscriptions.add(subscription)
        return subscription


def tail_of(lines: bytes, first: int, after: int) -> tuple[int, bytes] | None:
    """The part of a block whose seqs are greater than `after`, with its first seq."""
    if after < first:
        return first, lines
    at = 0
    for _ in range(after - first + 1):
        at = lines.find(b"\n", at) + 1
        if at == 0 or at == len(lines):
            return None
    return after + 1, lines[at:]


def head_of(lines: bytes, first: int, before: int) -> tuple[int, bytes] | None:
    """The part of a block whose seqs are less than `before`, with its first seq."""
    if before <= first:
        return None
    at = 0
    for _ in range(before - first):
        at = lines.find(b"\n", at) + 1
        if at == 0:
            return first, lines
    return first, lines[:at]
