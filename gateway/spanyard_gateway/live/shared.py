"""Questions to the database that many listeners ask at once, asked once.

Whoever listens to the same writer misses the same records at the same moment: of 5,000 listeners
that are held up together the database is asked one question, and its blocks, with what is encoded of
them, are everybody's.
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
from spanyard_gateway.live.upstream import LivePod

Found = TypeVar("Found")

KEPT_S = 0.4
"""Less than anybody waits before it asks again: a new question gets a new answer."""
MOST = 16
"""Answers kept at a time; one holds up to 2,000 records."""
SINCE_MS = 1_000
"""Times since which something began are rounded down to this: who comes again together asks alike."""


class SharedStored:
    """Implements `Stored` over another."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._answers: OrderedDict[Hashable, asyncio.Future[Any]] = OrderedDict()

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
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.ensure_future(ask())
            answer.add_done_callback(lambda done: self._answered(key, done))
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
        # Whoever goes away leaves the question to the others.
        found: Found = await asyncio.shield(answer)
        return found

    def _answered(self, key: Hashable, answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled() or answer.exception() is not None:  # whoever asked has it
            self._forget(key, answer)
        else:
            answer.get_loop().call_later(KEPT_S, self._forget, key, answer)

    def _forget(self, key: Hashable, answer: "asyncio.Future[Any]") -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]
