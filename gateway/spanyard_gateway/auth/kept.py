"""Answers kept for seconds: bounded, and a question that is under way is asked once for all."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


WAITING = 1_000
"""Questions that are asked or wait for it."""


class TooManyWaitingError(SpanyardError):
    """More new questions than can be asked in seconds; those whose answers are kept go on."""


class Kept(Generic[K, V]):
    """A cache of what somebody else answers. Failures to get an answer are not kept."""

    def __init__(
        self, clock: Clock, *, seconds: Callable[[V], float], most: int, at_once: int
    ) -> None:
        """`seconds` says how long an answer holds; at most `most` are kept and `at_once` asked."""
        self._clock, self._seconds, self._most = clock, seconds, most
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}
        self._places = asyncio.Semaphore(at_once)

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The kept answer, or a new one. Raises what `ask` raises, and TooManyWaitingError."""
        known = self._answers.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            self._answers.move_to_end(key)
            return known[1]
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= WAITING:
                raise TooManyWaitingError("too many new callers at once; try again in a second")
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(lambda done: self._end(key, done))
        # Who gives up must not take the answer from the others who wait for it.
        return await asyncio.shield(task)

    def __len__(self) -> int:
        return len(self._answers)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        async with self._places:
            # Counted from before the question: an answer may be old when it comes.
            began = self._clock.monotonic()
            answer = await ask()
        self._answers[key] = (began + self._seconds(answer), answer)
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # told to those who wait; there may be none left
