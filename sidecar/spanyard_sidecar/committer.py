"""The way into the spool: commits until it works, so that the caller stands still meanwhile.

That is the back-pressure: whoever waits here reads nothing. A full spool, a full disk and a failing
disk are told once a minute, counted, and left alone with growing pauses.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.retry import Backoff
from spanyard_sidecar.budget import SpoolFullError
from spanyard_sidecar.gaps import Book, Note, Subject, gap
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.model import Gap, NewObject, State

log = logging.getLogger("spanyard.sidecar")

LOOK_EVERY = 1.0
CALM = 5.0
"""Seconds without trouble after which it is said to be over."""
FULL_NOTE_EVERY = 600.0
"""Seconds between two gap lines that say that the spool is full."""


class DrainDeadlineError(SpanyardError):
    """The collector had to end before everything was in the spool."""


class Committer:
    """Commits through the book, however long that takes."""

    def __init__(self, book: Book, clock: Clock, rng: Random, metrics: CollectorMetrics) -> None:
        self._book = book
        self._spool = book.spool
        self._clock = clock
        self._metrics = metrics
        self._backoff = Backoff(rng, first=0.05, most=5.0)
        self._seldom = Seldom(clock.monotonic)
        self._full_note = Seldom(clock.monotonic, FULL_NOTE_EVERY)
        self._deadline: float | None = None
        self._stuck_since: float | None = None
        self._stuck_last = 0.0
        self.trouble = ""
        """What stands in the way right now, in words; empty when nothing does."""
        self.touched: Sequence[Subject] = ()
        """Writers that a full spool holds up; for the gap lines that say so."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called about every second while there is no room: sources must not lose hold of files
        that are rotated away, though nothing is read."""

    def give_up_at(self, deadline: float) -> None:
        """From the monotonic time `deadline` on, do not wait for room any longer."""
        self._deadline = deadline

    async def put(
        self,
        objects: Sequence[NewObject],
        states: Mapping[str, State | None],
        notes: Sequence[Note],
    ) -> int:
        """Commit; gives the entry's number. Raises DrainDeadlineError."""
        while True:
            self._spool.room.clear()  # what is freed from here on counts for the next attempt
            try:
                n = await self._book.commit(objects, states, notes)
            except SpoolFullError as error:
                self._stuck(f"reading stands still: {error}")
                await self._note_full(error)
            except OSError as error:
                self._stuck(f"the spool cannot be written: {error}")
            else:
                self._metrics.commits.inc()
                self._unstuck()
                return n
            await self._wait_for_room()

    async def _note_full(self, error: SpoolFullError) -> None:
        if not self._full_note("full"):
            return
        lost = Gap("spool-full", f"nothing is lost yet; {error}", lines=0, bytes=0)
        notes = [
            gap(subject, lost, after_seq=self._spool.fold.last.get(subject.writer, 0))
            for subject in self.touched
            if self._book.is_open(subject.writer)
        ]
        if notes:
            # Without room even for this, the metric and the log have to do.
            with contextlib.suppress(SpoolFullError, OSError):
                await self._book.commit([], {}, notes, last_resort=True)
                self._metrics.gaps.labels("spool-full").inc(len(notes))

    def _stuck(self, text: str) -> None:
        self.trouble = text
        self._stuck_last = self._clock.monotonic()
        if self._stuck_since is None:
            self._stuck_since = self._stuck_last
        if self._seldom(("put", self._stuck_since)):
            log.error("%s", text)

    def _unstuck(self) -> None:
        self.trouble = ""
        self._backoff.reset()
        # A disk that takes a little now and then is still full: the log's last word must be right.
        if self._stuck_since is not None and self._clock.monotonic() - self._stuck_last >= CALM:
            seconds = self._stuck_last - self._stuck_since
            log.info("the spool takes entries again; it stood still for %.1f s", seconds)
            self._stuck_since = None

    async def _wait_for_room(self) -> None:
        before = self._clock.monotonic()
        if self._deadline is not None and before >= self._deadline - 0.001:
            raise DrainDeadlineError(f"not everything could be spooled: {self.trouble}")
        end = before + self._backoff.next()
        if self._deadline is not None:
            end = min(end, self._deadline)
        now = before
        while now < end - 0.001 and not self._spool.room.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(end - now, LOOK_EVERY)):
                    await self._spool.room.wait()
            self.meanwhile()
            now = self._clock.monotonic()
        self._metrics.spool_full_seconds.inc(self._clock.monotonic() - before)
