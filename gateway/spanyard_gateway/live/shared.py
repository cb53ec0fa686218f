"""Questions to the database that many listeners ask at once, asked once.

Whoever listens to the same writer misses the same records at the same moment: of 5,000 listeners
that are held up together the database is asked one question, and its blocks, with what is encoded of
them, are everybody's.

And not too many at a time: a page of records takes the loop some 20 ms to read and to pass on, so
that hundreds of listeners who want all since long ago would hold up everybody who listens to now. Nor
in the order in which they were asked: see `turns`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import Block, LiveSignal
from spanyard_gateway.live.stored import Row, Stored, Target
from spanyard_gateway.live.turns import ASKER, Turn, Turns
from spanyard_gateway.live.upstream import LivePod

Found = TypeVar("Found")

KEPT_S = 0.4
"""Less than anybody waits before it asks again: a new question gets a new answer."""
MOST = 16
"""Answers kept at a time; one holds up to 2,000 records."""
AT_ONCE = 4
"""Questions that are asked at a time."""
REST_S = 30e-6
"""Per record of an answer, about three times what the loop needs to read it and to pass it on."""
MOST_TOOK_S = 0.1
"""Its place rests at least as long as it took: an engine that is busy is asked half as much. What took
longer waited for something else."""
SINCE_MS = 1_000
"""Times since which something began are rounded down to this: who comes again together asks alike."""


class SharedStored:
    """Implements `Stored` over another."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}
        self._answers: OrderedDict[Hashable, asyncio.Future[Any]] = OrderedDict()
        self._turns = Turns(AT_ONCE)
        self._waiting: dict[Hashable, Turn] = {}

    async def reached(self, pod: LivePod) -> Mapping[str, Reached]:
        return await self._stored.reached(pod)  # one feed per pod asks

    async def newest(
        self,
        target: Target,
        signals: Sequence[LiveSignal],
        filter_: Filter,
        count: int,
        below: Mapping[str, int],
    ) -> list[Row]:
        key = "newest", target, tuple(signals), msgspec.json.encode(filter_), count
        return await self._once(
            (*key, tuple(sorted(below.items()))),
            lambda: self._stored.newest(target, signals, filter_, count, below),
        )

    async def between(
        self, writer: str, signal: LiveSignal, after: int, before: int | None
    ) -> list[Block]:
        return await self._once(
            ("between", writer, signal, after, before),
            lambda: self._stored.between(writer, signal, after, before),
        )

    async def begun_since(
        self, target: Target, signals: Sequence[LiveSignal], since_ms: int
    ) -> Mapping[str, Reached]:
        since = since_ms // SINCE_MS * SINCE_MS
        return await self._once(
            ("begun", target, tuple(signals), since),
            lambda: self._stored.begun_since(target, signals, since),
        )

    async def last_of(
        self, target: Target, signals: Sequence[LiveSignal], writers: Sequence[str]
    ) -> Mapping[str, Reached]:
        return await self._once(
            ("last", target, tuple(signals), tuple(writers)),
            lambda: self._stored.last_of(target, signals, writers),
        )

    async def ends_of(self, writers: Sequence[str]) -> Mapping[str, int]:
        return await self._once(("ends", tuple(writers)), lambda: self._stored.ends_of(writers))

    async def _once(self, key: Hashable, ask: Callable[[], Awaitable[Found]]) -> Found:
        answer = self._asked.get(key) or self._answers.get(key)
        if answer is None:
            turn = self._waiting[key] = self._turns.wish(ASKER.get())
            answer = self._asked[key] = asyncio.ensure_future(self._in_turn(turn, ask))
            answer.add_done_callback(lambda done: self._answered(key, done))
        elif key in self._waiting:
            self._turns.hurry(self._waiting[key], ASKER.get())
        # Whoever goes away leaves the question to the others.
        found: Found = await asyncio.shield(answer)
        return found

    async def _in_turn(self, turn: Turn, ask: Callable[[], Awaitable[Found]]) -> Found:
        loop, count = asyncio.get_running_loop(), 0
        began = loop.time()
        try:
            await turn.given
            began = loop.time()
            found = await ask()
            count = _records(found)
        finally:
            took = min(loop.time() - began, MOST_TOOK_S)
            self._turns.end(turn, took, REST_S * count)
        return found

    def _answered(self, key: Hashable, answer: "asyncio.Future[Any]") -> None:
        del self._asked[key], self._waiting[key]
        if answer.cancelled() or answer.exception() is not None:  # whoever asked has it
            return
        self._answers[key] = answer
        if len(self._answers) > MOST:
            self._answers.popitem(last=False)
        answer.get_loop().call_later(KEPT_S, self._forget, key, answer)

    def _forget(self, key: Hashable, answer: "asyncio.Future[Any]") -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]


def _records(found: object) -> int:
    if not isinstance(found, list):
        return 0
    return sum(each.count if isinstance(each, Block) else 1 for each in found)
