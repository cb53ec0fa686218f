"""What a subscription fetches from the database while it goes on: holes, and the rest of writers.

Each writer has an errand of its own; meanwhile its blocks wait with it, in order, and those of other
writers are passed on. An errand that cannot be done because the database is away stays owed, and
until it is done the resume token's time does not move past it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.inlet import Dropped, Reached
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.records import Block, LiveSignal
from spanyard_gateway.live.stored import Stored, Target

PATIENCE_S = 15.0
"""For what was read and is not stored yet: flush interval (5 s), upload and load take 7."""
ASK_EVERY_S = 0.5
QUICK_S = 1.0
"""Longer nobody who wants nothing of the past waits for the database."""
END_S = 30.0
"""How long a pod that is gone is looked after in the database, until the ends of its writers."""
HELD_BYTES = 1 << 20
"""Blocks that wait for an errand, which other listeners have in memory too; beyond, the oldest are
fetched from the database like what was before them."""
MOST_HOLES = 5_000
"""Writers of which blocks wait for the database at a time. A pod can make as many as it likes, with
writers that it invents and numbers that it skips."""
MARGIN_MS = 60_000
"""What was planned just before the client left may have become visible after."""


class Passes(Protocol):
    """The subscription, as errands see it."""

    @property
    def target(self) -> Target: ...
    @property
    def channel(self) -> Channel: ...
    def seen(self, writer: str) -> int: ...
    def unknown(self, writers: Collection[str]) -> None: ...
    def forget(self, writers: Mapping[str, int]) -> None: ...
    async def pass_on(self, block: Block) -> None: ...
    async def drop(self, writer: str, first: int, last: int, reason: str) -> None: ...
    async def partial(self, error: SpanyardError) -> None: ...


@dataclass(slots=True)
class _Held:
    """A writer with an errand."""

    since_ms: int
    waiting: deque[Block | Dropped] = field(default_factory=deque)
    size: int = 0

    def add(self, item: Block | Dropped) -> None:
        self.waiting.append(item)
        self.size += _size(item)
        while self.size > HELD_BYTES and len(self.waiting) > 1:
            self.size -= _size(self.waiting.popleft())


@dataclass(slots=True)
class _Owed:
    """A writer of which there is, or may be, more in the database."""

    signal: LiveSignal
    since_ms: int
    until: float
    """Monotonic: so long it is asked again."""
    last: int
    """So far it was told to be."""
    to_end: bool = False
    """Whether its pod is gone: it is asked again until its end is there, not until `last` is."""

    def has_more(self, seen: int, end: int | None) -> bool:
        """Whether more of it is to come."""
        return (end is None or end > seen) if self.to_end else seen < self.last


class Errands:
    """See the module. `group` has to be set before anything is begun; it owns the tasks."""

    group: asyncio.TaskGroup

    def __init__(self, passes: Passes, stored: Stored, clock: Clock, resume: Resume | None) -> None:
        self._passes = passes
        self._stored = stored
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._owed: dict[str, _Owed] = {}
        self._resume = resume
        """Where the client was, until it is known what came since."""
        self._known: list[str] = []
        self._unknown: dict[str, int] = {}
        """Writers of the token that nobody knows → where the client was, and until when they are
        waited for, monotonic."""
        self._unknown_until = 0.0
        self._reached: Mapping[str, Reached] = {}
        self._looking = False

    @property
    def any(self) -> bool:
        """Whether `look_after` has anything to do."""
        return bool(self._owed or self._resume or self._unknown)

    @property
    def since_ms(self) -> int | None:
        """From when on something is still to be passed on or told; None when nothing is."""
        times = [held.since_ms for held in self._held.values()]
        times += [owed.since_ms for owed in self._owed.values()]
        if self._resume is not None:
            times.append(self._resume.at)
        return min(times, default=None)

    def hold(self, item: Block | Dropped) -> bool:
        """Whether the writer has an errand, with which the item now waits."""
        held = self._held.get(item.writer)
        if held is not None:
            held.add(item)
        return held is not None

    @property
    def full(self) -> bool:
        """Whether so many wait that no other may."""
        return len(self._held) >= MOST_HOLES

    def begin(self, block: Block) -> None:
        """Fetch what the block skips, then pass on the block."""
        self._begin(block.writer, _nothing).add(block)

    def owe(self, writer: str, there: Reached) -> None:
        """More of the writer is stored than was passed on, and no block may come that shows it."""
        if writer not in self._held and writer not in self._owed:
            until = self._clock.monotonic() + PATIENCE_S
            self._owed[writer] = _Owed(there.signal, self._now_ms(), until, there.last)

    def until_end(self, writer: str, there: Reached) -> None:
        """The writer's pod is gone: more of it can only come from the database."""
        since, owed = self._now_ms(), self._owed.get(writer)
        if owed is not None:
            since = min(since, owed.since_ms)
        until = self._clock.monotonic() + END_S
        self._owed[writer] = _Owed(there.signal, since, until, there.last, to_end=True)

    def look_after(self) -> None:
        """Go on with what is owed. To be called every second while there is any."""
        if self.any and not self._looking:
            self._looking = True
            self.group.create_task(self._look(), name="what a listener is owed")

    async def catch_up(self, seen: Mapping[str, int], reached: Mapping[str, Reached]) -> None:
        """Everything stored since the client was here; of writers that the feeds know, up to them.

        What the database does not tell now is owed, and the client told of it.
        """
        self._known, self._reached = list(seen), reached
        try:
            await self._what_came_since()
            for writer, owed in list(self._owed.items()):
                await self._rest(writer, owed.signal, owed.last)
        except SpanyardError as error:
            await self._passes.partial(error)

    async def passed_before(self) -> Mapping[str, Reached]:
        """How far the writers were stored of which a resume soon after now would find something;
        for who begins anew they are no news. Nothing where the database is not quick to say so."""
        passes, since = self._passes, self._now_ms() - MARGIN_MS
        try:
            async with asyncio.timeout(QUICK_S):
                return await self._stored.begun_since(passes.target, passes.channel.signals, since)
        except (SpanyardError, TimeoutError):
            return {}

    async def _what_came_since(self) -> None:
        """Find out what is owed since the client was here. Raises SpanyardError."""
        resume, signals = self._resume, self._passes.channel.signals
        if resume is None:
            return
        # A clock that went back has given tokens of times that are yet to come.
        target, since = self._passes.target, min(resume.at, self._now_ms()) - MARGIN_MS
        stored = dict(await self._stored.begun_since(target, signals, since))
        # Those whose pods have gone meanwhile, however long they were silent.
        silent = [writer for writer in self._known if writer not in self._reached]
        if silent:
            # Of the target alone: the client says which, and may name those of others.
            stored |= await self._stored.last_of(target, signals, silent)
        known = set(self._known)
        stored |= {w: r for w, r in self._reached.items() if r.signal in signals and w in known}
        now = self._clock.monotonic()
        until = now + END_S
        for writer, there in stored.items():
            if writer not in self._reached:
                owed = _Owed(there.signal, resume.at, until, there.last, to_end=True)
            elif there.last > self._passes.seen(writer):
                # What its feed has told of may be in no block any more, and not stored before long.
                owed = _Owed(there.signal, resume.at, now + PATIENCE_S, there.last)
            else:
                continue
            self._owed[writer] = owed
        strange = [w for w in self._known if w not in stored and w not in self._reached]
        self._unknown, self._unknown_until = {w: self._passes.seen(w) for w in strange}, until
        self._passes.unknown(self._unknown)
        self._resume, self._known, self._reached = None, [], {}

    def _forget(self) -> None:
        """What was in the token and nobody has heard of, as long as a pod's end is waited for."""
        if self._unknown and self._clock.monotonic() >= self._unknown_until:
            self._passes.forget(self._unknown)
            self._unknown = {}

    async def _look(self) -> None:
        try:
            await self._what_came_since()
            self._forget()
            writers = [writer for writer in self._owed if writer not in self._held]
            if not writers:
                return
            signals = self._passes.channel.signals
            stored = await self._stored.last_of(self._passes.target, signals, writers)
            ends = await self._stored.ends_of(writers)
        except SpanyardError:
            for each in self._owed.values():  # what could not be asked for may be there
                wait = END_S if each.to_end else PATIENCE_S
                each.until = self._clock.monotonic() + wait
            return
        finally:
            self._looking = False
        for writer in writers:
            if writer not in self._held and (owed := self._owed.get(writer)) is not None:
                self._decide(writer, owed, stored.get(writer), ends.get(writer))

    def _decide(self, writer: str, owed: _Owed, stored: Reached | None, end: int | None) -> None:
        seen = self._passes.seen(writer)
        if stored is not None and stored.last > seen:
            self._begin(writer, lambda: self._rest_if_there(writer, owed.signal, stored.last))
            return
        if owed.has_more(seen, end) and self._clock.monotonic() < owed.until:
            return
        del self._owed[writer]
        if end is not None and end > seen:
            self._begin(writer, lambda: self._passes.drop(writer, 1, end, "not-stored"))

    def _begin(self, writer: str, first: Callable[[], Awaitable[None]]) -> _Held:
        """`first`, then what waits with it meanwhile."""
        held = self._held[writer] = _Held(self._now_ms())
        work = self._go(writer, held, first)
        self.group.create_task(work, name="an errand of a listener")
        return held

    def _now_ms(self) -> int:
        return self._clock.time_ns() // 1_000_000

    async def _go(self, writer: str, held: _Held, first: Callable[[], Awaitable[None]]) -> None:
        try:
            await first()
            while held.waiting:
                item = held.waiting.popleft()
                held.size -= _size(item)
                await self._pass_on(item)
        finally:
            del self._held[writer]

    async def _pass_on(self, item: Block | Dropped) -> None:
        passes = self._passes
        if isinstance(item, Dropped):
            await passes.drop(item.writer, item.first, item.last, "slow-client")
            return
        fresh = item.after(passes.seen(item.writer))
        if fresh is None:
            return
        if fresh.first > passes.seen(item.writer) + 1:
            await self._fill(item.writer, item.signal, fresh.first)
        await passes.pass_on(fresh)

    async def _fill(self, writer: str, signal: LiveSignal, before: int) -> None:
        """Pass on the writer's stored records before `before`; drop, told, what does not come."""
        passes = self._passes
        deadline = self._clock.monotonic() + PATIENCE_S
        while passes.seen(writer) + 1 < before:
            try:
                blocks = await self._stored.between(writer, signal, passes.seen(writer), before)
                reason = "not-stored"
            except SpanyardError:
                blocks, reason = [], "database-away"
            for block in blocks:
                # Before a stored record the missing ones are in quarantine, or were taken out.
                await passes.drop(writer, 1, block.first - 1, "not-stored")
                await passes.pass_on(block)
            if not blocks:
                if self._clock.monotonic() >= deadline:
                    await passes.drop(writer, 1, before - 1, reason)
                    return
                await self._clock.sleep(ASK_EVERY_S)

    async def _rest_if_there(self, writer: str, signal: LiveSignal, last: int) -> None:
        with contextlib.suppress(SpanyardError):  # then it is still owed
            await self._rest(writer, signal, last)

    async def _rest(self, writer: str, signal: LiveSignal, last: int) -> None:
        """Pass on what is stored of the writer beyond what was passed on, which is known to reach `last`
        at least, or nearly. Raises SpanyardError."""
        passes = self._passes
        before = last + 1 if last > passes.seen(writer) else None
        while True:
            blocks = await self._stored.between(writer, signal, passes.seen(writer), before)
            for block in blocks:
                await passes.drop(writer, 1, block.first - 1, "not-stored")
                await passes.pass_on(block)
            if before is not None and (not blocks or passes.seen(writer) >= last):
                before = None
            elif not blocks:
                return


async def _nothing() -> None:
    pass


def _size(item: Block | Dropped) -> int:
    return item.size if isinstance(item, Block) else 0
