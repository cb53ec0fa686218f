"""The reading loop: sources give blocks, blocks fill chunks, chunks go to the spool in entries.

One loop reads all sources in turn, so nothing in memory grows faster than the spool takes it:
while the spool is full nobody is read, and the file on the node is the buffer. A block is shown
live as soon as it is transformed, because its ids are settled by the bytes alone; one that a
decision by time or circumstance made (`cut`) only after it is durable.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.faults import fault_point
from spanyard_core.records import SIGNALS
from spanyard_sidecar.amends import DAMAGED, own_subject
from spanyard_sidecar.attaching import Attaching
from spanyard_sidecar.committer import Committer, DrainDeadlineError
from spanyard_sidecar.entries import EntryHead
from spanyard_sidecar.gaps import META, Book, Note, Subject, ended, gap
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.model import Block, Gap, NewObject, SourceIndex, Sources, State
from spanyard_sidecar.openchunk import OpenWriter
from spanyard_sidecar.ring import Ring

log = logging.getLogger("spanyard.sidecar")

BUSY_FOR = 1.0
"""Seconds after the last record during which sources are polled quickly."""
STATE_INTERVAL = 30.0
"""Seconds after which a state that moved without any record (half a line) is made durable."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How the loop reads and cuts; seconds and bytes."""

    flush_interval: float = 5.0
    chunk_size: int = 10_000_000
    read_size: int = 64 * 1024
    poll_idle: float = 0.25
    poll_busy: float = 0.01
    scan_interval: float = 1.0
    compressors: int = 16
    """A compressor costs up to 500 KB; beyond so many, the oldest one's frame is ended. Its chunk
    goes on, or with many writers every block, and in the end every line, became an object."""
    held_bytes: int = 6 << 20
    """Objects and open chunks in memory; beyond, all is committed before the flush interval ends."""
    patience: float = 600.0


class Pipeline:
    """Owns the sources. `run` reads until it is told to stop, `drain` reads to the end."""

    def __init__(
        self,
        kinds: Sequence[Sources],
        book: Book,
        ring: Ring,
        *,
        clock: Clock,
        rng: Random,
        metrics: CollectorMetrics,
        index: SourceIndex | None = None,
        settings: PipelineSettings | None = None,
    ) -> None:
        self.settings = settings or PipelineSettings()
        self.flush_interval = self.settings.flush_interval
        """May be lowered while running: a pod that ends has little time."""
        self._book = book
        self._spool = book.spool
        self._ring = ring
        self._clock = clock
        self._metrics = metrics
        self._counters = {
            signal: (metrics.records.labels(signal), metrics.record_bytes.labels(signal))
            for signal in SIGNALS
        }
        self._seldom = Seldom(clock.monotonic)
        self.committer = Committer(book, clock, rng, metrics)
        self.attaching = Attaching(
            kinds,
            book,
            index,
            clock,
            rng,
            patience=self.settings.patience,
            metrics=metrics,
            ring=ring,
        )
        self.committer.meanwhile = self.attaching.scan
        self.writers: dict[str, OpenWriter] = {}
        self._open: dict[str, OpenWriter] = {}
        """Writers with a compressor, the oldest first."""
        self._held_bytes = 0
        self._waiting_since: float | None = None
        """Monotonic time of the first block that is not durable."""
        self._changed_since: float | None = None
        self._next_scan = 0.0
        self._last_busy = 0.0
        self._wake = asyncio.Event()
        self.on_idle: Callable[[], None] = lambda: None
        """Called before the loop sleeps with nothing to do: somebody may see to its waking."""

    def wake(self) -> None:
        """There is something to read: do not wait for the next poll."""
        self._wake.set()

    def changed(self) -> None:
        """Something changed in the folders: also look for new sources."""
        self._next_scan = 0.0
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Read until `stopping`; whoever sets it also calls `wake`."""
        await self.report_holes()
        while not stopping.is_set():
            if not await self.step():
                await self._idle()

    async def report_holes(self) -> None:
        """Tell what recovery found missing in the spool. Once, before the first `step`."""
        holes, self._spool.holes = self._spool.holes, []
        notes = []
        for hole in holes:
            subject = hole.subject.removesuffix(META) or own_subject(self._book)
            about = Subject(subject, hole.signal if hole.subject else "logs")
            lost = Gap(DAMAGED, hole.message, lines=hole.lines, bytes=hole.bytes)
            notes.append(self._gap(about, lost, hole.after_seq))
        if notes:
            await self.committer.put([], {}, notes)

    async def step(self) -> bool:
        """One round over all sources; whether any of them gave something."""
        now = self._clock.monotonic()
        if now >= self._next_scan:
            self._next_scan = now + self.settings.scan_interval
            self.attaching.scan()
        self._admit()
        busy = False
        for writer in list(self.writers.values()):
            if writer.ended or writer.suspended or now < writer.next_read:
                continue
            block = self._read(writer, now)
            writer.behind = block is not None or now < writer.next_read
            if block is not None:
                busy = True
                await self._accept(writer, block)
                await self._clock.sleep(0)  # uploads, /live and OTLP have their turn
            elif not (writer.behind or writer.suspended) and writer.source.ended:
                self._end(writer)
        await self._flush_due()
        if busy:
            self._last_busy = self._clock.monotonic()
        return busy

    def _admit(self, *, all_of_them: bool = False) -> bool:
        admitted = self.attaching.admitted(all_of_them=all_of_them)
        for writer in admitted:
            self.writers[writer.subject.writer] = writer
        return bool(admitted)

    async def _idle(self) -> None:
        now = self._clock.monotonic()
        busy = now - self._last_busy < BUSY_FOR
        delay = self.settings.poll_busy if busy else self.settings.poll_idle
        if not busy:
            self.on_idle()
        if self._waiting_since is not None:
            delay = min(delay, max(0.0, self._waiting_since + self.flush_interval - now))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()
        self._wake.clear()

    def _read(self, writer: OpenWriter, now: float) -> Block | None:
        try:
            block = writer.source.read(self.settings.read_size)
            if block is not None:
                self._keep(writer, block, now)
        except OSError as error:
            self._metrics.source_errors.labels("read").inc()
            writer.next_read = now + 1.0
            if self._seldom(writer.subject.writer):
                log.warning("%s cannot be read, trying again: %s", writer.subject.writer, error)
            return None
        except Exception as error:
            self._suspend(writer, error)
            return None
        return block

    def _suspend(self, writer: OpenWriter, error: Exception) -> None:
        # A bug, and the source's state is in doubt: what is durable is right, so what is not is
        # forgotten, and the next start reads it again. All other sources go on.
        self._metrics.source_errors.labels("failure").inc()
        log.error(
            "%s failed; not read again until a restart", writer.subject.writer, exc_info=error
        )
        self._open.pop(writer.subject.writer, None)
        self._held_bytes -= writer.held_bytes
        writer.drop()
        writer.suspended = True

    def _keep(self, writer: OpenWriter, block: Block, now: float) -> None:
        if block.records or block.gaps:
            writer.announce()
        for lost in block.gaps:
            writer.notes.append(self._gap(writer.subject, lost, writer.last_seq))
        before = writer.held_bytes
        writer.add(block, now)
        self._held_bytes += writer.held_bytes - before
        if writer.compresses:
            self._open.setdefault(writer.subject.writer, writer)
            if len(self._open) > self.settings.compressors:
                self._rest(next(iter(self._open.values())))
        else:
            self._open.pop(writer.subject.writer, None)
        if block.records or block.gaps:
            self._waiting_since = now if self._waiting_since is None else self._waiting_since
        elif self._changed_since is None:
            self._changed_since = now
        records, size = self._counters[writer.subject.signal]
        records.inc(block.records)
        size.inc(len(block.lines))

    def _rest(self, writer: OpenWriter) -> None:
        self._open.pop(writer.subject.writer)
        before = writer.held_bytes
        writer.rest()
        self._held_bytes += writer.held_bytes - before

    def _gap(self, subject: Subject, lost: Gap, after_seq: int) -> Note:
        self._metrics.gaps.labels(lost.cause).inc()
        self._metrics.lost_lines.labels(lost.cause).inc(lost.lines or 0)
        log.warning(
            "gap of %s: %s", subject.writer, lost.message, extra={"fields": {"cause": lost.cause}}
        )
        return gap(subject, lost, after_seq=after_seq)

    async def _accept(self, writer: OpenWriter, block: Block) -> None:
        if block.cut or block.gaps:
            if writer.source.ended and not writer.ended:
                # In the entry that makes the source's end durable: a restart that finds it ended,
                # and its file deleted, would never come to say so.
                self._end(writer)
            await self._commit([writer])
            self._publish(writer, block)
            return
        self._publish(writer, block)
        if writer.decoded >= self.settings.chunk_size:
            await self._commit([writer])

    def _publish(self, writer: OpenWriter, block: Block) -> None:
        if block.records:
            subject = writer.subject
            self._ring.publish(
                subject.container, subject.writer, block.first, block.lines, block.records
            )

    def _end(self, writer: OpenWriter) -> None:
        """The source is complete: say so in the next entry, unless that was said before."""
        name = writer.subject.writer
        writer.ended, writer.behind = True, False
        end = writer.source.end()
        if end.last_seq and not self._book.is_known(name):
            writer.announce()
        if writer.begin is None:
            writer.notes.append(ended(writer.subject, end))
        writer.changed = writer.changed or writer.source.state() != self._spool.states.get(name)
        if writer.is_over:
            self._retire(writer)
        elif writer.waiting and self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()

    async def _flush_due(self) -> None:
        now = self._clock.monotonic()
        waiting, changed = self._waiting_since, self._changed_since
        if (
            self._held_bytes > self.settings.held_bytes
            or (waiting is not None and now - waiting >= self.flush_interval)
            or (changed is not None and now - changed >= STATE_INTERVAL)
        ):
            await self.flush()

    async def flush(self) -> None:
        """Commit everything that was read, in one entry."""
        self._waiting_since = self._changed_since = None
        await self._commit(list(self.writers.values()))

    async def _commit(self, writers: Iterable[OpenWriter]) -> None:
        objects: list[NewObject] = []
        states: dict[str, State | None] = {}
        notes: list[Note] = []
        taken: list[tuple[OpenWriter, State]] = []
        for writer in writers:
            if not writer.waiting or writer.suspended:
                continue
            self._held_bytes -= writer.held_bytes
            self._open.pop(writer.subject.writer, None)
            some, about, state = writer.take()
            objects += some
            notes += about
            states[writer.subject.writer] = state
            taken.append((writer, state))
        for forgotten in self.attaching.forgotten():
            if forgotten not in self.writers:
                states[forgotten] = states[forgotten + META] = None
        if not states and not notes:
            return
        self.committer.touched = [writer.subject for writer in self.writers.values()]
        n = await self.committer.put(objects, states, notes)
        for writer, state in taken:
            writer.committed(n)
            writer.source.stored(state)

    async def drain(
        self,
        *,
        quiet: float,
        deadline: float,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Read until nothing came for `quiet` seconds, end every writer, commit all.

        `closing` is awaited in between: after it, nothing new comes from OTLP. `deadline` is
        monotonic; who is not read to the end by then gets no end line: an open tail, because
        nobody knows how much there is. Raises DrainDeadlineError then, and when the spool did
        not take everything.
        """
        self.attaching.ending()
        await self._read_until_quiet(quiet, deadline)
        if closing is not None:
            await closing()
            await self._read_until_quiet(0.0, deadline)
        unsettled = set(self.attaching.unsettled)
        for writer in list(self.writers.values()):
            writer.behind = writer.behind or writer.subject.writer in unsettled
            if not (writer.suspended or writer.behind):
                await self._finish(writer)
        left = (w for w in self.writers.values() if w.behind or w.suspended)
        behind = {*unsettled, *(writer.subject.writer for writer in left)}
        await self.flush()
        fault_point("collector.drained")
        if behind:
            raise DrainDeadlineError(f"not read to the end: {', '.join(sorted(behind))}")

    async def _read_until_quiet(self, quiet: float, deadline: float) -> None:
        last = self._clock.monotonic()
        questions_until = last + (deadline - last) / 2
        while True:
            self._next_scan = 0.0
            busy = await self.step()
            now = self._clock.monotonic()
            asking = self.attaching.questions.asking and now < questions_until
            if not asking:
                busy = self._admit(all_of_them=True) or busy
            if now >= deadline:
                return
            waiting = bool(self.attaching.unsettled)
            if busy or asking or waiting:
                last = now
            elif now - last >= quiet:
                return
            if not busy:
                pause = self.settings.poll_busy
                await self._clock.sleep(pause if asking or waiting else min(pause, quiet))

    async def _finish(self, writer: OpenWriter) -> None:
        while not writer.ended and (block := self._last_block(writer)) is not None:
            await self._accept(writer, block)
        if not (writer.ended or writer.suspended or writer.behind):
            self._end(writer)

    def _last_block(self, writer: OpenWriter) -> Block | None:
        try:
            block = writer.source.finish()
            if block is not None:
                self._keep(writer, block, self._clock.monotonic())
        except OSError as error:
            log.warning("%s: its last bytes cannot be read: %s", writer.subject.writer, error)
            writer.behind = True
            return None
        except Exception as error:
            self._suspend(writer, error)
            return None
        return block

    def uploaded(self, head: EntryHead) -> None:
        """Entry `head` is in storage with all that came before it of its writers."""
        for name, state in head.states.items():
            writer = self.writers.get(name)
            if writer is None or state is None or head.n <= writer.uploaded:
                continue
            writer.uploaded = head.n
            self._tell_uploaded(writer, state)
            if writer.is_over:
                self._retire(writer)

    def _tell_uploaded(self, writer: OpenWriter, state: State) -> None:
        try:
            writer.source.uploaded(state)
        except OSError as error:
            log.warning("%s: %s", writer.subject.writer, error)

    def _retire(self, writer: OpenWriter) -> None:
        del self.writers[writer.subject.writer]
        self.attaching.left(writer.subject.writer)
        writer.close()

    def close(self) -> None:
        """Close all sources. Nothing may be read afterwards."""
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()
        self.attaching.close()
