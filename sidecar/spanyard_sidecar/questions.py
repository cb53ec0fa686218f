"""Questions of a new epoch: how far is a file stored that an earlier collector may have read?

A source whose oldest record is younger than the spool was read by nobody else. The others wait
here for the gateway's answer, at most `patience` seconds; then they begin at their start, and
their begin line says `unverified`: better told twice than lost.
"""

import logging
from dataclasses import dataclass
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.retry import Backoff
from spanyard_sidecar.gaps import Note, Subject, begin
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import Continues, Source, SourceIndex
from spanyard_sidecar.spool import Spool

log = logging.getLogger("spanyard.sidecar")

UNVERIFIED = "unverified"
CONTINUES = "continues"


@dataclass(slots=True)
class _Held:
    source: Source
    deadline: float
    asking: bool = False
    """There is something to ask about it, and somebody to ask."""


class Questions:
    """Holds sources until it is known where they begin."""

    def __init__(
        self,
        spool: Spool,
        index: SourceIndex | None,
        project: str,
        clock: Clock,
        rng: Random,
        *,
        patience: float,
    ) -> None:
        self._spool = spool
        self._index = index
        self._project = project
        self._clock = clock
        self._backoff = Backoff(rng, first=0.5, most=15)
        self._seldom = Seldom(clock.monotonic)
        self._patience = patience
        self._held: dict[str, _Held] = {}
        self._answered: list[tuple[Source, Note]] = []

    def __len__(self) -> int:
        """Sources that wait."""
        return len(self._held)

    @property
    def asking(self) -> bool:
        """Whether an answer is waited for; as of the last `released`."""
        return any(held.asking for held in self._held.values())

    @property
    def answered(self) -> bool:
        """Whether `released` has something that no longer counts as waiting."""
        return bool(self._answered)

    def taken_back(self) -> list[Source]:
        """All that is still here, for closing."""
        sources = [held.source for held in self._held.values()]
        sources += [source for source, _ in self._answered]
        self._held.clear()
        self._answered.clear()
        return sources

    def hold(self, source: Source) -> None:
        """Keep a source that the spool has no state for."""
        now = self._clock.monotonic()
        self._held[source.writer] = _Held(source, now + self._patience)

    def released(self, *, all_of_them: bool = False) -> list[tuple[Source, Note]]:
        """Sources that may be read now, each with its begin line. Raises nothing.

        With `all_of_them` (the collector ends) nobody waits any longer.
        """
        answered, self._answered = self._answered, []
        now = self._clock.monotonic()
        for writer, held in list(self._held.items()):
            note = self._settled(held, now, give_up=all_of_them)
            if note is not None:
                del self._held[writer]
                answered.append((held.source, note))
        return answered

    def _settled(self, held: _Held, now: float, *, give_up: bool) -> Note | None:
        source = held.source
        subject = Subject(source.writer, source.signal, source.container)
        if not isinstance(source, Continues):
            return begin(subject)
        try:
            first = source.first_time_ns()
        except OSError as error:
            self._complain(source.writer, f"cannot be read yet: {error}")
            first = None
        if first is None and not give_up and not source.ended:
            held.deadline = now + self._patience  # nothing there to ask about
            return None
        if first is None or first >= self._spool.fold.born_ns:
            source.begin_anew()  # read by nobody; but who knows what came and went before it
            return begin(subject)
        if self._index is None:
            why = "no gateway is configured that could tell how far this is stored"
        elif give_up or now >= held.deadline:
            why = "nobody told in time how far this is stored"
        else:
            held.asking = True
            return None
        log.warning(
            "%s: %s; reading from the start, records may be stored twice", source.writer, why
        )
        source.begin_anew()
        return begin(subject, cause=UNVERIFIED, message=why)

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            failed = False
            for writer, held in list(self._held.items()):
                failed = not await self._ask(writer, held)
                if failed:
                    break  # the gateway is away: for all of them
            if not failed:
                self._backoff.reset()
            await self._clock.sleep(self._backoff.next() if failed else 0.5)

    async def _ask(self, writer: str, held: _Held) -> bool:
        """Whether the gateway answers, as far as that was needed."""
        source = held.source
        oldest = next(iter(self._spool.pending), None)
        if (
            self._held.get(writer) is not held  # given up while another was asked about
            or self._index is None
            or not isinstance(source, Continues)
            or (oldest is not None and oldest < self._spool.fold.unstored_before)
        ):
            return True
        try:
            subject = Subject(source.writer, source.signal, source.container)
            if source.first_time_ns() is None:
                return True
            for fingerprint in source.fingerprints():
                stored = await self._index.stored_through(self._project, fingerprint)
                if writer not in self._held:
                    return True  # given up meanwhile
                if stored is not None:
                    source.go_on_from(fingerprint, stored)
                    self._answer(writer, begin(subject, cause=CONTINUES, stored=stored))
                    return True
            source.begin_anew()
            self._answer(writer, begin(subject))
        except OSError as error:  # the file's own trouble: others may be asked about
            self._complain(writer, f"cannot be read yet: {error}")
        except SpanyardError as error:
            self._complain("gateway", f"cannot tell yet how far files are stored: {error}")
            return False
        return True

    def _answer(self, writer: str, note: Note) -> None:
        held = self._held.pop(writer)
        self._answered.append((held.source, note))

    def _complain(self, who: str, text: str) -> None:
        if self._seldom(who):
            log.warning("%s: %s", who, text)
