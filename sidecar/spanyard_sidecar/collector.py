"""The collector: all parts put together, without HTTP and without the process around it.

Time, files, storage and chance come from outside, so that the simulator runs the same object. Its
end is part of it: read until the sources are quiet, end every writer, spool all, upload until the
grace period ends, and say what could not be sent. That stays in the spool for the next start.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, Protocol

from spanyard_core.clock import Clock
from spanyard_core.files import Files
from spanyard_core.storage.protocol import Storage
from spanyard_core.tasks import run_root_tasks
from spanyard_sidecar.budget import DiskBudget
from spanyard_sidecar.committer import DrainDeadlineError
from spanyard_sidecar.gaps import Book
from spanyard_sidecar.history import SpoolHistory
from spanyard_sidecar.metrics import CollectorMetrics
from spanyard_sidecar.model import Identity, SourceIndex, Sources
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.receiver import Receiver
from spanyard_sidecar.otlp.source import OtlpSources
from spanyard_sidecar.pipeline import Pipeline, PipelineSettings
from spanyard_sidecar.ring import Ring
from spanyard_sidecar.settings import CollectorSettings
from spanyard_sidecar.spool import Spool, SpoolSettings
from spanyard_sidecar.uploader import Uploader
from spanyard_sidecar.watching import watch

log = logging.getLogger("spanyard.sidecar")

FAST_FLUSH = 0.5
"""Seconds between flushes once the pod has begun to end."""
FAST_FOR = 120.0
"""Seconds beyond the grace period after which a pod that was said to end has not ended."""
LEAST_GRACE = 1.5
"""Seconds that the kubelet leaves a sidecar at least (it grants 2), however late its turn comes."""
HOUSEKEEPING = 1.0
OTLP_SHARE = 4
"""OTLP's log takes at most this part of the spool's limit: its records need room in entries, too,
or neither could ever get out."""
LAST_MOMENTS = 2.0
"""Seconds of the grace period that are kept for the last flush and upload."""


class Hints(Protocol):
    """A hinter with a root task of its own."""

    def tell(self, keys: Sequence[str]) -> None: ...

    async def run(self) -> None: ...


class Collector:
    """Make it, then `run`. `started` is set when requests may come."""

    def __init__(
        self,
        settings: CollectorSettings,
        *,
        files: Files,
        clock: Clock,
        storage: Storage,
        rng: Random,
        sources: Callable[["Collector"], Sequence[Sources]],
        index: SourceIndex | None = None,
        hinter: Hints | None = None,
        pipeline_settings: PipelineSettings | None = None,
    ) -> None:
        self.settings = settings
        self.files = files
        self.clock = clock
        self.storage = storage
        self.rng = rng
        self.metrics = CollectorMetrics()
        self.identity = Identity(
            project=settings.project,
            uid=settings.uid,
            deployment=settings.deployment,
            build=settings.build,
            pod=settings.pod,
            pod_uid=settings.pod_uid,
        )
        self.budget = DiskBudget(settings.spool_limit)
        self.started = asyncio.Event()
        self.leftover = ""
        """After `run`: what could not be sent, in words; empty when everything was."""
        self.chores: list[Callable[[], None]] = []
        """Called every second."""
        self.background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        """More root tasks, by name: what sources need beside being read."""
        self.closing: list[Callable[[], Awaitable[None]]] = []
        """Awaited at the end."""
        self.more_troubles: list[Callable[[], str]] = []
        self.spool: Spool
        self.ring: Ring
        self.pipeline: Pipeline
        self.uploader: Uploader
        self.otlp_log: OtlpLog
        self.receiver: Receiver
        self._sources = sources
        self._index = index
        self.hinter = hinter
        self._pipeline_settings = pipeline_settings or PipelineSettings(
            flush_interval=settings.flush_interval,
            chunk_size=settings.chunk_size,
            patience=settings.index_wait,
        )
        self._deadline = 0.0
        self._ending_begun = False
        self._fast_since: float | None = None
        """Monotonic time at which the pod's end was announced last."""
        self._drained = asyncio.Event()

    async def open(self) -> None:
        """Recover the spool and the OTLP log. Raises OSError: without a disk there is no collector."""
        settings, files, clock = self.settings, self.files, self.clock
        self.spool = await Spool.open(
            files,
            settings.spool,
            clock=clock,
            rng=self.rng,
            budget=self.budget,
            settings=SpoolSettings(ring_seconds=settings.ring_keep, ring_bytes=settings.ring_disk),
        )
        book = Book(self.spool, self.identity, clock)
        self.ring = Ring(
            lines=settings.ring_lines, size=settings.ring_size, disk=SpoolHistory(self.spool)
        )
        self.otlp_log = await OtlpLog.open(
            files,
            clock,
            f"{settings.spool}/otlp",
            identity=self.identity,
            epoch=self.spool.epoch,
            budget=self.budget.share(settings.spool_limit // OTLP_SHARE, "OTLP part of the spool"),
            states=self.spool.states,
        )
        self.receiver = Receiver(self.otlp_log, clock)
        self.pipeline = Pipeline(
            [OtlpSources(self.otlp_log), *self._sources(self)],
            book,
            self.ring,
            clock=clock,
            rng=self.rng,
            metrics=self.metrics,
            index=self._index,
            settings=self._pipeline_settings,
        )
        self.otlp_log.on_durable.append(self.pipeline.wake)
        self.uploader = Uploader(
            book,
            self.storage,
            clock=clock,
            rng=self.rng,
            metrics=self.metrics,
            hinter=self.hinter,
            uploaded=self.pipeline.uploaded,
        )
        watch(self)
        self.started.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop` is set, then end in order, within the grace period.

        Raises what a root task raised; a restart goes on from the spool.
        """
        if not self.started.is_set():
            await self.open()
        tasks = {
            "reader": self._read(stop),
            "uploader": self.uploader.run(),
            "OTLP log": self.otlp_log.run(),
            "questions": self.pipeline.attaching.questions.run(),
            "housekeeping": self._keep_house(),
        }
        tasks.update({name: work() for name, work in self.background.items()})
        if self.hinter is not None:
            tasks["hints"] = self.hinter.run()
        try:
            await run_root_tasks(tasks, until=self._ending(stop))
        finally:
            self.pipeline.close()
            for close in self.closing:
                await close()

    async def _read(self, stop: asyncio.Event) -> None:
        try:
            await self.pipeline.run(stop)
            self._begin_ending()  # a busy reader sees `stop` before anybody whom it wakes
            left = self._deadline - self.clock.monotonic()
            await self.pipeline.drain(
                quiet=self.settings.quiet,
                deadline=self._deadline - min(LAST_MOMENTS, left / 4),
                closing=self.otlp_log.refuse,
            )
        except DrainDeadlineError as error:
            if not stop.is_set():
                raise
            self.leftover = f"{error}. "
        self._drained.set()
        await asyncio.Event().wait()  # a root task never returns

    def _begin_ending(self) -> None:
        if not self._ending_begun:
            self._ending_begun = True
            now = self.clock.monotonic()
            self._deadline = now + self.settings.grace
            if self._fast_since is not None and now - self._fast_since < self.settings.grace:
                # The grace period is the whole pod's and began then: the server used some of it.
                rest = self._fast_since + self.settings.grace - now
                self._deadline = now + max(rest, min(LEAST_GRACE, self.settings.grace))
            self.pipeline.committer.give_up_at(self._deadline)
            self.pipeline.wake()
            self.uploader.hurry()
            log.info("ending: reading to the end, at most %g s", self._deadline - now)

    async def _ending(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._begin_ending()
        await self._drained.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._deadline - self.clock.monotonic())):
                await self.uploader.idle()
        pending = self.spool.pending
        if pending:
            size = sum(entry.charge for entry in pending.values())
            why = f": {self.uploader.trouble}" if self.uploader.trouble else ""
            self.leftover += (
                f"{len(pending)} spool entries ({size} bytes) are not uploaded{why}. They are in "
                f"{self.settings.spool} and go out when a collector starts there again."
            )
        if self.leftover:
            log.error("%s", self.leftover)
        else:
            log.info("everything is stored")

    async def _keep_house(self) -> None:
        while True:
            await self.clock.sleep(HOUSEKEEPING)
            await self.spool.maintain()
            self._flush_as_before()
            for chore in self.chores:
                chore()

    def flush_fast(self) -> None:
        """The pod has begun to end: little time is left, so flush often."""
        self._fast_since = self.clock.monotonic()
        if self.pipeline.flush_interval > FAST_FLUSH:
            log.info("flushing every %g s from now on", FAST_FLUSH)
            self.pipeline.flush_interval = FAST_FLUSH
            self.pipeline.wake()

    def _flush_as_before(self) -> None:
        """Whoever reaches the port can say that the pod ends; when it does not, that is undone."""
        if self._fast_since is None or self._ending_begun:
            return
        if self.clock.monotonic() - self._fast_since > self.settings.grace + FAST_FOR:
            self._fast_since = None
            self.pipeline.flush_interval = self.pipeline.settings.flush_interval

    def troubles(self) -> list[str]:
        """What is wrong right now, in words. Never a reason to be unready."""
        own = (self.pipeline.committer.trouble, self.uploader.trouble)
        return [text for text in (*own, *(say() for say in self.more_troubles)) if text]
