"""Loader: batches from ready objects to committed rows.

`choose` → `prepare` (read and verify) → plan in the ledger → attempt → commit → settle. Reading
the next batch goes on while this one is inserted; the commit of this one shares the ledger entry
of the next one's plan when both are due.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from spanyard_core.clock import Clock, utc_day
from spanyard_core.errors import BadRecordError, ObjectNotFoundError, StorageError
from spanyard_core.faults import fault_point
from spanyard_core.intervals import IntervalSet
from spanyard_core.records import Signal
from spanyard_core.retry import Backoff
from spanyard_ingester.attempts import AttemptLostError, Attempts, Ending, Result
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.filing import Filer
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Bad,
    Close,
    Done,
    LoadedObject,
    Operation,
    Plan,
    Range,
    Reject,
)
from spanyard_ingester.pending import Pending
from spanyard_ingester.planner import Fit, Limits, Prepared, Ready, choose, fit
from spanyard_ingester.prepare import Preparer
from spanyard_ingester.refusal import Children, Findings, children_of
from spanyard_ingester.rejects import Rejects, reject_of
from spanyard_ingester.rescan import Rescan
from spanyard_ingester.settle import Settler

log = logging.getLogger("spanyard.ingester")


_UNEXPLAINED_MOST = 5
"""Objects that may go to quarantine in a row on ClickHouse's word alone. When it refuses more,
with nothing loaded in between, it is ClickHouse (a wrong schema, a right taken away) and not the
data: then everything waits instead of draining into quarantine."""


_UNREAD_AGAIN = 30.0
"""Seconds until an object comes back that could not be read when its batch was refused."""

_DOUBTS_MOST = 3
"""Times that one object is tried alone before it goes to quarantine on ClickHouse's word: an
insert that was carried out twice looks just like an object that holds its lines twice."""


@dataclass(slots=True)
class Batch:
    """A plan that stands in the ledger, and its files."""

    plan: Plan
    files: dict[str, Prepared]
    """By key."""
    trash: list[Prepared]
    """Everything made for it and what follows from it; removed at the end."""

    def exclude(self) -> dict[str, list[Range]]:
        """What the files hold and the plan does not load, per writer."""
        result: dict[str, list[Range]] = {}
        for item in self.plan.objects:
            prepared = self.files[item.key]
            if prepared.held != item.ranges:
                load = IntervalSet(item.ranges)
                gaps = [gap for first, last in prepared.held for gap in load.missing(first, last)]
                if gaps:
                    result.setdefault(item.writer, []).extend(gaps)
        return result


@dataclass(slots=True)
class Counts:
    """What was done since the start, for metrics."""

    rows: int = 0
    objects: int = 0
    batches: int = 0
    abandoned: int = 0
    refused: int = 0
    bad_lines: int = 0
    rejected: int = 0
    """Whole objects found bad only by inserting them."""
    unread: int = 0
    """Objects of refused batches that could not be read again; they came back later."""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=1_000))
    """Seconds from an object's first sight to its commit."""


@dataclass(slots=True)
class Loader:
    """Loads one batch at a time (`load_once`), or two that overlap (`run`)."""

    ledger: Ledger
    pending: Pending
    preparer: Preparer
    attempts: Attempts
    rejects: Rejects
    settler: Settler
    filer: Filer
    rescan: Rescan
    clock: Clock
    rng: Random
    limits: Limits
    fetches: int
    counts: Counts = field(default_factory=Counts)
    unexplained: dict[Signal, int] = field(default_factory=dict)
    """Table → objects rejected in a row without a line found bad."""
    _doubts: dict[str, int] = field(default_factory=dict)
    """Key → how often its object, alone, was refused or miscounted without a line found bad."""

    async def load_once(self) -> bool:
        """Load one batch from start to end; False when there is none."""
        prepared = await self.fetch()
        if prepared is None:
            return False
        await self.load(prepared)
        return True

    async def fetch(self) -> list[Prepared] | None:
        """Choose a batch and read its objects; None when none is ready."""
        for table in self.pending.tables():
            chosen = choose(self.pending.queues(table), self._limits_now())
            if not chosen:
                continue
            self.pending.take(table, chosen)
            prepared = await map_bounded(self._prepare, chosen, limit=self.fetches)
            return [item for item in prepared if item is not None]
        return None

    def _limits_now(self) -> Limits:
        """Smaller batches after failures in a row: an overloaded engine may take less at once."""
        shift = min(self.attempts.availability.failures, 4)
        return replace(
            self.limits,
            decoded=self.limits.decoded >> shift,
            rows=max(self.limits.rows >> shift, 1),
            objects=max(self.limits.objects >> shift, 1),
        )

    async def _prepare(self, ready: Ready) -> Prepared | None:
        try:
            return await self.preparer.prepare(ready, self.ledger.state)
        except ObjectNotFoundError:
            self.pending.forget(ready.key)  # another ingester was quicker
        except (StorageError, OSError) as error:
            log.warning("cannot read %s, trying again: %s", ready.key, error)
            self.pending.retry(ready, Backoff(self.rng, first=1.0).next())
        except BadRecordError as error:
            self.rejects.add(
                reject_of(ready.key, ready.name, str(error), size=ready.size, facts=ready.facts)
            )
        return None

    async def load(self, prepared: Sequence[Prepared]) -> None:
        """Plan and insert prepared objects; afterwards each is loaded or pending again."""
        trash = list(prepared)
        try:
            batch = await self._plan(prepared, trash)
            work = deque([batch] if batch is not None else [])
            while work:
                work.extendleft(reversed(await self._carry(work.popleft())))
        finally:
            for item in trash:
                self.preparer.discard(item)

    async def _plan(self, prepared: Sequence[Prepared], trash: list[Prepared]) -> Batch | None:
        if not prepared:
            return None
        fault_point("ingest.before-plan")
        table = prepared[0].ready.table
        attempt, done_attempt = self.new_attempt(), self.new_attempt()
        day = utc_day(self.clock.time_ns())
        fitted = Fit()

        def build(state: LedgerState) -> list[Operation]:
            nonlocal fitted, attempt
            said = {loaded.key for _, loaded in fitted.done}
            if self._planned(state, attempt) or _is_done(state, done_attempt, said):
                return []  # a lost answer: it stands there already
            if attempt <= state.floor:
                attempt = self.new_attempt()
            fitted = fit(prepared, state)
            operations: list[Operation] = [
                Bad(
                    key=item.ready.key,
                    signal=table,
                    project=item.ready.name.project,
                    writer=item.writer,
                    lines=item.bad,
                )
                for item, _ in (*fitted.objects, *fitted.done)
                if item.bad
            ]
            objects = [loaded for _, loaded in fitted.objects]
            if objects:
                operations.append(Plan(attempt=attempt, table=table, day=day, objects=objects))
            done = [loaded for _, loaded in fitted.done]
            if done:
                operations.append(Done(attempt=done_attempt, table=table, objects=done))
            return operations

        await self.ledger.append(build, subject="plan")
        for item in fitted.later:
            self.pending.retry(item.ready, 1.0)
        for item in fitted.covered:
            self.pending.retry(item.ready)
        if fitted.done:
            self.settler.loaded(done_attempt, [loaded.key for _, loaded in fitted.done])
        plan = self._planned(self.ledger.state, attempt)
        if plan is None:
            for item, _ in fitted.objects:  # planned by us, and taken over before we knew
                self.pending.retry(item.ready)
            return None
        fault_point("ingest.planned")
        return Batch(plan, {item.ready.key: item for item in prepared}, trash)

    def _planned(self, state: LedgerState, attempt: int) -> Plan | None:
        """The open plan of this attempt, if it is ours.

        Two owners may draw one number: 20 random bits tell them apart within a millisecond.
        """
        opened = state.open.get(attempt)
        if opened is None or opened.instance != self.ledger.instance:
            return None
        return opened.plan

    async def _carry(self, batch: Batch) -> list[Batch]:
        """Run a plan's attempt; the batches that follow from it."""
        plan = batch.plan
        result = await self.attempts.run(
            plan, [batch.files[item.key].path for item in plan.objects], batch.exclude()
        )
        if result.ending is Ending.COMMITTED:
            self._committed(batch)
            return []
        if result.ending is Ending.ABANDONED:
            await self._abandoned(batch)
            return []
        self.counts.refused += 1
        log.warning("attempt %d on %s was refused: %s", plan.attempt, plan.table, result.reason)
        try:
            return await self._close(batch, result)
        except AttemptLostError:
            await self.attempts.lost(plan)
            self._again(batch)
            return []

    def _committed(self, batch: Batch) -> None:
        self.unexplained.pop(batch.plan.table, None)
        self.attempts.availability.refusal = ""
        fault_point("ingest.committed")
        now = self.clock.monotonic()
        for item in batch.plan.objects:
            self._doubts.pop(item.key, None)
            self.counts.rows += item.rows
            self.counts.latencies.append(now - batch.files[item.key].ready.since)
        self.counts.objects += len(batch.plan.objects)
        self.counts.batches += 1
        self.settler.loaded(batch.plan.attempt, [item.key for item in batch.plan.objects])

    async def _abandoned(self, batch: Batch) -> None:
        self.counts.abandoned += 1
        # An engine that answers and still takes nothing must not be asked in a tight loop.
        failures = self.attempts.availability.failures
        if failures > 1:
            backoff = Backoff(self.rng, first=min(0.25 * 2**failures, 30.0))
            await self.clock.sleep(backoff.next())
        self._again(batch)

    def _again(self, batch: Batch) -> None:
        for item in batch.plan.objects:
            self.pending.retry(batch.files[item.key].ready)

    async def _close(self, batch: Batch, refusal: Result) -> list[Batch]:
        """Close a refused attempt and plan what can still be loaded."""
        plan, reason = batch.plan, refusal.reason
        async with self.attempts.pulse():
            findings = await self.rescan.findings(
                (item, batch.files[item.key].ready) for item in plan.objects
            )
        if not findings and len(plan.objects) == 1:
            key = plan.objects[0].key
            self._doubts[key] = self._doubts.get(key, 0) + 1
            blocked = self.unexplained.get(plan.table, 0) >= _UNEXPLAINED_MOST
            if blocked or self._doubts[key] < _DOUBTS_MOST:
                if blocked:
                    self.attempts.availability.refusal = f"it refuses all of {plan.table}: {reason}"
                await self.attempts.give_up(plan, f"without a line found bad: {refusal.brief}")
                await self._abandoned(batch)
                return []
            del self._doubts[key]
            self.unexplained[plan.table] = self.unexplained.get(plan.table, 0) + 1
            findings.rejects[key] = _unexplained(plan.objects[0], batch, reason)
        fault_point("ingest.scanned")
        children = Children()
        done_attempt = self.new_attempt()

        def build(state: LedgerState) -> list[Operation]:
            nonlocal children
            if plan.attempt not in state.open:
                if _is_done(state, done_attempt, {item.key for item in children.done}) or any(
                    self._planned(state, child.attempt) for child in children.plans
                ):
                    return []  # a lost answer: this entry is in the log already
                raise AttemptLostError("another ingester took it over")
            first = self.new_attempt()
            children = children_of(plan, findings, [first, first + 1])
            if children.done:
                children.operations.append(
                    Done(attempt=done_attempt, table=plan.table, objects=children.done)
                )
            return [Close(attempt=plan.attempt, reason=refusal.brief[:500]), *children.operations]

        await self.ledger.append(build, subject="plan")
        fault_point("ingest.closed")
        await self.attempts.clean(plan)
        await self._file(findings)
        fault_point("ingest.quarantined")
        if children.done:
            self.settler.loaded(done_attempt, [item.key for item in children.done])
        for key in (*findings.rejects, *findings.gone):
            self.pending.forget(key)
        for key in findings.unread:
            self.pending.retry(
                batch.files[key].ready, Backoff(self.rng, first=_UNREAD_AGAIN).next()
            )
        self.counts.unread += len(findings.unread)
        self.counts.bad_lines += sum(map(len, findings.bad.values()))
        self.counts.rejected += len(findings.rejects)
        return await self._child_batches(batch, children, findings)

    async def _file(self, findings: Findings) -> None:
        """Quarantine rows for what was just found, before the rest is inserted, if that can be.

        What cannot be read for its row now does not hold up the rest: the filer comes back to it.
        """
        ids = {line.id for lines in findings.bad.values() for line in lines}
        ids |= {reject.id for reject in findings.rejects.values()}
        try:
            await self.attempts.when_available(
                lambda: self.filer.run_through(ids), "writing quarantine rows"
            )
        except StorageError as error:
            log.warning("quarantine rows have to wait, what goes there cannot be read: %s", error)

    async def _child_batches(
        self, batch: Batch, children: Children, findings: Findings
    ) -> list[Batch]:
        """The children with their files: rewritten where lines are left out."""
        batches: list[Batch] = []
        for child in children.plans:
            files = {item.key: batch.files[item.key] for item in child.objects}
            try:
                for key in [key for key in files if key in findings.good]:
                    files[key] = await self.preparer.prepare(files[key].ready, self.ledger.state)
                    batch.trash.append(files[key])
            except (StorageError, OSError, BadRecordError) as error:
                await self.attempts.give_up(child, f"an object could not be read again: {error}")
                self._again(Batch(child, files, batch.trash))
                continue
            batches.append(Batch(child, files, batch.trash))
        return batches

    def new_attempt(self) -> int:
        """A number never used before, and greater than any in the ledger: milliseconds since the
        epoch and 20 random bits, unless somebody's clock was ahead.
        """
        by_time = (self.clock.time_ns() // 1_000_000) << 20 | self.rng.getrandbits(20)
        return max(by_time, self.ledger.state.floor + 1 + self.rng.getrandbits(20))


def _unexplained(item: LoadedObject, batch: Batch, reason: str) -> Reject:
    ready = batch.files[item.key].ready
    return reject_of(
        item.key,
        ready.name,
        f"ClickHouse does not take it, though no line of it looks bad: {reason}",
        size=item.size,
        facts=ready.facts,
    )


def _is_done(state: LedgerState, attempt: int, keys: set[str]) -> bool:
    """Whether these objects were said to be done under this attempt."""
    return bool(keys) and keys <= state.unsettled.get(attempt, {}).keys()
