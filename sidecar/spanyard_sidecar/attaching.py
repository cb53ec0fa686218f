"""How a source comes in: found by a scan, opened at its state, or held until its place is known."""

import logging
from collections.abc import Sequence
from random import Random

from spanyard_core.clock import Clock
from spanyard_sidecar.gaps import Book, begin, without_meta
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.model import Forgets, Remote, Source, SourceIndex, Sources
from spanyard_sidecar.openchunk import OpenWriter
from spanyard_sidecar.questions import Questions
from spanyard_sidecar.ring import Ring

log = logging.getLogger("spanyard.sidecar")

RESUMED = "resumed"
"""Cause of a begin line after an end line: the collector was stopped, the source was not."""
FORGET_EVERY = 60.0


class Attaching:
    """Scans, asks, and hands over writers that are ready to be read."""

    def __init__(
        self,
        kinds: Sequence[Sources],
        book: Book,
        index: SourceIndex | None,
        clock: Clock,
        rng: Random,
        *,
        patience: float,
        metrics: CollectorMetrics,
        ring: Ring,
    ) -> None:
        self._kinds = kinds
        self._book = book
        self._spool = book.spool
        self._clock = clock
        self._metrics = metrics
        self._ring = ring
        self._seldom = Seldom(clock.monotonic)
        self.questions = Questions(
            book.spool, index, book.identity.project, clock, rng, patience=patience
        )
        self._ready: list[OpenWriter] = []
        self._present: set[str] = set()
        self._next_forget = clock.monotonic() + FORGET_EVERY

    def scan(self) -> None:
        """Look for new sources. Raises nothing: a kind that fails is asked again."""
        states = without_meta(self._spool.states)
        for kind in self._kinds:
            try:
                found = kind.scan(states, self._spool.epoch)
            except Exception as error:
                # One kind's trouble (a directory that is not there yet) leaves the others alone.
                self._metrics.source_errors.labels("scan").inc()
                if self._seldom(type(kind).__name__):
                    expected = isinstance(error, OSError)
                    log.warning("cannot look for sources: %s", error, exc_info=not expected)
                continue
            for source in found:
                if source.writer in self._present:
                    # Two readers of one writer would number the same records twice.
                    log.error("%s was found twice; read only once", source.writer)
                    source.close()
                    continue
                self._present.add(source.writer)
                self._attach(source)

    def ending(self) -> None:
        """Tell those who read from far."""
        for kind in self._kinds:
            if isinstance(kind, Remote):
                kind.ending()

    @property
    def unsettled(self) -> list[str]:
        """What of those has not been read to the end yet."""
        return [name for k in self._kinds if isinstance(k, Remote) for name in k.unsettled]

    def left(self, writer: str) -> None:
        """The writer is not read any more."""
        self._present.discard(writer)

    def _attach(self, source: Source) -> None:
        if source.writer not in self._spool.states:
            self.questions.hold(source)
            return
        writer = self._opened(source)
        subject = writer.subject
        if not self._book.is_known(subject.writer):
            writer.begin = begin(subject)
        elif not self._book.is_open(subject.writer):
            writer.begin = begin(subject, cause=RESUMED)
        self._ready.append(writer)

    def _tell_uploaded(self, writer: OpenWriter) -> None:
        """What an earlier process left undone: it may have died before a stored file was deleted."""
        source = writer.source
        writer.last_entry = self._spool.last_entry(source.writer)
        state = self._spool.states.get(source.writer)  # None: forgotten since it was found
        if state is not None and self._spool.is_uploaded(source.writer):
            writer.uploaded = writer.last_entry
            try:
                source.uploaded(state)
            except OSError as error:
                log.warning("%s: %s", source.writer, error)

    def _opened(self, source: Source) -> OpenWriter:
        last = self._spool.fold.last.get(source.writer, 0)
        return OpenWriter(source, self._book.identity.project, self._ring, last)

    def admitted(self, *, all_of_them: bool = False) -> list[OpenWriter]:
        """Writers that may be read from now on."""
        ready, self._ready = self._ready, []
        for writer in ready:
            self._tell_uploaded(writer)  # from here on the uploader's word reaches it
        if len(self.questions) or self.questions.answered:
            for source, note in self.questions.released(all_of_them=all_of_them):
                writer = self._opened(source)
                writer.begin = note
                ready.append(writer)
        return ready

    def forgotten(self) -> list[str]:
        """Writers whose states are of no use any more; asked once a minute."""
        now = self._clock.monotonic()
        if now < self._next_forget:
            return []
        self._next_forget = now + FORGET_EVERY
        states = {
            writer: state
            for writer, state in without_meta(self._spool.states).items()
            if self._book.is_known(writer)
            and not self._book.is_open(writer)
            and self._spool.is_uploaded(writer)
        }
        return [
            writer
            for kind in self._kinds
            if isinstance(kind, Forgets)
            for writer in kind.forgotten(states)
        ]

    def close(self) -> None:
        """Close what nobody took over."""
        for writer in self._ready:
            writer.close()
        for source in self.questions.taken_back():
            source.close()
        self._ready.clear()
