"""Live records of pods on this machine: straight from the rings of their collectors in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from spanyard_gateway.live.records import block_of_lines
from spanyard_gateway.live.upstream import Left, LivePod, UpstreamError, UpstreamEvent, UpToDate
from spanyard_local.podapi import PodIdentity
from spanyard_sidecar.ring import Ring, RingEndedError, Subscription, tail_of

WAITING_BYTES = 4 << 20
"""Records that wait for the gateway in the same process; beyond, they are read from the database."""
LINGER_S = 3.0
"""A pod stays to be found after its end: the gateway looks for pods once a second, and one that came
and went between two looks, or that an earlier run left and this one stores, would be a silent gap."""


@dataclass(eq=False, slots=True)
class _Running:
    pod: LivePod
    ring: Ring
    listening: set[Subscription] = field(default_factory=set)
    leaving: asyncio.TimerHandle | None = None


class LocalLive:
    """Implements the gateway's `PodFinder` and `Upstream`; told of pods by `Pods`."""

    def __init__(self, *, linger: float = LINGER_S) -> None:
        self._linger = linger
        self._running: dict[str, _Running] = {}
        self.connections = 0

    def opened(self, identity: PodIdentity, ring: Ring) -> None:
        """A pod's collector begins, the first or one that follows a failed one."""
        self._gone(self._running.get(identity.uid))
        _, _, project = identity.project.partition(".")
        pod = LivePod(
            identity.uid,
            identity.pod,
            identity.namespace,
            project,
            deployment=identity.deployment,
            build=identity.build,
        )
        self._running[identity.uid] = _Running(pod, ring)

    def closed(self, identity: PodIdentity) -> None:
        """The pod's collector has said its last word; soon the pod is gone. Idempotent."""
        running = self._running.get(identity.uid)
        if running is not None and running.leaving is None:
            loop = asyncio.get_running_loop()
            running.leaving = loop.call_later(self._linger, self._gone, running)

    def _gone(self, running: _Running | None) -> None:
        if running is None or self._running.get(running.pod.uid) is not running:
            return
        if running.leaving is not None:
            running.leaving.cancel()
        del self._running[running.pod.uid]
        for subscription in running.listening:
            subscription.end()

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        """See `PodFinder`."""
        return [
            pod
            for pod in (running.pod for running in self._running.values())
            if pod.namespace == namespace
            and project in {"", pod.project}
            and deployment in {"", pod.deployment}
            and build in {"", pod.build}
        ]

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        """See `Upstream`."""
        running = self._running.get(pod.uid)
        if running is None:
            raise UpstreamError(f"pod {pod.name} has ended")
        self.connections += 1
        with running.ring.subscribe(limit=WAITING_BYTES) as subscription:
            running.listening.add(subscription)
            try:
                yield self._events(running, subscription, after)
            finally:
                running.listening.discard(subscription)
                self.connections -= 1

    async def _events(
        self, running: _Running, subscription: Subscription, after: Mapping[str, int]
    ) -> AsyncIterator[UpstreamEvent]:
        # Captured before the first await: history ends where the subscription begins.
        ring = running.ring
        histories = [ring.history(container, after) for container in ring.containers]
        for history in histories:
            for writer, first, lines in history:
                yield block_of_lines(writer, first, lines)
                await asyncio.sleep(0)
        yield UpToDate()
        while True:
            try:
                _, writer, first, lines = await subscription.get()
            except RingEndedError:
                told = f"the collector of pod {running.pod.name} has ended"
                raise UpstreamError(told) from None
            for slow, count in subscription.take_dropped().items():
                yield Left(slow, count)
            fresh = tail_of(lines, first, after.get(writer, 0))
            if fresh is not None:
                yield block_of_lines(writer, *fresh)
