"""The lines of builds and servers on the terminal of `spanyard up`, as their collectors read them.

What is shown never slows what is stored: a subscription that is not read fast enough loses the
oldest lines, and of a flood only a part is decoded. Both are counted and said.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from spanyard_local.podapi import PodIdentity
from spanyard_sidecar.ring import Ring, Subscription

LINES_PER_SECOND = 1_000
"""Of one pod; nobody reads more, and decoding takes 2 µs a line."""
BURST = 3_000
WIDEST = 2_000
"""Characters of a line that are shown."""
NOT_PRINTED = frozenset({"otlp", "files"})
"""The ring's names for what comes by OTLP and span files: the gateway shows that."""
LAST_LOOK_S = 0.05
"""How long a pod that has ended may keep its last lines from being shown."""


class _Line(msgspec.Struct):
    message: str = ""
    stream: str = ""
    container: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One line for people."""

    pod: PodIdentity
    container: str
    stream: str
    level: str
    message: str


@dataclass(slots=True)
class _Allowance:
    """A token bucket of lines."""

    at: float
    left: float = BURST

    def take(self, wanted: int, now: float) -> int:
        self.left = min(BURST, self.left + (now - self.at) * LINES_PER_SECOND)
        self.at = now
        given = min(wanted, int(self.left))
        self.left -= given
        return given


@dataclass(slots=True)
class _Feed:
    pod: PodIdentity
    subscription: Subscription
    allowance: _Allowance
    task: "asyncio.Task[None] | None" = None
    ending: bool = False
    unseen: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    """Writer → last seq shown: a collector that failed reads its last lines again."""


class Lines:
    """Implements `pods.Viewer`."""

    def __init__(
        self,
        show: Callable[[Shown], None],
        left_out: Callable[[PodIdentity, int], None],
        opened: Callable[[PodIdentity], None] = lambda pod: None,
        closed: Callable[[PodIdentity, Mapping[str, int]], None] = lambda pod, written: None,
    ) -> None:
        self._show = show
        self._left_out = left_out
        self._opened = opened
        self._closed = closed
        self._feeds: dict[str, _Feed] = {}
        self._decoder = msgspec.json.Decoder(_Line)

    def opened(self, pod: PodIdentity, ring: Ring) -> None:
        """A collector of this pod begins."""
        old = self._feeds.get(pod.uid)
        subscription = ring.subscribe()
        now = asyncio.get_running_loop().time()
        feed = _Feed(pod, subscription, _Allowance(now), seen=old.seen if old else {})
        if old is not None:
            self._end(old)
        else:
            self._opened(pod)
        feed.task = asyncio.create_task(self._follow(feed), name=f"lines of {pod.pod}")
        self._feeds[pod.uid] = feed

    async def closed(self, pod: PodIdentity, written: Mapping[str, int]) -> None:
        """The pod has ended; returns when its last lines are shown."""
        await self._ended(pod)
        self._closed(pod, written)

    async def _ended(self, pod: PodIdentity) -> None:
        feed = self._feeds.pop(pod.uid, None)
        if feed is None or feed.task is None:
            return
        feed.ending = True
        await asyncio.wait([feed.task], timeout=5)
        self._end(feed)
        await asyncio.gather(feed.task, return_exceptions=True)

    def _end(self, feed: _Feed) -> None:
        if feed.task is not None:
            feed.task.cancel()
        feed.subscription.close()

    async def _follow(self, feed: _Feed) -> None:
        loop = asyncio.get_running_loop()
        told = loop.time()
        while True:
            # As it is before: what comes with the end, while we give up waiting, is looked for again.
            ending = feed.ending
            try:
                async with asyncio.timeout(LAST_LOOK_S if ending else 1.0):
                    container, writer, first, lines = await feed.subscription.get()
            except TimeoutError:
                self._say_unseen(feed)
                if ending:
                    return
                continue
            feed.unseen += sum(feed.subscription.take_dropped().values())
            if container not in NOT_PRINTED:
                self._block(feed, writer, first, lines, loop.time())
            if feed.unseen and loop.time() - told > 1.0:
                told = loop.time()
                self._say_unseen(feed)
            await asyncio.sleep(0)  # whoever reads, stores or stops goes first

    def _say_unseen(self, feed: _Feed) -> None:
        if feed.unseen:
            self._left_out(feed.pod, feed.unseen)
            feed.unseen = 0

    def _block(self, feed: _Feed, writer: str, first: int, lines: bytes, now: float) -> None:
        count = lines.count(b"\n")
        last = first + count - 1
        skip = max(0, feed.seen.get(writer, 0) - first + 1)
        if skip >= count:
            return
        feed.seen[writer] = last
        given = feed.allowance.take(count - skip, now)
        feed.unseen += count - skip - given
        for raw in lines.split(b"\n", skip + given)[skip : skip + given]:
            try:
                line = self._decoder.decode(raw)
            except msgspec.DecodeError:
                feed.unseen += 1
                continue
            self._show(
                Shown(feed.pod, line.container, line.stream, line.level, line.message[:WIDEST])
            )
