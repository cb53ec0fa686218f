"""How much clients may say: what each costs, and in which order those that wait have their turn.

A message takes the loop time in proportion to its size, in which nobody else is served. So there is a
rate for a connection, one for a person, and one for all together; what comes faster is not read on
meanwhile, and waits with whoever says it. Among those that wait, who has said least has the next
turn (start-time fair queueing): one who asks for little is not behind a hundred who ask for much. A
part of the rate is for what is not small, in the order in which it came: it does not wait without end
for strangers that keep coming with little.
"""

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


class TooFastError(Exception):
    """It would have to wait for longer than anybody is waited for."""


class Limits(Protocol):
    """The part of `SocketLimits` that is kept here; bytes, bytes per second, seconds."""

    @property
    def said_burst(self) -> int: ...
    @property
    def said_rate(self) -> int: ...
    @property
    def said_burst_of_person(self) -> int: ...
    @property
    def said_rate_of_person(self) -> int: ...
    @property
    def said_burst_in_all(self) -> int: ...
    @property
    def said_rate_in_all(self) -> int: ...
    @property
    def patience(self) -> float: ...


MESSAGE = 512
"""Bytes that a message counts besides its own: the smallest takes the loop some 50 µs."""
SMALL = 4096
"""What costs no more, a subscription without a token, does not wait behind a large message, which overdraws
the rate of all for a quarter of a second; if who says it is within their own rate."""
RESERVE = 8
"""The part of the rate of all that they may have for that, on credit: 180 a second."""
LARGE_PART = 4
"""The part of the rate of all that what costs more than `SMALL` has beside what does not, in bytes."""
SHARE = 12
"""So many times as long as a message took to decode no other one is taken, where the rate of all
would allow it: on a machine that is busy or slow a rate in bytes is too much. Decoding is about a
quarter of what a large one costs, so that two thirds of the loop's time are left to all else."""
LONGEST_S = 0.05
"""More than this, a hundred times what the largest takes, is not the message: the process stood."""


class Bucket:
    """What may be taken: `burst` at once, `rate` per second. It may be overdrawn by one taking."""

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = float(burst), now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self._level / self._rate)

    def take(self, size: int) -> None:
        """After `wait` gave 0."""
        self._level -= size


@dataclass(eq=False)
class _Flow:
    """What belongs together when it is decided who is next: a person, or a connection of nobody."""

    bucket: Bucket
    one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)
    """In the order in which they came: no connection of a person is for ever behind the others."""
    connections: int = 0
    finish: float = 0.0


@dataclass(order=True, slots=True)
class _Waiting:
    finish: float
    number: int
    cost: int = field(compare=False)
    turn: "asyncio.Future[None]" = field(compare=False)


class Intake:
    """Of all connections of a gateway. Times are the loop's."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._people: dict[str, _Flow] = {}
        self._all: Bucket | None = None
        self._reserve = Bucket(
            limits.said_rate_in_all // RESERVE, limits.said_burst_in_all // RESERVE, 0.0
        )
        self._waiting: list[_Waiting] = []
        self._large: deque[_Waiting] = deque()
        """Those of them that are not small, as they came; who had a turn leaves when it is the first."""
        self._for_large = 0
        self._number = 0
        self._passed = 0.0
        """Where whoever had the last turn began; whoever was silent meanwhile begins there too."""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def connection(self, person: str) -> AsyncIterator["Said"]:
        """One connection of this person; empty where nobody is asked who they are."""
        limits, now = self._limits, asyncio.get_running_loop().time()
        own = Bucket(limits.said_rate, limits.said_burst, now)
        flow = self._people.get(person) if person else None
        if flow is None:
            rate, burst = limits.said_rate_of_person, limits.said_burst_of_person
            flow = _Flow(Bucket(rate, burst, now))
            if person:
                self._people[person] = flow
        flow.connections += 1
        try:
            yield Said(self, own, flow)
        finally:
            flow.connections -= 1
            if person and not flow.connections:
                # Not before it is full again: who comes back at once is not somebody else.
                full = limits.said_burst_of_person / limits.said_rate_of_person
                asyncio.get_running_loop().call_later(full, self._forget, person)

    def _forget(self, person: str) -> None:
        flow = self._people.get(person)
        if flow is not None and not flow.connections:
            del self._people[person]

    async def turn(self, own: Bucket, flow: _Flow, cost: int) -> None:
        """Wait until so much may be taken. Raises TooFastError."""
        now = asyncio.get_running_loop().time()
        everybody = self._of_all(now)
        if (
            not flow.one_by_one.locked()
            and not any(b.wait(now) for b in (own, flow.bucket))
            and ((not self._waiting and not everybody.wait(now)) or self._is_small(cost, now))
        ):
            for bucket in (own, flow.bucket, everybody):
                bucket.take(cost)
            flow.finish = max(self._passed, flow.finish) + cost
            return
        try:
            async with asyncio.timeout(self._limits.patience):
                await _taken(own, cost)
                async with flow.one_by_one:
                    await _taken(flow.bucket, cost)
                await self._turn_of_all(flow, cost)
        except TimeoutError:
            raise TooFastError from None

    def _is_small(self, cost: int, now: float) -> bool:
        """Whether it need not wait for others at all, as long as there are not many like it."""
        small = cost <= SMALL and not self._reserve.wait(now)
        if small:
            self._reserve.take(cost)
        return small

    def took(self, seconds: float, cost: int) -> None:
        """What was counted as `cost` bytes took the loop so long."""
        really = int(min(seconds, LONGEST_S) * SHARE * self._limits.said_rate_in_all)
        if really > cost:
            self._of_all(asyncio.get_running_loop().time()).take(really - cost)

    async def _turn_of_all(self, flow: _Flow, cost: int) -> None:
        loop = asyncio.get_running_loop()
        flow.finish = max(self._passed, flow.finish) + cost
        self._number += 1
        waiting = _Waiting(flow.finish, self._number, cost, loop.create_future())
        heapq.heappush(self._waiting, waiting)
        if cost > SMALL:
            self._large.append(waiting)
        if self._timer is None:
            self._next()
        await waiting.turn

    def _next(self) -> None:
        """Give turns to those that may have one now."""
        loop, self._timer = asyncio.get_running_loop(), None
        everybody = self._of_all(loop.time())
        while self._waiting:
            if self._waiting[0].turn.done():  # it had its turn, or has gone
                heapq.heappop(self._waiting)
                continue
            if seconds := everybody.wait(loop.time()):
                self._timer = loop.call_later(seconds, self._next)
                return
            waiting = self._chosen()
            everybody.take(waiting.cost)
            waiting.turn.set_result(None)
        self._large.clear()

    def _chosen(self) -> _Waiting:
        """Who said least, or the first of those who are not small where that is due. Somebody waits."""
        while self._large and self._large[0].turn.done():
            self._large.popleft()
        if self._large and self._for_large >= self._large[0].cost * (LARGE_PART - 1):
            self._for_large = 0
            return self._large.popleft()
        least = heapq.heappop(self._waiting)
        self._passed = max(self._passed, least.finish - least.cost)
        if not self._large:
            self._for_large = 0
        elif least.cost <= SMALL:
            self._for_large += least.cost
        return least

    def _of_all(self, now: float) -> Bucket:
        if self._all is None:  # the loop's time is not known before it runs
            self._all = Bucket(self._limits.said_rate_in_all, self._limits.said_burst_in_all, now)
        return self._all


async def _taken(bucket: Bucket, cost: int) -> None:
    while seconds := bucket.wait(asyncio.get_running_loop().time()):
        await asyncio.sleep(seconds)
    bucket.take(cost)


class Said:
    """What one connection says."""

    def __init__(self, intake: Intake, own: Bucket, flow: _Flow) -> None:
        self._intake, self._own, self._flow = intake, own, flow
        self._cost = 0

    async def turn(self, size: int) -> None:
        """Wait until a message of so many bytes may be read. Raises TooFastError."""
        self._cost = size + MESSAGE
        await self._intake.turn(self._own, self._flow, self._cost)

    def took(self, seconds: float) -> None:
        """So long the loop was busy with the message that had the last turn."""
        self._intake.took(seconds, self._cost)
