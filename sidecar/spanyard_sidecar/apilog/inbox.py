"""Between the task that follows a container's log and the reader, who must not wait: bounded."""

import asyncio
from collections import deque
from collections.abc import Callable

from spanyard_sidecar.model import Gap

ROOM = 256 * 1024
"""Bytes that wait to be read; beyond, nothing more is taken from the connection."""


class Inbox:
    """What has come of one container run, in order: bytes of its log, and gaps."""

    def __init__(self, wake: Callable[[], None], room: int = ROOM) -> None:
        """`wake` is called when something has come."""
        self._wake = wake
        self._room = room
        self._items: deque[bytes | Gap] = deque()
        self._held = 0
        self._taken = asyncio.Event()
        self.complete = False
        """Nothing more comes: the run has ended and all of it is here, or was taken."""
        self.came = 0
        """Bytes that ever came."""

    def __bool__(self) -> bool:
        return bool(self._items)

    async def put(self, item: bytes | Gap) -> None:
        """Add it; waits until there is room."""
        while self._held >= self._room:
            self._taken.clear()
            await self._taken.wait()
        self._items.append(item)
        if isinstance(item, bytes):
            self._held += len(item)
            self.came += len(item)
        self._wake()

    def end(self) -> None:
        """Nothing more comes."""
        self.complete = True
        self._wake()

    def next(self) -> bytes | Gap | None:
        """What comes next, without taking it; None when nothing is there."""
        return self._items[0] if self._items else None

    def take(self) -> bytes | Gap:
        """Take it."""
        item = self._items.popleft()
        if isinstance(item, bytes):
            self._held -= len(item)
        self._taken.set()
        return item
