"""What the uploader has to set right: a name that is taken, an entry that is damaged.

Each of these is a decision by circumstance, so it is durable in the spool before it shows.
"""

import logging
from collections.abc import Sequence
from random import Random

from spanyard_core.clock import Clock
from spanyard_sidecar.budget import SpoolFullError
from spanyard_sidecar.entries import DamagedEntryError, Rename, SpooledObject
from spanyard_sidecar.gaps import META, Book, Note, Subject, begin, ended, gap
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.model import End, Gap, Stored
from spanyard_sidecar.recovery import new_epoch
from spanyard_sidecar.rekey import CONFLICT, base_of, last_end, renamed
from spanyard_sidecar.spool import OpenEntry

log = logging.getLogger("spanyard.sidecar")

DAMAGED = "spool-damaged"
RETRY = 1.0
"""Seconds between attempts to spool a line of these; they are few, and nothing else waits."""


class Amends:
    """Writes gap lines and new epochs on the uploader's behalf."""

    def __init__(self, book: Book, clock: Clock, rng: Random, metrics: CollectorMetrics) -> None:
        self._book = book
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._seldom = Seldom(clock.monotonic)

    async def new_name(
        self, entry: OpenEntry, item: SpooledObject, writer: str, first: int, key: str
    ) -> int:
        """`key` holds other bytes: `writer` is stored in a new epoch from `first` on.

        Gives the number of the entry that says so; its begin line should be stored next.
        """
        self._metrics.conflicts.inc()
        to = renamed(writer, new_epoch(self._rng))
        log.error(
            "object %s holds other bytes than ours: %s goes on as %s; was its volume copied?",
            key,
            writer,
            to,
        )
        notes: list[Note] = []
        if not writer.endswith(META):
            subject = Subject(to, item.facts.signal, item.container)
            told = Stored(writer, first - 1, 0)
            notes.append(begin(subject, cause=CONFLICT, message=f"{key} was taken", stored=told))
            notes += self._end_in(entry, writer, first, subject)
        return await self._commit(notes, {writer: Rename(to, first, entry.head.n)})

    def _end_in(self, entry: OpenEntry, writer: str, first: int, to: Subject) -> list[Note]:
        # Lines about the writer in later entries follow the rename; one in this entry is stored.
        for item in entry.head.objects:
            if item.facts.writer == writer + META:
                end = last_end(entry.read(item), writer)
                if end is not None:
                    return [ended(to, End(max(0, end[0] - first + 1), end[1]))]
        return []

    async def lost_object(self, item: SpooledObject, error: DamagedEntryError) -> None:
        """An object's bytes in the spool are not what was written."""
        log.error("%s; its records are lost", error)
        facts = item.facts
        about = Subject(base_of(facts.writer), facts.signal, item.container)
        lost = Gap(DAMAGED, str(error), lines=facts.records)
        await self._tell(gap(about, lost, after_seq=facts.first - 1))

    async def lost_entry(self, error: DamagedEntryError) -> None:
        """An entry cannot even say whose records it held."""
        log.error("%s; what it held is lost", error)
        about = Subject(own_subject(self._book), "logs")
        await self._tell(gap(about, Gap(DAMAGED, str(error)), after_seq=0))

    async def _tell(self, note: Note) -> None:
        self._metrics.gaps.labels(DAMAGED).inc()
        await self._commit([note], {})

    async def _commit(self, notes: Sequence[Note], renames: dict[str, Rename]) -> int:
        while True:
            try:
                return await self._book.commit([], {}, notes, renames=renames, last_resort=True)
            except (SpoolFullError, OSError) as error:
                if self._seldom("commit"):
                    log.error("a line about the spool cannot be spooled: %s", error)
                await self._clock.sleep(RETRY)


def own_subject(book: Book) -> str:
    """The writer id under which the collector speaks of itself."""
    return f"{book.identity.pod_uid}/collector@{book.spool.epoch}"
