"""Who asks next: a few at a time, a rest after each, and whoever had least goes first.

What is asked for here costs the loop and the engine time in which nobody else is served, and what it
costs is known only afterwards. Among those that wait, the next turn is that of the one who had least
(start-time fair queueing): one who asks for little is not behind a hundred who ask for much. Now and
then it is that of who waits longest: nobody waits without end for strangers that keep coming.
"""

import asyncio
import heapq
from collections.abc import Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import itemgetter

ASKER: ContextVar[Hashable] = ContextVar("asker", default=None)
"""On whose behalf a task asks: a person, or a connection of nobody. Tasks begun by it inherit it."""

GUESS_S = 0.005
"""What a turn counts until it is known: several of one asker do not begin side by side."""
CREDIT_S = 0.5
"""So much is had before those who ask without end: a beginning, with a page or two of history, does
not wait until each of a hundred others had one more page."""
LONGEST_EACH = 4
"""Of so many turns one is that of who waits longest."""
MOST_ASKERS = 1_000
"""Remembered; beyond that those who had least are strangers again."""


@dataclass(eq=False, slots=True)
class Turn:
    """A place, or the wish for one."""

    asker: Hashable
    start: float
    """Where it stands among all: seconds of what was asked for."""
    number: int
    given: "asyncio.Future[None]" = field(default_factory=asyncio.Future)


class Turns:
    """Times are the loop's, in seconds."""

    def __init__(self, places: int) -> None:
        """So many turns at a time."""
        self._places = places
        self._free = places
        self._waiting: list[tuple[float, int, Turn]] = []
        self._line: dict[Turn, None] = {}
        """The same in the order in which they came."""
        self._had: dict[Hashable, float] = {}
        """Up to where who has asked has come."""
        self._passed = 0.0
        """Where those are who ask without end; whoever was silent begins a credit before it."""
        self._number = self._given = 0
        self._resting_until = 0.0

    def wish(self, asker: Hashable) -> Turn:
        """Stand in line; wait for `given` then, and `end` it whatever came of it."""
        turn = Turn(asker, self._start(asker), self._number)
        self._number += 1
        self._had[asker] = turn.start + GUESS_S
        heapq.heappush(self._waiting, (turn.start, turn.number, turn))
        self._line[turn] = None
        self._next()
        return turn

    def hurry(self, turn: Turn, asker: Hashable) -> None:
        """Somebody else waits for the same: it comes when the first of them is next."""
        start = self._start(asker)
        if not turn.given.done() and start < turn.start:
            turn.start = start
            heapq.heappush(self._waiting, (start, turn.number, turn))

    def end(self, turn: Turn, took: float, rest: float) -> None:
        """It is over, after so many seconds; its place is free again after as many, and after `rest`
        more than all before: rests of the places follow one another, and are what is left to all
        else."""
        if turn.given.cancelled():  # it never had one
            return
        loop = asyncio.get_running_loop()
        self._had[turn.asker] = self._start(turn.asker) - GUESS_S + took + rest
        self._resting_until = max(loop.time(), self._resting_until) + rest
        loop.call_at(max(self._resting_until, loop.time() + took), self._leave)

    def _leave(self) -> None:
        self._free += 1
        self._next()
        if self._free == self._places:  # nobody is ahead of anybody
            self._had.clear()
        elif len(self._had) > MOST_ASKERS:
            most = heapq.nlargest(MOST_ASKERS // 2, self._had.items(), key=itemgetter(1))
            self._had = dict(most)

    def _start(self, asker: Hashable) -> float:
        stranger = self._passed - CREDIT_S
        return max(stranger, self._had.get(asker, stranger))

    def _next(self) -> None:
        while self._free and self._line:
            self._given += 1
            turn = self._least() if self._given % LONGEST_EACH else next(iter(self._line))
            del self._line[turn]
            if turn.given.done():  # given up
                continue
            self._free -= 1
            turn.given.set_result(None)
        if not self._line:
            self._waiting.clear()

    def _least(self) -> Turn:
        """Whoever had least of those in line."""
        while True:
            start, _, turn = heapq.heappop(self._waiting)
            if turn in self._line:  # else it had its turn: it waited longest, or was hurried
                self._passed = max(self._passed, start)
                return turn
