"""A pod's collector in this process, over its failures.

The object is the sidecar's, with its sources, its OTLP server and inotify; what differs is that
storage, hints and questions go to parts of the same process, and that it is started again when it
fails. A first start that fails is told to who wants the pod: without a disk there is none.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.retry import Backoff
from spanyard_core.storage import Storage
from spanyard_sidecar.collector import Collector, Hints
from spanyard_sidecar.discovery import CriSources
from spanyard_sidecar.holding import HoldSettings
from spanyard_sidecar.inotify import Inotify
from spanyard_sidecar.model import SourceIndex, Sources
from spanyard_sidecar.ring import Ring
from spanyard_sidecar.servers import Servers
from spanyard_sidecar.settings import CollectorSettings
from spanyard_sidecar.spanfiles import SpanFileSources
from spanyard_sidecar.tailer import TailSettings

log = logging.getLogger("spanyard.local")

GRACE_S = 60.0
"""For reading to the end and storing it. No kubelet counts here: a build may have printed a
million lines in its last second (4 s of reading); what takes longer goes on at the next start."""
KEPT_FILES = 49
"""Of `ShimSpec.max_log_files`, less one that is just being made."""


class PodCollector:
    """See the module. Run `keep_running` as a task; set `stop` to have it drain."""

    def __init__(
        self,
        settings: CollectorSettings,
        *,
        storage: Storage,
        hinter: Callable[[], Hints] | None,
        index: SourceIndex | None,
        clock: Clock,
        rng: random.Random,
        opened: Callable[[Ring], None],
    ) -> None:
        self.stop = asyncio.Event()
        self.drained = False
        self._settings = settings
        self._storage = storage
        self._hinter = hinter
        self._index = index
        self._clock = clock
        self._rng = rng
        self._opened = opened
        self._collector: Collector | None = None
        self._trouble = ""
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ready(self) -> str:
        """Wait for the first collector; gives the address that takes OTLP.

        Raises what kept it from starting.
        """
        # Who waits may be cancelled; the collector that starts goes on to tell its address.
        return await asyncio.shield(self._ready)

    def troubles(self) -> list[str]:
        """What is wrong right now."""
        told = self._collector.troubles() if self._collector is not None else []
        return [*told, self._trouble] if self._trouble else told

    async def keep_running(self) -> None:
        """Collect until `stop`, then drain; start again what fails, but never a first start."""
        backoff = Backoff(self._rng, first=0.2, most=15.0)
        give_up: float | None = None
        while True:
            try:
                leftover = await self._once()
            except Exception as error:
                told = isinstance(error, (SpanyardError, OSError))
                log.error("a collector failed: %s", error, exc_info=not told)
                self._trouble = f"a collector failed: {error}"
                if not self._ready.done():
                    if not self.stop.is_set():
                        self._ready.set_exception(
                            error
                            if isinstance(error, SpanyardError)
                            else SpanyardError(f"a collector cannot start: {error}")
                        )
                    return
            else:
                self.drained = not leftover
                return
            finally:
                self._collector = None
            now = self._clock.monotonic()
            if self.stop.is_set():
                give_up = now + GRACE_S if give_up is None else give_up
                if now >= give_up:
                    return
            await self._clock.sleep(backoff.next())

    async def _once(self) -> str:
        collector = Collector(
            self._settings,
            files=SystemFiles(),
            clock=self._clock,
            storage=self._storage,
            rng=self._rng,
            sources=_sources,
            index=self._index,
            hinter=self._hinter() if self._hinter is not None else None,
        )
        await collector.open()
        self._collector = collector
        self._opened(collector.ring)
        first = not self._ready.done()
        async with Servers(collector, insist=first).running() as servers:
            if first:
                address = servers.addresses["otlp"]
                # Processes know this address: a collector that follows takes the same.
                self._settings = replace(self._settings, otlp_port=address.port)
                self._ready.set_result(address.url)
            self._trouble = ""
            inotify = Inotify(
                [self._settings.logs, self._settings.spans_dir], collector.pipeline.changed
            )
            inotify.open()
            collector.pipeline.on_idle = inotify.arm
            collector.chores.append(inotify.look)
            try:
                await collector.run(self.stop)
            finally:
                inotify.close()
        return collector.leftover


def _sources(collector: Collector) -> Sequence[Sources]:
    """Those of a cluster, knowing how many files our own shims keep.

    Else each build that prints 10 MB before it is first looked at had a gap of unknown size: files
    before those that are there may have come and gone, as far as anybody can tell of a kubelet.
    """
    settings = collector.settings
    return [
        CriSources(
            collector.files,
            collector.clock,
            collector.identity,
            settings.logs,
            settings=TailSettings(hold=HoldSettings(kept=KEPT_FILES)),
        ),
        SpanFileSources(
            collector.files,
            collector.clock,
            collector.identity,
            settings.spans_dir,
            limit=settings.spans_limit,
        ),
    ]
