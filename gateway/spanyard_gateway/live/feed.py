"""One pod's records for all who listen to it: one connection to its collector, while anybody does.

A feed begins with what the collector still has after what is stored, and keeps the newest blocks in
memory, so that whoever comes later finds no gap between the database and live. When the connection
breaks it goes on after the last record that it saw.
"""

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.retry import Backoff
from spanyard_gateway.live.inlet import Gone, Inlet, Joined, Reached
from spanyard_gateway.live.records import Block, SpanRecord
from spanyard_gateway.live.upstream import Left, LivePod, Upstream, UpstreamError, UpToDate

log = logging.getLogger("spanyard.gateway")

KEPT_BYTES = 8 << 20
"""Per pod that somebody listens to: at 300 bytes a line, 5 s of 5,000 lines/s, until they are stored."""

StoredUpTo = Callable[[LivePod], Awaitable[Mapping[str, Reached]]]
"""How far each of the pod's writers is stored. Raises SpanyardError."""

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
        self._inlets: dict[Inlet, None] = {}
        self._seen: dict[str, Reached] = {}
        self._open: OrderedDict[tuple[str, str], None] = OrderedDict()
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
        inlet.offer(Joined(self.pod.uid, tuple(self._blocks)))
        if self._over:
            inlet.offer(Gone(self.pod.uid, dict(self._seen)))

    def leave(self, inlet: Inlet) -> None:
        """Idempotent."""
        self._inlets.pop(inlet, None)

    async def run(self) -> None:
        """Listen until the pod is gone; told to all. Cancel it when nobody listens any more."""
        backoff = Backoff(self._rng, first=0.1, most=5.0)
        first = True
        try:
            while True:
                try:
                    if first:
                        self._seen.update(await self._stored_up_to(self.pod))
                        first = False
                except SpanyardError as error:
                    # Without the database all that the collector has is new.
                    self.trouble, first = str(error), False
                try:
                    await self._listen(backoff)
                except UpstreamError as error:
                    self.trouble = str(error)
                self.ready.set()
                if self.closing:
                    return
                await self._clock.sleep(backoff.next())
        finally:
            self._over = True
            self.ready.set()
            for inlet in self._inlets:
                inlet.offer(Gone(self.pod.uid, dict(self._seen)))

    async def _listen(self, backoff: Backoff) -> None:
        after = {writer: reached.last for writer, reached in self._seen.items()}
        async with self._upstream.listen(self.pod, after) as events:
            async for event in events:
                if isinstance(event, Block):
                    self._take(event)
                elif isinstance(event, UpToDate):
                    self.trouble = ""
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
        self._seen[fresh.writer] = Reached(fresh.signal, fresh.last)
        if not fresh.records:
            return  # metrics and the like: nobody here is shown them
        if fresh.signal == "spans":
            self._mark_starts(fresh)
        self._blocks.append(fresh)
        self._size += fresh.size
        while self._size > self._keep and len(self._blocks) > 1:
            self._size -= self._blocks.popleft().size
        for inlet in self._inlets:
            inlet.offer(fresh)

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
