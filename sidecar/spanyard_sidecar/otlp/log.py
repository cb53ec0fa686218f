"""The OTLP log: requests made durable in groups, one write and one fsync for all that wait.

A request is acknowledged after the fsync of its group, a few milliseconds after it came. Sources
read the lines back, the pipeline cuts chunks of them; a segment is given back when every writer
in it is durable in the spool.

    {directory}/{n:016d}.log     segments of 16 MB, format in `frames`, reading in `segments`
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spanyard_core.clock import Clock
from spanyard_core.faults import fault_point
from spanyard_core.files import Files
from spanyard_core.records import Signal
from spanyard_sidecar.budget import DiskBudget, SpoolFullError
from spanyard_sidecar.model import Identity
from spanyard_sidecar.otlp.appender import Appender
from spanyard_sidecar.otlp.frames import Head, frame_parts
from spanyard_sidecar.otlp.receipts import Receipts
from spanyard_sidecar.otlp.segments import Segment, read_segments
from spanyard_sidecar.otlp.stamp import Stamp
from spanyard_sidecar.otlp.waiting import LogCounts, LogSettings, LogUnavailableError, Waiting

log = logging.getLogger("spanyard.sidecar")


class OtlpLog:
    """Made by `open`; `run` is a root task. `submit` from any task, all else synchronous."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        directory: str,
        *,
        identity: Identity,
        epoch: str,
        budget: DiskBudget,
        settings: LogSettings | None = None,
    ) -> None:
        self.files = files
        self.clock = clock
        self.settings = settings or LogSettings()
        self.receipts = Receipts(clock)
        self.counts = LogCounts()
        self.on_durable: list[Callable[[], None]] = []
        """Called after each group: the pipeline's wake-up."""
        self._identity = identity
        self._epoch = epoch
        self._stamp = Stamp(identity)
        self._appender = Appender(files, directory, budget, self.settings.segment_bytes)
        self._next: dict[str, int] = {}
        self._writers: dict[str, Signal] = {}
        self._consumed: dict[str, int] = {}
        self._group = 0
        self._queue: deque[Waiting] = deque()
        self._queued = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._trouble = ""
        self._closed = False
        self._writing = False

    @classmethod
    async def open(
        cls,
        files: Files,
        clock: Clock,
        directory: str,
        *,
        identity: Identity,
        epoch: str,
        budget: DiskBudget,
        states: Mapping[str, Mapping[str, Any]] | None = None,
        settings: LogSettings | None = None,
    ) -> "OtlpLog":
        """Recover the log in `directory`, or begin one. `states` are the spool's. Raises OSError."""
        self = cls(
            files,
            clock,
            directory,
            identity=identity,
            epoch=epoch,
            budget=budget,
            settings=settings,
        )
        files.mkdir(directory)
        await files.sync_dir(directory.rpartition("/")[0] or "/")
        found = read_segments(files, directory)
        for path in found.empty:
            files.unlink(path)
        for receipt in found.receipts:
            self.receipts.restore(receipt)
        self._group, self._next = found.group, found.next
        for segment in found.segments:
            self._writers.update(segment.signals)
        known = (state.get("segment", 0) for state in (states or {}).values())
        await self._appender.adopt(found.segments, torn=found.torn, after=max(known, default=0))
        for writer, state in (states or {}).items():
            if "segment" in state:
                self._next[writer] = max(self._next.get(writer, 1), state["seq"] + 1)
                self.stored(writer, state["seq"])
        return self

    # -- for sources -----------------------------------------------------------------------------

    def writer_of(self, signal: Signal) -> str:
        """The writer that a new record of `signal` gets."""
        return f"{self._identity.pod_uid}/{signal}@{self._epoch}"

    @property
    def writers(self) -> Mapping[str, Signal]:
        """All writers that have, or had since the start, records in the log, with their signal."""
        return self._writers

    def segment(self, n: int) -> Segment | None:
        """Segment number `n`, or the first after it, None when there is none."""
        return next((s for m, s in self._appender.segments.items() if m >= n), None)

    def stored(self, writer: str, seq: int) -> None:
        """The writer's records up to `seq` are durable in the spool: segments may go."""
        self._consumed[writer] = max(seq, self._consumed.get(writer, 0))
        for segment in list(self._appender.segments.values())[:-1]:
            if all(self._consumed.get(w, 0) >= last for w, last in segment.last.items()):
                try:
                    self._appender.remove(segment)
                except OSError as error:  # comes again with the next chunk
                    log.warning("%s cannot be removed: %s", segment.path, error)

    # -- for requests ----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes of records that wait for the disk."""
        return self._queued

    @property
    def size(self) -> int:
        """Bytes of the log on disk."""
        return sum(segment.charge for segment in self._appender.segments.values())

    async def submit(self, waiting: Waiting) -> None:
        """Return when the records are durable. Raises LogUnavailableError: nothing was stored."""
        settings = self.settings
        if self._closed:
            raise LogUnavailableError("the collector is stopping", settings.retry_busy)
        if self._queued and self._queued + waiting.size > settings.waiting_bytes:
            self.counts.turned_away += 1
            raise LogUnavailableError(
                f"{self._queued} bytes of records wait for the disk already", settings.retry_busy
            )
        self._queue.append(waiting)
        self._queued += waiting.size
        self._arrived.set()
        self._idle.clear()
        await waiting.done

    async def run(self) -> None:
        """Commit what waits, for ever; a root task. At its end, who still waits is turned away."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while group := self._take_group():
                    self._writing = True
                    await self._commit(group)
                    self._writing = False
        finally:
            self.close()

    async def refuse(self) -> None:
        """Take nothing more; return when all that was taken before is answered.

        `run` must be running: what waits is committed by it.
        """
        self._closed = True
        while self._queue or self._writing:
            await self.clock.sleep(0.01)

    def close(self) -> None:
        """Take nothing more and give back the file. Idempotent."""
        self._closed = True
        while group := self._take_group():
            self._turn_away(group, "the collector is stopping", self.settings.retry_busy)
        self._idle.set()
        self._appender.close()

    def _take_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = 0
        while self._queue and size < self.settings.group_bytes:
            waiting = self._queue.popleft()
            self._queued -= waiting.size
            if not waiting.done.done():  # its client may have gone
                size += waiting.size
                group.append(waiting)
        return group

    async def _commit(self, group: list[Waiting]) -> None:
        try:
            await self._write(group)
        except SpoolFullError as error:
            if len(group) > 1:  # what is small may still fit
                for waiting in group:
                    await self._commit([waiting])
            else:
                self._turn_away(group, str(error), self.settings.retry_full)
        except OSError as error:
            trouble = f"the disk of the OTLP log failed: {error.strerror or error}"
            self._turn_away(group, trouble, self.settings.retry_full)
        except asyncio.CancelledError:
            self._turn_away(group, "the collector is stopping", self.settings.retry_busy)
            raise

    async def _write(self, group: Sequence[Waiting]) -> None:
        """Number and append a group; all or nothing. Raises SpoolFullError, OSError."""
        n = self._group + 1
        numbers = dict(self._next)
        parts: list[bytes] = []
        left = len(group)
        if self._appender.begins_segment:
            opening = Head(group=n, left=left, wall_ns=self.clock.time_ns(), next=self._carried())
            parts += frame_parts(opening, [self.receipts.encoded()])
        for waiting in group:
            left -= 1
            writer = self.writer_of(waiting.signal)
            first = numbers.get(writer, 1)
            numbers[writer] = first + waiting.records
            payload = self._stamp.pieces(
                waiting.runs,
                writer=writer,
                first=first,
                taken_ns=waiting.taken_ns,
                use_up=len(group) == 1,  # nobody tries this group again
            )
            head = Head(
                group=n,
                left=left,
                wall_ns=self.clock.time_ns(),
                writer=writer,
                signal=waiting.signal,
                first=first,
                records=waiting.records,
                time_ns=waiting.time_ns,
                digest=waiting.digest,
                refused=waiting.refused,
                message=waiting.message,
            )
            parts += frame_parts(head, payload)
        segment = await self._appender.write(parts)
        fault_point("otlp.durable")
        self._group, self._next = n, numbers
        segment.end += sum(map(len, parts))
        self._acknowledge(group, segment)

    def _carried(self) -> dict[str, int]:
        # Writers of earlier epochs matter as long as they have records here.
        signals: tuple[Signal, ...] = ("spans", "logs", "metrics")
        living = {*map(self.writer_of, signals)}
        for segment in self._appender.segments.values():
            living.update(segment.last)
        return {writer: n for writer, n in self._next.items() if writer in living}

    def _acknowledge(self, group: Sequence[Waiting], segment: Segment) -> None:
        counts = self.counts
        counts.groups += 1
        for waiting in group:
            writer = self.writer_of(waiting.signal)
            self._writers[writer] = segment.signals[writer] = waiting.signal
            segment.last[writer] = self._next[writer] - 1
            self.receipts.add(waiting.digest, waiting.refused, waiting.message)
            counts.requests += 1
            counts.bytes += waiting.size
            counts.records[waiting.signal] = counts.records.get(waiting.signal, 0) + waiting.records
            if not waiting.done.done():
                waiting.done.set_result(None)
        if self._trouble:
            log.info("the OTLP log takes requests again")
            self._trouble = ""
        for wake in self.on_durable:
            wake()

    def _turn_away(self, group: Sequence[Waiting], why: str, retry_after: float) -> None:
        if why != self._trouble and not self._closed:
            log.warning("OTLP requests are turned away: %s", why)
            self._trouble = why
        for waiting in group:
            self.counts.turned_away += 1
            if not waiting.done.done():
                waiting.done.set_exception(LogUnavailableError(why, retry_after))
