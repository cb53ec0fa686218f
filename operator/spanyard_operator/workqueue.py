"""The operator's work queue: each key at most once at a time, later ones when their time comes.

A key that is added while it is worked on is worked on once more afterwards, however often it was
added. A failure comes again after a growing delay, each key for itself. The queue holds keys alone,
so it is never larger than the number of objects.
"""

import asyncio
import heapq
import itertools
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import KubeError, KubeUnavailableError
from spanyard_core.retry import Backoff

log = logging.getLogger("spanyard.operator")

FIRST_S, MOST_S = 0.2, 60.0
"""The first and the longest delay after a failure."""
STALE = 64
"""Entries of the heap that may have been overtaken, beside as many as there are keys: an object that is
looked at often would else leave one each time, until its old time comes."""


class Key(NamedTuple):
    """One object of ours to be reconciled."""

    kind: Literal["Project", "Build", "Deployment"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Again:
    """A reconciler wants to see the object again after so long, whatever happens."""

    after: float
    """Seconds."""


Reconcile = Callable[[Key], Awaitable[Again | None]]


class WorkQueue:
    """Keys that wait, and the workers that take them."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()
        """Those in `_ready`."""
        self._working: set[Key] = set()
        self._dirty: set[Key] = set()
        """Added while they were worked on."""
        self._due: list[tuple[float, int, Key]] = []
        self._due_at: dict[Key, float] = {}
        """The earliest time of a key; other entries of the heap are stale."""
        self._backoffs: dict[Key, Backoff] = {}
        self._numbers = itertools.count()
        self._woken = asyncio.Event()
        self.results: Counter[tuple[str, str]] = Counter()
        """By kind and `ok`, `again`, `conflict`, `unavailable`, `error`."""

    def __len__(self) -> int:
        """Keys that could be worked on now."""
        return len(self._ready) + len(self._dirty)

    @property
    def later(self) -> int:
        """Keys whose time will come."""
        return len(self._due_at)

    @property
    def idle(self) -> bool:
        """Nothing to do before the next time that is due."""
        return not self._ready and not self._working

    def add(self, key: Key) -> None:
        """Work on it soon; before what was to come later."""
        if key in self._working:
            self._dirty.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._woken.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on it after so long; an earlier time that is set already stays."""
        at = self._clock.monotonic() + seconds
        before = self._due_at.get(key)
        if before is not None and before <= at:
            return
        self._due_at[key] = at
        heapq.heappush(self._due, (at, next(self._numbers), key))
        self._forget_stale()
        self._woken.set()

    def next_due(self) -> float | None:
        """Seconds until the next timed key; None when there is none."""
        self._forget_stale()
        return max(0.0, self._due[0][0] - self._clock.monotonic()) if self._due else None

    def _forget_stale(self) -> None:
        if len(self._due) > 2 * len(self._due_at) + STALE:
            self._due = [entry for entry in self._due if self._due_at.get(entry[2]) == entry[0]]
            heapq.heapify(self._due)
        while self._due and self._due_at.get(self._due[0][2]) != self._due[0][0]:
            heapq.heappop(self._due)

    def _ripen(self) -> None:
        self._forget_stale()
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, key = heapq.heappop(self._due)
            del self._due_at[key]
            self.add(key)
            self._forget_stale()

    async def step(self, reconcile: Reconcile) -> bool:
        """Work on one key that is ready; False when there is none. For workers, and for tests."""
        self._ripen()
        if not self._ready:
            return False
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        self._due_at.pop(key, None)  # what it wanted before is decided anew
        try:
            await self._once(key, reconcile)
        finally:
            self._working.discard(key)
            if key in self._dirty:
                self._dirty.discard(key)
                self.add(key)
        return True

    async def _once(self, key: Key, reconcile: Reconcile) -> None:
        try:
            again = await reconcile(key)
        except KubeUnavailableError as error:
            self._failed(key, "unavailable", error, least=error.retry_after)
        except KubeError as error:
            if error.conflict:  # the watch brings what somebody else wrote
                self._failed(key, "conflict", error)
            else:
                self._failed(key, "error", error)
        except (SpanyardError, OSError, TimeoutError) as error:
            self._failed(key, "unavailable", error)
        except Exception as error:  # a mistake of ours must not stop all other objects
            self._failed(key, "error", error, ours=True)
        else:
            self._backoffs.pop(key, None)
            self.results[key.kind, "again" if again else "ok"] += 1
            if again is not None:
                self.add_after(key, again.after)

    def _failed(
        self, key: Key, result: str, error: Exception, *, least: float = 0.0, ours: bool = False
    ) -> None:
        self.results[key.kind, result] += 1
        backoff = self._backoffs.get(key)
        if backoff is None:
            backoff = self._backoffs[key] = Backoff(self._rng, first=FIRST_S, most=MOST_S)
        delay = max(backoff.next(), least)
        level = logging.DEBUG if result == "conflict" else logging.WARNING
        log.log(
            logging.ERROR if ours else level,
            "%s: comes again in %.1f s: %s", key, delay, error or type(error).__name__,
            exc_info=ours,
        )  # fmt: skip
        self.add_after(key, delay)

    async def run(self, reconcile: Reconcile, *, workers: int) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(reconcile), name=f"worker {number}")

    async def _work(self, reconcile: Reconcile) -> None:
        while True:
            if await self.step(reconcile):
                continue
            # No await between the look and this: what is added from now on sets it again.
            self._woken.clear()
            due = self.next_due()
            if self._ready:
                continue
            try:
                async with asyncio.timeout(due):
                    await self._woken.wait()
            except TimeoutError:
                continue
