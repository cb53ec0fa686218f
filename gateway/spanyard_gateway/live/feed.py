"""One pod's records for all who listen to it: one connection to its collector, while anybody does.

A feed begins with what the collector still has after what is stored, and keeps the newest blocks in
memory, so that whoever comes later finds no gap between the database and live. When the connection
breaks it goes on after the last record that it saw.

Listeners are given what came in rounds. What comes while a round goes on waits for the next, where
a writer's blocks are one: many listeners make rounds longer, not the queues, so that each gets
fewer and larger messages and none falls behind because of the others.
"""

import asyncio
import logging
import math
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.retry import Backoff
from spanyard_gateway.live.inlet import Begun, Gone, Inlet, Joined, Reached
from spanyard_gateway.live.records import Block, SpanRecord, merged
from spanyard_gateway.live.upstream import Left, LivePod, Upstream, UpstreamError, UpToDate

log = logging.getLogger("spanyard.gateway")

KEPT_BYTES = 8 << 20
"""Per pod that somebody listens to: at 300 bytes a line, 5 s of 5,000 lines/s, until they are stored."""

MERGE_AT = 64
"""Blocks from which on they are made fewer for whoever joins."""

StoredUpTo = Callable[[LivePod], Awaitable[Mapping[str, Reached]]]
"""How far each of the pod's writers is stored. Raises SpanyardError."""

AT_ONCE = 64
"""Listeners that are given a round's blocks before anything else has its turn: about 2 ms."""
PAUSE = 0.25
MOST_PAUSE_S = 0.05
"""A round is followed by a pause of a quarter of its time, at most this: whatever else is served
here has its turns, and messages become fewer, not later than the round makes them anyway."""

ROUND_BYTES = 256 * 1024
"""Of a round: a quarter of what may wait for a listener. After a moment in which nothing could be read, what a
pod printed meanwhile (1 MiB in 0.4 s, at 5,000 lines/s) would be more than anybody has room for at once."""
LOOK_AGAIN_S = 0.002
"""Where more is left, those for whom nothing waited have `MOST_PAUSE_S` to take a round: so often it is looked
whether they did."""

LAST_LOOK_S = 30.0
"""How long the database is asked for writers of a pod that ended unheard, from its first answer on:
flush interval, upload and load take 7."""
LOOK_EVERY_S = 2.0

MOST_WRITERS = 50_000
"""Of a pod, remembered: 5 MB. A pod can name as many as it likes; beyond, the one that was silent for
longest is forgotten, and should it speak again it is a new one."""

OPEN_SPANS = 20_000
"""Spans of a pod that began and have not ended, remembered to tell a start from an update."""


class Feed:
    """See the module. `run` is a task of its own."""

    def __init__(
        self,
        pod: LivePod,
        upstream: Upstream,
        stored_up_to: StoredUpTo,
        clock: Clock,
        rng: random.Random,
        *,
        keep: int = KEPT_BYTES,
    ) -> None:
        self.pod = pod
        self.ready = asyncio.Event()
        """Set when the collector has given what it had, or does not answer."""
        self.trouble = ""
        self.closing = False
        """The pod is no longer there: what does not answer will not again."""
        self.foreign = 0
        """Records of writers of other pods, left out."""
        self._upstream = upstream
        self._stored_up_to = stored_up_to
        self._clock = clock
        self._rng = rng
        self._keep = keep
        self._blocks: deque[Block] = deque()
        self._size = 0
        self._merge_at = MERGE_AT
        self._fresh: deque[Block] = deque()
        """What waits for the next round; beyond `keep` the oldest is left to the database."""
        self._fresh_size = 0
        self._came = asyncio.Event()
        self._inlets: dict[Inlet, None] = {}
        self._seen: dict[str, Reached] = {}
        self._open: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._begun = False
        """Whether it is known how far the writers are stored."""
        self._heard = asyncio.Event()
        """Set when its collector has given what it had for the first time."""
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has ended: a pod that is there all the same needs another."""
        return self._over

    @property
    def listeners(self) -> int:
        return len(self._inlets)

    @property
    def reached(self) -> Mapping[str, Reached]:
        """The last number of each writer that is known here."""
        return self._seen

    def join(self, inlet: Inlet) -> None:
        """From now on `inlet` gets every block; first what is kept, and nothing twice."""
        self._inlets[inlet] = None
        self._merge()
        inlet.offer(Joined(self.pod.uid, (*self._blocks, *self._fresh)))
        if self._begun:
            inlet.offer(Begun(self.pod.uid, dict(self._seen)))
        if self._over:
            inlet.offer(Gone(self.pod.uid, dict(self._seen)))

    def leave(self, inlet: Inlet) -> None:
        """Idempotent."""
        self._inlets.pop(inlet, None)

    def forget_encoded(self) -> None:
        """What was encoded of kept blocks for those who came: it were up to `records.MOST_KEPT` times
        what is kept."""
        for block in self._blocks:
            block.forget()

    def _merge(self) -> None:
        """What is kept, in as few messages as there can be: rounds leave a hundred blocks a second, and
        each would be written by itself for whoever comes back."""
        if len(self._blocks) >= self._merge_at:
            self._blocks = deque(merged(self._blocks))
            # Those of many writers stay many: not for everybody who comes.
            self._merge_at = 2 * len(self._blocks) + MERGE_AT

    async def run(self) -> None:
        """Listen until the pod is gone; told to all. Cancel it when nobody listens any more."""
        try:
            async with asyncio.TaskGroup() as group:
                rounds = group.create_task(self._rounds(), name=f"rounds of {self.pod.name}")
                await self._follow()
                rounds.cancel()
        finally:
            self._over = True
            self.ready.set()
            last_words = self._taken()
            for inlet in self._inlets:
                for block in last_words:
                    inlet.offer(block)
                inlet.offer(Gone(self.pod.uid, dict(self._seen)))

    async def _follow(self) -> None:
        backoff = Backoff(self._rng, first=0.1, most=5.0)
        while True:
            if not self._begun:
                await self._begin()
            try:
                await self._listen(backoff)
            except UpstreamError as error:
                self.trouble = str(error)
            self.ready.set()
            if self.closing and (self._heard.is_set() or await self._last_look()):
                return
            await self._clock.sleep(backoff.next())

    async def _last_look(self) -> bool:
        """Nobody ever heard its collector: of what it printed only the database will tell.

        Whether the pod is gone for good.
        """
        until: float | None = None
        while self.closing and (until is None or self._clock.monotonic() < until):
            await self._begin()
            if self._begun and until is None:
                until = self._clock.monotonic() + LAST_LOOK_S
            await self._clock.sleep(LOOK_EVERY_S)
        return self.closing

    async def _begin(self) -> None:
        """Go on after what is stored; without the database all that the collector has is new."""
        try:
            stored = await self._stored_up_to(self.pod)
        except SpanyardError as error:
            self.trouble = str(error)
            return
        for writer, reached in stored.items():
            known = self._seen.get(writer)
            if known is None or known.last < reached.last:
                self._seen[writer] = reached
        self._forget_silent()
        self._begun = True
        for inlet in self._inlets:
            inlet.offer(Begun(self.pod.uid, dict(stored)))

    async def _rounds(self) -> None:
        await self._heard.wait()
        while True:
            await self._came.wait()
            began = self._clock.monotonic()
            blocks, inlets = self._taken(ROUND_BYTES), list(self._inlets)
            quick = [inlet for inlet in inlets if not inlet.waiting] if self._fresh else []
            for start in range(0, len(inlets), AT_ONCE):
                for inlet in inlets[start : start + AT_ONCE]:
                    if inlet in self._inlets:
                        for block in blocks:
                            inlet.offer(block)
                # The first wakes them, in the second they are done.
                await self._clock.sleep(0)
                await self._clock.sleep(0)
            for block in blocks:
                block.forget()
            took = self._clock.monotonic() - began
            if len(inlets) > AT_ONCE:
                await self._clock.sleep(min(took * PAUSE, MOST_PAUSE_S))
            until = self._clock.monotonic() + MOST_PAUSE_S
            while any(inlet.waiting for inlet in quick) and self._clock.monotonic() < until:
                await self._clock.sleep(LOOK_AGAIN_S)

    def _hand_on_past(self) -> None:
        """What the collector had before anybody listened, in one piece: up to `keep`, which all
        inlets share, and for which none of them has to have room. Once, so that nothing piles up; what
        a connection gave that broke before stays in `_fresh`."""
        past = Joined(self.pod.uid, tuple(self._taken()))
        for inlet in self._inlets if past.blocks else ():
            inlet.offer(past)

    def _taken(self, most: float = math.inf) -> list[Block]:
        """What waits for a round, up to so many bytes or one block; now kept for those who come later."""
        fresh: list[Block] = []
        while self._fresh and (not fresh or self._fresh[0].size <= most):
            most -= self._fresh[0].size
            fresh.append(self._fresh.popleft())
        self._fresh_size -= sum(block.size for block in fresh)
        if not self._fresh:
            self._came.clear()
        blocks = merged(fresh)
        self._blocks.extend(blocks)
        self._size += sum(block.size for block in blocks)
        while self._size > self._keep and len(self._blocks) > 1:
            self._size -= self._blocks.popleft().size
        return blocks

    async def _listen(self, backoff: Backoff) -> None:
        after = {writer: reached.last for writer, reached in self._seen.items()}
        async with self._upstream.listen(self.pod, after) as events:
            async for event in events:
                if isinstance(event, Block):
                    self._take(event)
                elif isinstance(event, UpToDate):
                    self.trouble = ""
                    if not self._heard.is_set():
                        self._hand_on_past()
                        self._heard.set()
                    backoff.reset()
                    self.ready.set()
                elif isinstance(event, Left):
                    log.info("pod %s: %d live records came too fast", self.pod.name, event.count)

    def _take(self, block: Block) -> None:
        if not block.writer.startswith(f"{self.pod.uid}/"):
            # A pod speaks for itself: what it says of others would show their stored records.
            if not self.foreign:
                log.warning("pod %s tells records of %r; left out", self.pod.name, block.writer)
            self.foreign += block.count
            return
        before = self._seen.get(block.writer)
        fresh = block.after(before.last if before is not None else 0)
        if fresh is None:
            return
        self._seen.pop(fresh.writer, None)  # who was heard last stands last
        self._seen[fresh.writer] = Reached(fresh.signal, fresh.last)
        self._forget_silent()
        if not fresh.records:
            return  # metrics and the like: nobody here is shown them
        if fresh.signal == "spans":
            self._mark_starts(fresh)
        self._fresh.append(fresh)
        self._fresh_size += fresh.size
        while self._fresh_size > self._keep and len(self._fresh) > 1:
            self._fresh_size -= self._fresh.popleft().size
        self._came.set()

    def _forget_silent(self) -> None:
        while len(self._seen) > MOST_WRITERS:
            del self._seen[next(iter(self._seen))]

    def _mark_starts(self, block: Block) -> None:
        for record in block.records:
            if not isinstance(record, SpanRecord):
                continue
            key = record.trace_id, record.id
            if record.end_time is not None:
                self._open.pop(key, None)
            elif key in self._open:
                block.updates.add(record.seq)
            else:
                self._open[key] = None
                if len(self._open) > OPEN_SPANS:
                    self._open.popitem(last=False)
