"""The hub: which feeds there are, who listens to them, and pods that come and go meanwhile.

There is one feed per pod while anybody listens to it, however many listen; nobody listening costs
no connection. Pods are looked for again every second, per target and not per listener.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_gateway.live.feed import Feed
from spanyard_gateway.live.inlet import Inlet, Item, Reached, Told
from spanyard_gateway.live.shared import SharedStored
from spanyard_gateway.live.stored import Stored, Target
from spanyard_gateway.live.upstream import LivePod, PodFinder, Upstream

log = logging.getLogger("spanyard.gateway")

LOOK_EVERY_S = 1.0
READY_S = 3.0
"""How long a subscription waits for what a collector still has; then it begins without."""
LINGER_S = 5.0
"""A feed outlives its last listener so long: whoever reloads a page finds it running."""


@dataclass(eq=False)
class _Running:
    feed: Feed
    task: asyncio.Task[None]
    unused_since: float | None = None


@dataclass(eq=False)
class Attached:
    """What a subscription is joined to."""

    inlet: Inlet
    feeds: dict[str, Feed] = field(default_factory=dict)

    def begin(self) -> tuple[list[Item], dict[str, Reached]]:
        """What all its pods have now, and how far their writers are: the same moment of both.

        What came since the feeds were joined is among it. The inlet may have had no room for that,
        and how far a feed is, says more than it has handed on."""
        statuses = [item for item in self.inlet.waiting_now() if isinstance(item, Told)]
        reached: dict[str, Reached] = {}
        for feed in self.feeds.values():
            feed.join(self.inlet)
            reached |= feed.reached
        return statuses + self.inlet.waiting_now(), reached

    def troubles(self) -> dict[str, str]:
        """Pod's name → why its collector cannot be heard."""
        return {f.pod.name: f.trouble for f in self.feeds.values() if f.trouble}


class Hub:
    """See the module. `run` is a root task."""

    def __init__(
        self,
        finder: PodFinder,
        upstream: Upstream,
        stored: Stored,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._finder = finder
        self._upstream = upstream
        self.stored = SharedStored(stored)
        self.clock = clock
        self._rng = rng
        self._running: dict[str, _Running] = {}
        self._attached: dict[Attached, Target] = {}
        self._trouble = ""
        self._failure = ""

    @property
    def connections(self) -> int:
        """Collectors that are listened to."""
        return len(self._running)

    @contextlib.asynccontextmanager
    async def attached(self, target: Target, inlet: Inlet) -> AsyncIterator[Attached]:
        """Join `inlet` to the feeds of all pods of the target, also of those that come later.

        When the block begins, those that answer within READY_S have given what they had.
        """
        attached = Attached(inlet)
        try:
            pods = await self._pods(target)
            feeds = [self._feed(pod) for pod in pods]
            waits = [asyncio.ensure_future(feed.ready.wait()) for feed in feeds]
            try:
                if waits:
                    await asyncio.wait(waits, timeout=READY_S)
            finally:
                for wait in waits:
                    wait.cancel()
            for feed in feeds:
                self._join(attached, feed)
            self._attached[attached] = target
            yield attached
        finally:
            self._attached.pop(attached, None)
            for feed in attached.feeds.values():
                feed.leave(inlet)

    async def run(self) -> None:
        """Look for pods, end feeds that nobody listens to."""
        try:
            while True:
                await self.clock.sleep(LOOK_EVERY_S)
                try:
                    await self._look()
                    await self._tidy()
                    await self._forget_encoded()
                    self._failure = ""
                except Exception as error:
                    # What one pod's answer breaks must not end the streams of all others.
                    if repr(error) != self._failure:
                        log.exception("pods of live streams cannot be looked after; tried again")
                    self._failure = repr(error)
        finally:
            for running in self._running.values():
                running.task.cancel()
            tasks = [running.task for running in self._running.values()]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pods(self, target: Target) -> list[LivePod]:
        try:
            found = await self._finder.pods(
                target.namespace,
                project=target.project,
                deployment=target.deployment,
                build=target.build.partition(".")[2],
            )
        except SpanyardError as error:
            if str(error) != self._trouble:
                log.warning("pods cannot be looked for: %s", error)
            self._trouble = str(error)
            return []
        self._trouble = ""
        return found

    def _feed(self, pod: LivePod) -> Feed:
        running = self._running.get(pod.uid)
        if running is None or running.feed.over:
            feed = Feed(pod, self._upstream, self.stored.reached, self.clock, self._rng)
            task = asyncio.create_task(feed.run(), name=f"live records of pod {pod.name}")
            task.add_done_callback(_tell_failure)
            running = self._running[pod.uid] = _Running(feed, task)
        running.unused_since = None
        return running.feed

    def _join(self, attached: Attached, feed: Feed) -> None:
        before = attached.feeds.get(feed.pod.uid)
        if before is not feed:
            if before is not None:
                before.leave(attached.inlet)
            attached.feeds[feed.pod.uid] = feed
            feed.join(attached.inlet)

    async def _look(self) -> None:
        targets: dict[Target, list[Attached]] = {}
        for attached, target in self._attached.items():
            targets.setdefault(target, []).append(attached)
        # Who begins to listen while this asks is not asked for, and is no sign of a pod's end.
        heard = {uid: run.feed for uid, run in self._running.items() if run.feed.listeners}
        there: set[str] = set()
        whole = True
        for target, listeners in targets.items():
            pods = await self._pods(target)
            whole = whole and not self._trouble
            there |= {pod.uid for pod in pods}
            for pod in pods:
                for attached in listeners:
                    known = attached.feeds.get(pod.uid)
                    if attached in self._attached and (known is None or known.over):
                        self._join(attached, self._feed(pod))
        if whole:
            for uid, feed in heard.items():
                feed.closing = uid not in there

    async def _forget_encoded(self) -> None:
        self.stored.forget_encoded()
        for running in list(self._running.values()):
            running.feed.forget_encoded()
            await self.clock.sleep(0)  # a feed of thousands of writers has thousands of blocks

    async def _tidy(self) -> None:
        now = self.clock.monotonic()
        for uid, running in list(self._running.items()):
            if running.feed.listeners:
                running.unused_since = None
            elif running.unused_since is None:
                running.unused_since = now
            ended = running.task.done()
            if ended or (
                running.unused_since is not None and now - running.unused_since >= LINGER_S
            ):
                # First: whoever begins to listen while it ends needs another, and must not lose it.
                # Where another has come already, while one before this ended, that stays.
                if self._running.get(uid) is running:
                    del self._running[uid]
                running.task.cancel()
                await asyncio.gather(running.task, return_exceptions=True)


def _tell_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a feed failed; who listens gets another", exc_info=error)
