"""Questions to the database that many listeners ask at once, asked once.

Whoever listens to the same writer misses the same records at the same moment: of 5,000 listeners
that are held up together the database is asked one question, and its blocks, with what is encoded of
them, are everybody's.

And not too many at a time: a page of records takes the loop some 6 ms to read and to pass on, so
that hundreds of listeners who want all since long ago would hold up everybody who listens to now. Nor
in the order in which they were asked: see `turns`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
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
PAGE_KEPT_S = 5.0
"""A page in which there is something is as good later: whoever has read it asks for what is after it."""
MOST = 16
"""Answers of each kind kept at a time; a page holds up to 2,000 records."""
MOST_BYTES = 16 << 20
"""Of the records of each kind's."""
AT_ONCE = 4
"""Questions that are asked at a time."""
REST_S = 30e-6
"""Per record of an answer, about ten times what the loop needs to read it and to pass it on: what it
costs the engine, and those to whom much is written, comes on top."""
MOST_TOOK_S = 0.1
"""Its place rests at least as long as it took: an engine that is busy is asked half as much. What took
longer waited for something else."""
PAGE = 2_000
"""Numbers of a page, from a multiple of it to the next: a hundred listeners who come back from different
places read its pages once, not a hundred times."""
STEP = 500
"""Of which the first page of each of them begins at a multiple."""
MUCH = 200
"""Numbers from which on that is worth it."""
SINCE_MS = 1_000
"""Times since which something began are rounded down to this: who comes again together asks alike."""


@dataclass(eq=False, slots=True)
class _Kept:
    """An answer that others may have too."""

    answer: asyncio.Future[Any]
    timer: asyncio.TimerHandle
    size: int


@dataclass(eq=False, slots=True)
class _Question:
    """Waits for its turn, or is being asked."""

    turn: Turn
    answer: asyncio.Future[Any]
    listeners: int = 0
    """That wait for the answer."""


class SharedStored:
    """Implements `Stored` over another."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._asked: dict[Hashable, _Question] = {}
        self._answers, self._pages = _Answers(KEPT_S), _Answers(PAGE_KEPT_S)
        self._turns = Turns(AT_ONCE)

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
        if before is not None and before - after > MUCH:
            # A little more than is wanted, up to where a page ends: those who stopped elsewhere read the same.
            start = after // STEP * STEP
            end = min(after // PAGE * PAGE + PAGE, -((1 - before) // STEP) * STEP) + 1
            page = await self._between(writer, signal, start, end)
            if wanted := _cut(page, after, before):
                return wanted
        return await self._between(writer, signal, after, before)

    async def _between(
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
        answer = self._answers.get(key) or self._pages.get(key)
        if answer is None:
            question = self._asked.get(key)
            if question is None:
                question = self._asked[key] = self._new(key, ask)
            else:
                self._turns.hurry(question.turn, ASKER.get())
            answer = question.answer
            question.listeners += 1
            try:
                # Whoever goes away leaves the question to the others.
                await asyncio.shield(answer)
            finally:
                question.listeners -= 1
                self._leave(key, question)
        found: Found = await answer
        return found

    def _new(self, key: Hashable, ask: Callable[[], Awaitable[Any]]) -> _Question:
        turn = self._turns.wish(ASKER.get())
        answer = asyncio.ensure_future(self._in_turn(turn, ask))
        answer.add_done_callback(lambda done: self._answered(key, done))
        return _Question(turn, answer)

    def _leave(self, key: Hashable, question: _Question) -> None:
        """A question that nobody waits for any more is not asked, if it was not yet."""
        if not question.listeners and not question.turn.given.done():
            del self._asked[key]
            question.turn.given.cancel()

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
        question = self._asked.get(key)
        if question is not None and question.answer is answer:
            del self._asked[key]
        if answer.cancelled() or answer.exception() is not None:  # whoever asked has it
            return
        match key, _blocks(answer):
            # Before what comes after a hole it is told as lost: that is not said of what was stored since.
            case ("between", _, _, int(after), _), [block] if block.first == after + 1:
                self._pages.keep(key, answer)
            case _:
                self._answers.keep(key, answer)

    def forget_encoded(self) -> None:
        """What was encoded of kept answers; to be called once a second, or it were up to
        `records.MOST_KEPT` times what they are."""
        self._answers.forget_encoded()
        self._pages.forget_encoded()


class _Answers:
    """Answers of the last while, up to so many bytes of records."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable) -> "asyncio.Future[Any] | None":
        kept = self._kept.get(key)
        return kept.answer if kept is not None else None

    def keep(self, key: Hashable, answer: "asyncio.Future[Any]") -> None:
        self._drop(key)
        timer = answer.get_loop().call_later(self._seconds, self._drop, key)
        kept = self._kept[key] = _Kept(answer, timer, sum(b.size for b in _blocks(answer)))
        self._size += kept.size
        while len(self._kept) > MOST or (self._size > MOST_BYTES and len(self._kept) > 1):
            self._drop(next(iter(self._kept)))

    def forget_encoded(self) -> None:
        for kept in self._kept.values():
            for block in _blocks(kept.answer):
                block.forget()

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size
            kept.timer.cancel()  # it would drop the next answer under this key


def _cut(page: Sequence[Block], after: int, before: int) -> list[Block]:
    """What lies between; blocks that do so whole are the same for all."""
    found: list[Block] = []
    for block in page:
        rest = block.after(after)
        if rest is not None and (rest := rest.before(before)) is not None:
            found.append(rest)
    return found


def _blocks(answer: "asyncio.Future[Any]") -> list[Block]:
    found = answer.result()
    return [each for each in found if isinstance(each, Block)] if isinstance(found, list) else []


def _records(found: object) -> int:
    if not isinstance(found, list):
        return 0
    return sum(each.count if isinstance(each, Block) else 1 for each in found)
