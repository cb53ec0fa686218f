"""The ring: the newest records of each container, for `/live`, with the ids that storage gets.

Memory holds chunks as they are compressed for storage anyway: the finished ones by reference, the
open one as far as it has come. So 10,000 lines take a tenth of their size and no work until
somebody asks for them. Below them the spool's entries on disk, those just uploaded included, reach
further back. History ends exactly where live begins: `subscribe` first, then take `history`,
without an await between.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import zstandard

Batch = tuple[str, int, bytes]
"""Writer, seq of the first line, whole JSON lines."""

DiskHistory = Callable[[str, Mapping[str, int]], Iterator[Batch]]
"""`(container, after) -> batches` of what the spool still has, oldest first."""

OVERHEAD = 300
"""Bytes that a chunk costs beside its content; there may be thousands of small ones."""


class RingEndedError(Exception):
    """Nothing more will be published."""


class Growing(Protocol):
    """A chunk that is being filled."""

    def so_far(self) -> tuple[int, int, Sequence[bytes]] | None:
        """First seq, number of lines, and zstd frames that hold them, the last perhaps unended."""
        ...


@dataclass(slots=True)
class _Chunk:
    writer: str
    first: int
    count: int
    size: int
    lines: bytes = b""
    """As they are, or else…"""
    frame: Sequence[bytes] = ()
    """…compressed, in one frame or several; the last of an open chunk has no end yet."""

    def decoded(self) -> Iterator[tuple[int, bytes]]:
        """Seq of the first line and whole lines, in pieces of some MB."""
        if not self.frame:
            yield self.first, self.lines
            return
        first, rest = self.first, b""
        for unpacked in _unpacked(self.frame):
            piece = rest + unpacked
            end = piece.rfind(b"\n") + 1
            rest = piece[end:]
            if end:
                yield first, piece[:end]
                first += piece.count(b"\n", 0, end)


def _unpacked(parts: Sequence[bytes]) -> Iterator[bytes]:
    """What zstd frames hold that stand in `parts` one after the other, the last perhaps unended."""
    unpack = zstandard.ZstdDecompressor().decompressobj()
    for part in parts:
        rest = part
        while rest:
            if unpack.eof:
                unpack = zstandard.ZstdDecompressor().decompressobj()
            yield unpack.decompress(rest)
            rest = unpack.unused_data


@dataclass(slots=True)
class _Kept:
    chunks: deque[_Chunk] = field(default_factory=deque)
    lines: int = 0
    size: int = 0
    growing: dict[str, Growing] = field(default_factory=dict)

    def snapshot(self) -> list[_Chunk]:
        """All that is in memory now, each writer's in order."""
        found = list(self.chunks)
        for writer, chunk in self.growing.items():
            so_far = chunk.so_far()
            if so_far is not None:
                first, count, frame = so_far
                found.append(_Chunk(writer, first, count, 0, frame=frame))
        return found


class Subscription:
    """What came after the subscription began. Bounded: a slow reader loses the oldest, counted."""

    def __init__(self, ring: "Ring", containers: frozenset[str] | None, limit: int) -> None:
        self._ring = ring
        self._containers = containers
        self._limit = limit
        self._queue: deque[tuple[str, str, int, int, bytes]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._ended = False
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
        """The next block: container, writer, seq of its first line, its lines. Waits for one.

        Raises RingEndedError after the last, once `end` was called.
        """
        while not self._queue:
            if self._ended:
                raise RingEndedError
            self._wake.clear()
            await self._wake.wait()
        container, writer, first, _, lines = self._queue.popleft()
        self._size -= len(lines)
        return container, writer, first, lines

    def end(self) -> None:
        """Nothing more comes; what waits can still be had. Idempotent."""
        self._ended = True
        self._wake.set()

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
    """Newest lines per container: at least `lines` of each, in `size` bytes of all together."""

    def __init__(
        self, *, lines: int = 10_000, size: int = 8 << 20, disk: DiskHistory | None = None
    ) -> None:
        self._lines = lines
        self._limit = size
        self._disk = disk
        self._kept: dict[str, _Kept] = {}
        self._shown: dict[str, int] = {}
        """Writer → last seq that anybody may see; for writers that fill chunks."""
        self._subscriptions: set[Subscription] = set()
        self.size = 0
        """Bytes kept."""
        self.dropped_lines = 0
        """Lines that slow subscribers lost, ever."""

    @property
    def containers(self) -> list[str]:
        """Containers that have something in memory."""
        return sorted(name for name, kept in self._kept.items() if kept.chunks or kept.growing)

    @property
    def subscribers(self) -> int:
        """Open subscriptions."""
        return len(self._subscriptions)

    def follow(self, container: str, writer: str, chunk: Growing, shown: int) -> None:
        """`writer` fills chunks from here on; `shown` is its last durable seq."""
        self._of(container).growing[writer] = chunk
        self._shown[writer] = shown

    def unfollow(self, container: str, writer: str) -> None:
        """The writer's chunk grows no more. What is kept of it stays."""
        self._of(container).growing.pop(writer, None)

    def keep(
        self, container: str, writer: str, first: int, count: int, frame: Sequence[bytes]
    ) -> None:
        """A chunk of a followed writer is finished; its lines show once they are published."""
        size = sum(map(len, frame)) + OVERHEAD
        self._add(container, _Chunk(writer, first, count, size, frame=frame))

    def publish(
        self, container: str, writer: str, first: int, lines: bytes, count: int | None = None
    ) -> None:
        """Show a block to subscribers; keep it as well unless its writer is followed.

        `count` spares counting its newlines.
        """
        if count is None:
            count = lines.count(b"\n")
        if not count:
            return
        if writer in self._shown:
            self._shown[writer] = first + count - 1
        else:
            self._add(container, _Chunk(writer, first, count, len(lines) + OVERHEAD, lines))
        for subscription in self._subscriptions:
            subscription._offer(container, writer, first, count, lines)

    def _of(self, container: str) -> _Kept:
        kept = self._kept.get(container)
        if kept is None:
            kept = self._kept[container] = _Kept()
        return kept

    def _add(self, container: str, chunk: _Chunk) -> None:
        kept = self._of(container)
        kept.chunks.append(chunk)
        kept.lines += chunk.count
        kept.size += chunk.size
        self.size += chunk.size
        # The oldest goes when the rest alone has the lines asked for.
        while kept.chunks and kept.lines - kept.chunks[0].count >= self._lines:
            self._evict(kept)
        while self.size > self._limit:
            self._evict(max(self._kept.values(), key=lambda k: k.size))

    def _evict(self, kept: _Kept) -> None:
        chunk = kept.chunks.popleft()
        kept.lines -= chunk.count
        kept.size -= chunk.size
        self.size -= chunk.size

    def history(self, container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        """What is still there of `container`, oldest first, later than `after[writer]`.

        Memory is captured now, the disk is read as the iterator advances; nothing is given twice,
        and nothing that was not published yet.
        """
        kept = self._kept.get(container)  # asking for one that is not there does not make it
        chunks = kept.snapshot() if kept is not None else []
        shown = {c.writer: self._shown[c.writer] for c in chunks if c.writer in self._shown}
        return self._history(container, after, chunks, shown)

    def _history(
        self,
        container: str,
        after: Mapping[str, int],
        chunks: list[_Chunk],
        shown: Mapping[str, int],
    ) -> Iterator[Batch]:
        seen = dict(after)
        in_memory: dict[str, int] = {}
        for chunk in chunks:
            in_memory.setdefault(chunk.writer, chunk.first)

        def fresh(writer: str, first: int, lines: bytes, before: int | None) -> Iterator[Batch]:
            batch = tail_of(lines, first, seen.get(writer, 0))
            if batch is not None and before is not None:
                batch = head_of(batch[1], batch[0], before)
            if batch is not None:
                seen[writer] = batch[0] + batch[1].count(b"\n") - 1
                yield writer, *batch

        if self._disk is not None:
            for writer, start, data in self._disk(container, after):
                # Where memory begins, the disk ends.
                yield from fresh(writer, start, data, in_memory.get(writer))
        for chunk in chunks:
            if chunk.first + chunk.count - 1 <= seen.get(chunk.writer, 0):
                continue
            end = shown.get(chunk.writer)
            for start, data in chunk.decoded():
                yield from fresh(chunk.writer, start, data, None if end is None else end + 1)

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
