"""Request bodies: gzip within bounds, and the share of memory that a body may take.

The specification demands a limit after decompression, too: 64 KiB of gzip can unpack to 64 MiB.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 256 * 1024


class BodyTooLargeError(Exception):
    """The body is larger than the limit; the text says which. Sending again won't help."""


class BadEncodingError(Exception):
    """The body is not what its Content-Encoding says. Sending again won't help."""


def gunzip(body: bytes, limit: int, cover: Callable[[int], None] | None = None) -> bytes:
    """The body unpacked, all members. Raises BadEncodingError, BodyTooLargeError.

    Never makes more than `limit` bytes and a step. `cover` is told how much memory it takes by
    now, and may raise.
    """
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            try:
                part = member.decompress(rest, _STEP)
            except zlib.error as error:
                raise BadEncodingError(f"the body is not gzip: {error}") from error
            size += len(part)
            if size > limit:
                raise BodyTooLargeError(f"the body unpacks to more than {limit} bytes")
            if cover is not None:
                cover(size)
            parts.append(part)
            rest = member.unconsumed_tail
            if not part and not rest and not member.eof:
                raise BadEncodingError("the body's gzip is cut short")
        rest = member.unused_data
    return b"".join(parts)


class Busy(Exception):  # noqa: N818 - a state of affairs, not a fault
    """There was no room in time."""


class Room:
    """Bytes that all requests together may hold in memory; first come, first served."""

    def __init__(self, size: int, *, most_waiting: int = 256) -> None:
        self.size = size
        self.free = size
        self._most_waiting = most_waiting
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, *, timeout: float) -> None:
        """Take `size` bytes, waiting for them. Raises Busy."""
        if size > self.size:
            raise ValueError(f"{size} bytes can never be there; {self.size} are all")
        if not self._queue and size <= self.free:
            self.free -= size
            return
        if len(self._queue) >= self._most_waiting:
            raise Busy
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, granted))
        try:
            async with asyncio.timeout(timeout):
                await granted
        except (TimeoutError, asyncio.CancelledError) as error:
            if granted.done() and not granted.cancelled():
                self.give(size)
            else:
                self._queue = deque(entry for entry in self._queue if entry[1] is not granted)
                self._serve()
            if isinstance(error, TimeoutError):
                raise Busy from error
            raise

    def grow(self, size: int) -> bool:
        """Take `size` bytes more if they are free now; waiting while holding could be for ever."""
        if size > self.free:
            return False
        self.free -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.free += size
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            size, granted = self._queue[0]
            if granted.done():
                self._queue.popleft()
            elif size <= self.free:
                self._queue.popleft()
                self.free -= size
                granted.set_result(None)
            else:
                return
