"""Attempts: one planned insert, from the statement to the commit, whatever goes wrong on the way.

An answer proves nothing, neither a good nor a bad one: what counts is what is read back by the
attempt's id. All rows there: derive, commit. None: abandon, so that a late zombie's rows can be
told from the next attempt's. Anything else: abandon and delete exactly those. The ledger's order
makes an attempt either committed or given up, never both; rows are deleted only after the latter.
"""

import asyncio
import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from random import Random
from typing import TypeVar

from spanyard_core.clock import Clock
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError, SpanyardError
from spanyard_core.faults import fault_point
from spanyard_core.retry import Backoff
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import Abandon, Commit, Note, Operation, Plan, Range
from spanyard_ingester.verify import Stored, compare, expected_of
from spanyard_ingester.warehouse import Warehouse

log = logging.getLogger("spanyard.ingester")

T = TypeVar("T")

_INSERTING_FIRST, _INSERTING_EVERY = 0.002, 0.02
"""Seconds to the first pass of the fault point `ingest.inserting`, and between further ones."""


class AttemptLostError(SpanyardError):
    """Another ingester took the attempt over and gave it up."""


class Ending(enum.Enum):
    """How an attempt ended."""

    COMMITTED = "committed"
    ABANDONED = "abandoned"
    """Nothing of it is stored; its objects may be planned again."""
    REFUSED = "refused"
    """The data is not what it should be. The attempt is still open: close it."""


@dataclass(slots=True)
class Result:
    """How it ended, and why."""

    ending: Ending
    reason: str = ""
    """In full, for logs and quarantine."""
    brief: str = ""
    """Without any of the data, for the ledger."""


@dataclass(slots=True)
class Availability:
    """Whether ClickHouse answers, for readiness and metrics."""

    problem: str = ""
    """Why it does not answer."""
    refusal: str = ""
    """Why it answers and takes nothing."""
    since: float = 0.0
    failures: int = 0
    """In a row."""
    last_success: float = 0.0


@dataclass(slots=True)
class Attempts:
    """Runs attempts on a warehouse. Waits for it as long as it is away, and says so."""

    warehouse: Warehouse
    ledger: Ledger
    clock: Clock
    rng: Random
    availability: Availability = field(default_factory=Availability)
    pulse_every: float = 10.0
    """Seconds between two signs of life while an insert goes on: others take over what is silent."""
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """One insert at a time; reading back and committing overlap with the next one."""

    async def run(
        self, plan: Plan, files: Sequence[Path], exclude: dict[str, list[Range]]
    ) -> Result:
        """Insert a plan that stands in the ledger, and see it through."""
        day = date.fromisoformat(plan.day)
        try:
            async with self.gate, self.pulse():
                await self._insert(plan, day, files, exclude)
        except DatabaseUnavailableError as error:
            return await self.resolve(plan, f"ClickHouse did not take it: {error}")
        except OSError as error:
            # A file was moved by another ingester, or the disk is full.
            return await self.resolve(plan, f"its files could not be read: {error}")
        except DatabaseError as error:
            stored, difference = await self.stored(plan)
            if stored is not Stored.ALL:
                return Result(
                    Ending.REFUSED, str(error), f"ClickHouse refused it with code {error.code}"
                )
            log.warning("ClickHouse refused attempt %d, but stored it: %s", plan.attempt, error)
        else:
            fault_point("ingest.inserted")
            stored, difference = await self.stored(plan)
        if stored is Stored.ALL:
            return await self.finish(plan)
        if stored is Stored.NONE:
            return await self.give_up(plan, "the insert was answered, but nothing is stored")
        reason = f"what was stored is not what was declared: {difference}"
        return Result(Ending.REFUSED, reason, reason)

    async def _insert(
        self, plan: Plan, day: date, files: Sequence[Path], exclude: dict[str, list[Range]]
    ) -> None:
        insert = asyncio.ensure_future(
            self.warehouse.insert(plan.attempt, plan.table, day, files, exclude=exclude)
        )
        try:
            # Under way on a thread of its own; a kill may come at any moment of it.
            await asyncio.wait({insert}, timeout=_INSERTING_FIRST)
            while not insert.done():
                fault_point("ingest.inserting")
                await asyncio.wait({insert}, timeout=_INSERTING_EVERY)
        finally:
            if not insert.done():
                insert.cancel()
                await asyncio.gather(insert, return_exceptions=True)
        await insert

    @contextlib.asynccontextmanager
    async def pulse(self) -> AsyncIterator[None]:
        """While the block runs, tell other ingesters now and then that this one is at work.

        Not while ClickHouse is waited for: another ingester may reach it.
        """
        over = asyncio.Event()
        telling = asyncio.ensure_future(self._tell(over))
        try:
            yield
        finally:
            over.set()
            telling.cancel()
            (error,) = await asyncio.gather(telling, return_exceptions=True)
            if isinstance(error, Exception):
                raise error

    async def _tell(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with asyncio.timeout(self.pulse_every):
                    await over.wait()
            except TimeoutError:
                await self.ledger.append(lambda _: [Note(text="at work")], subject="pulse")

    async def resolve(self, plan: Plan, reason: str) -> Result:
        """End an attempt whose outcome nobody knows: ours, or one that was left behind."""
        await self.when_available(lambda: self.warehouse.kill(plan.attempt), reason)
        stored, difference = await self.stored(plan)
        if stored is Stored.ALL:
            return await self.finish(plan)
        if stored is Stored.ODD:
            reason = f"{reason}; {difference}"
        return await self.give_up(plan, reason)

    async def stored(self, plan: Plan) -> tuple[Stored, str]:
        """Read back what is stored of an attempt."""
        day = date.fromisoformat(plan.day)
        expected = expected_of(plan)

        async def read() -> tuple[Stored, str]:
            found = await self.warehouse.read_back(plan.attempt, plan.table, day)
            if not found:
                return compare(expected, {}, found)
            hashes = await self.warehouse.hash_sums({w: e.ranges for w, e in expected.items()})
            return compare(expected, hashes, found)

        return await self.when_available(read, "reading back")

    async def finish(self, plan: Plan) -> Result:
        """Derive and commit an attempt that is stored whole."""
        day = date.fromisoformat(plan.day)
        await self.when_available(
            lambda: self.warehouse.derive(plan.attempt, plan.table, day), "filling derived tables"
        )
        fault_point("ingest.derived")
        try:
            await self.ledger.append(
                lambda state: _commit(state, plan.attempt), subject=f"attempt {plan.attempt}"
            )
        except AttemptLostError as error:
            await self.clean(plan)
            return Result(Ending.ABANDONED, str(error))
        self.availability.last_success = self.clock.monotonic()
        self.availability.failures = 0
        return Result(Ending.COMMITTED)

    async def give_up(self, plan: Plan, reason: str) -> Result:
        """Abandon an attempt and delete what is stored of it."""
        self.availability.failures += 1
        await self.ledger.append(
            lambda state: _abandon(state, plan.attempt, reason), subject=f"attempt {plan.attempt}"
        )
        if plan.attempt not in self.ledger.state.dead:
            await self._check_foreign_commit(plan)
            return Result(Ending.COMMITTED, "another ingester committed it")
        log.warning("attempt %d on %s is given up: %s", plan.attempt, plan.table, reason)
        await self.clean(plan)
        return Result(Ending.ABANDONED, reason)

    async def lost(self, plan: Plan) -> None:
        """Another ingester has ended an attempt of ours, which we found odd."""
        if plan.attempt in self.ledger.state.dead:
            await self.clean(plan)
        else:
            await self._check_foreign_commit(plan)

    async def _check_foreign_commit(self, plan: Plan) -> None:
        # The other one saw all of it, so these rows are what is stored of their records: whatever
        # we see now, they are never deleted.
        stored, difference = await self.stored(plan)
        if stored is not Stored.ALL:
            log.error(
                "attempt %d on %s was committed by another ingester, and does not hold what it "
                "should: %s; load its objects again with a rebuild",
                plan.attempt,
                plan.table,
                difference,
            )

    async def clean(self, plan: Plan) -> None:
        """Delete the rows of an attempt that was given up, if there are any."""
        day = date.fromisoformat(plan.day)
        await self.when_available(
            lambda: self.warehouse.delete_attempt(plan.attempt, plan.table, day),
            "deleting the rows of an attempt that was given up",
        )

    async def when_available(self, action: Callable[[], Awaitable[T]], doing: str) -> T:
        """Repeat until ClickHouse does it: there is nothing else that could be done instead."""
        backoff = Backoff(self.rng)
        while True:
            try:
                result = await action()
            except DatabaseError as error:
                if not self.availability.problem:
                    self.availability.since = self.clock.monotonic()
                    log.warning("waiting for ClickHouse (%s): %s", doing, error)
                self.availability.problem = f"{doing}: {error}"
                await self.clock.sleep(backoff.next())
            else:
                if self.availability.problem:
                    log.info("ClickHouse answers again")
                    self.availability.problem = ""
                return result


def _commit(state: LedgerState, attempt: int) -> list[Operation]:
    if attempt in state.open:
        return [Commit(attempt=attempt)]
    if attempt in state.dead:
        raise AttemptLostError("another ingester took it over and gave it up")
    return []


def _abandon(state: LedgerState, attempt: int, reason: str) -> list[Operation]:
    if attempt in state.open:
        return [Abandon(attempt=attempt, reason=reason[:500])]
    return []
