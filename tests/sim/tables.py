"""The database as it is: rows in parts, and the requests under way. As bad as the real one.

What an insert's answer says and what is in the table are two things: done and the answer lost,
nothing done and success said, done twice, done much later by a query that everybody took for
dead. Only one thing holds: a part is all or nothing.
"""

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, auto
from typing import Any

from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from tests.sim.process import Process


class Fate(Enum):
    """What becomes of one insert."""

    DONE = auto()
    NOT_DONE = auto()
    """An error, and nothing stored."""
    ANSWER_LOST = auto()
    """Stored, but the caller sees an error."""
    SAID_ONLY = auto()
    """Success is said, nothing is stored (a burnt deduplication token does this)."""
    TWICE = auto()
    """Stored, the answer lost on the way, and the client tried again by itself."""
    ZOMBIE = auto()
    """The caller sees an error, the rows come much later."""


@dataclass
class Weather:
    """How bad the database is at the moment. Shares are of all inserts."""

    rng: random.Random
    not_done: float = 0.0
    answer_lost: float = 0.0
    said_only: float = 0.0
    twice: float = 0.0
    zombie: float = 0.0
    zombie_seconds: float = 90.0
    survives_kill: float = 0.0
    """Share of zombies that KILL QUERY does not reach."""
    error: float = 0.0
    """Share of other statements that fail."""
    seconds: float = 0.0
    """Mean duration of a statement; an insert takes up to ten times as long."""
    away: bool = False

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.not_done = self.answer_lost = self.said_only = self.twice = 0.0
        self.zombie = self.error = 0.0
        self.away = False

    def fate(self) -> Fate:
        x = self.rng.random()
        for share, fate in (
            (self.not_done, Fate.NOT_DONE),
            (self.answer_lost, Fate.ANSWER_LOST),
            (self.said_only, Fate.SAID_ONLY),
            (self.twice, Fate.TWICE),
            (self.zombie, Fate.ZOMBIE),
        ):
            if x < share:
                return fate
            x -= share
        return Fate.DONE

    def takes(self, factor: float = 1.0) -> float:
        return self.rng.uniform(0, 2 * self.seconds * factor)


Row = dict[str, Any]


@dataclass(slots=True, eq=False)
class Part:
    """What one insert stored."""

    attempt: int
    day: date
    rows: list[Row]


@dataclass(slots=True, eq=False)
class Insert:
    """A query under way."""

    attempt: int
    land: Callable[[], None]
    process: Process | None
    alive: bool = True


@dataclass
class Tables:
    """Everything that is stored."""

    weather: Weather
    note: Callable[[str], None] = lambda text: None
    in_process: bool = False
    """The engine runs in the ingester's process and dies with it: no zombies."""
    parts: dict[str, list[Part]] = field(default_factory=dict)
    traces: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """trace_index: (project, trace id) → first start, last end."""
    quarantine: dict[str, Any] = field(default_factory=dict)
    ledger: dict[Any, Any] = field(default_factory=dict)
    bad: list[Row] = field(default_factory=list)
    """Lines that were refused and lie in quarantine, as they were sent."""
    inserts: list[Insert] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._world = copy_context()

    def rows(self, table: str) -> list[Row]:
        return [row for part in self.parts.get(table, []) for row in part.rows]

    def parts_of(self, table: str, attempt: int, day: date) -> list[Part]:
        return [p for p in self.parts.get(table, []) if p.attempt == attempt and p.day == day]

    def index_trace(self, row: Row, field: str = "traceId") -> None:
        """Take a span, or a trace by its `id`, into trace_index."""
        key = (str(row["project"]), str(row[field]))
        start, end = str(row["startTime"]), str(row.get("endTime") or "")
        there = self.traces.get(key, (start, end))
        self.traces[key] = (min(start, there[0]), max(end, there[1]))

    async def statement(self, name: str, act: Callable[[], Any]) -> Any:
        """Any statement but an insert of a batch."""
        await asyncio.sleep(self.weather.takes())
        if self.weather.away:
            raise DatabaseUnavailableError(f"{name}: connection refused")
        if self.weather.error and self.weather.rng.random() < self.weather.error:
            if self.weather.rng.random() < 0.5:
                act()
            self.note(f"database: {name} gets an error")
            raise DatabaseUnavailableError(f"{name}: connection reset")
        return act()

    async def insert(
        self, attempt: int, table: str, day: date, rows: list[Row], process: Process | None
    ) -> None:
        """Store the rows as one part, as the weather lets it."""
        weather = self.weather
        if weather.away:
            await asyncio.sleep(weather.takes())
            raise DatabaseUnavailableError("insert: connection refused")
        fate = weather.fate()
        if self.in_process and fate is Fate.ZOMBIE:
            fate = Fate.NOT_DONE
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def hang_up() -> None:
            answer.cancel()  # nobody hears it

        if process is not None:
            process.at_end(hang_up)
        lands = weather.takes(10)
        if fate is not Fate.DONE:
            self.note(f"database {fate.name.lower()}: insert {attempt} into {table}")

        def store() -> None:
            if query.alive:
                self.note(f"{len(rows)} rows of attempt {attempt} land in {table}")
                self.parts.setdefault(table, []).append(Part(attempt, day, rows))

        def finish() -> None:
            if not query.alive:
                self._answer(answer, DatabaseUnavailableError("insert: query was cancelled"))
                return
            if fate not in {Fate.NOT_DONE, Fate.SAID_ONLY}:
                store()
            if fate is Fate.TWICE:
                store()
            query.alive = False
            self.inserts.remove(query)
            lost = fate in {Fate.NOT_DONE, Fate.ANSWER_LOST}
            self._answer(answer, DatabaseUnavailableError("insert: reset") if lost else None)

        def walk() -> None:
            if query.alive:
                self.note(f"zombie of attempt {attempt} wakes")
                store()
                query.alive = False
                self.inserts.remove(query)

        query = Insert(attempt, store, process)
        self.inserts.append(query)
        if fate is Fate.ZOMBIE:
            late = weather.rng.uniform(0, weather.zombie_seconds)
            loop.call_later(lands + late, walk, context=self._world.copy())
            error = DatabaseUnavailableError("insert: timed out")
            loop.call_later(lands, self._answer, answer, error, context=self._world.copy())
        else:
            loop.call_later(lands, finish, context=self._world.copy())
        await answer

    def kill(self, attempt: int) -> None:
        """KILL QUERY … SYNC; does not always reach what it should."""
        for query in list(self.inserts):
            if query.attempt != attempt:
                continue
            if self.weather.rng.random() < self.weather.survives_kill:
                self.note(f"the insert of attempt {attempt} survives its kill")
                continue
            self._end(query)

    def process_died(self, process: Process) -> None:
        """An engine inside the process dies with it: each of its inserts is whole or nothing."""
        for query in [q for q in self.inserts if q.process is process]:
            if self.in_process:
                if self.weather.rng.random() < 0.3:
                    query.land()
                self._end(query)

    def _end(self, query: Insert) -> None:
        query.alive = False
        self.inserts.remove(query)

    @staticmethod
    def _answer(answer: "asyncio.Future[None]", error: DatabaseError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
