"""Ledger state: what the log says when its entries are folded in order. Pure, no I/O.

Per scope (signal, project, writer) one interval set says which seqs need no loading any more
(stored, in quarantine, or absent from their object) and one which are busy (planned, or being
forgotten). Both cost a handful of pairs per writer, however many millions of records it wrote.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from spanyard_core.errors import SpanyardError
from spanyard_core.intervals import IntervalSet
from spanyard_core.object_names import writer_hash
from spanyard_core.records import Signal
from spanyard_ingester.operations import (
    Abandon,
    Bad,
    Close,
    Commit,
    Delete,
    Done,
    Entry,
    Filed,
    Forget,
    Forgotten,
    LoadedObject,
    Operation,
    Plan,
    Range,
    Reject,
    Replay,
    Settled,
    scope_of,
    tail_of,
)


class LedgerBrokenError(SpanyardError):
    """The log contradicts itself; nothing is loaded until somebody has looked."""


class Dead(msgspec.Struct, frozen=True):
    """An attempt that was given up: rows of it, should they ever land, are deleted."""

    table: Signal
    day: str
    time: str
    """When it was given up, RFC 3339."""


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """A plan without an end, and who wrote it."""

    plan: Plan
    owner: str
    instance: str
    n: int


@dataclass(slots=True)
class LedgerState:
    """Everything that deciding needs. Change it only by `apply`."""

    n: int = 0
    """Number of the last entry folded."""
    handled: dict[str, IntervalSet] = field(default_factory=dict)
    busy: dict[str, IntervalSet] = field(default_factory=dict)
    open: dict[int, OpenPlan] = field(default_factory=dict)
    dead: dict[int, Dead] = field(default_factory=dict)
    unsettled: dict[int, dict[str, str]] = field(default_factory=dict)
    """Attempt → key → digest, of loaded objects that may still lie where they were pending."""
    digests: dict[str, str] = field(default_factory=dict)
    """The same by key."""
    drops: dict[str, list[int]] = field(default_factory=dict)
    """Tail of a key → numbers of its bad lines, until the object is loaded."""
    unfiled: dict[str, Reject | Bad] = field(default_factory=dict)
    """Quarantine id → what still needs its quarantine row. Lines: one `Bad` with one line each."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Tail of a key → id, of rejected objects that may still lie where they were pending."""
    replayed: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    forgetting: dict[str, Forget] = field(default_factory=dict)
    floor: int = 0
    """The greatest attempt planned or forgotten so far; a new plan's is greater."""
    reload: dict[str, None] = field(default_factory=dict)
    """Keys of forgotten objects that are to be loaded, though no listing of pending finds them."""

    def apply(self, entry: Entry) -> None:
        """Fold the next entry. Raises LedgerBrokenError when it is not the next."""
        if entry.n != self.n + 1:
            raise LedgerBrokenError(
                f"ledger entry {entry.n} follows {self.n}: entries are missing in between"
            )
        for operation in entry.operations:
            self._apply(operation, entry)
        self.n = entry.n

    def _apply(self, operation: Operation, entry: Entry) -> None:
        match operation:
            case Plan():
                self._plan(operation, entry)
            case Commit():
                plan = self._end(operation.attempt)
                self._loaded(operation.attempt, plan.table, plan.objects)
            case Abandon() | Close():
                plan = self._end(operation.attempt)
                self.dead[operation.attempt] = Dead(plan.table, plan.day, entry.time)
            case Done():
                self._loaded(operation.attempt, operation.table, operation.objects)
            case Bad():
                self._bad(operation)
            case Reject():
                self.rejected[tail_of(operation.key)] = operation.id
                self.reload.pop(operation.key, None)
                self.replayed.pop(operation.id, None)  # replayed, and bad again
                self.deleted.discard(operation.id)
                self.unfiled[operation.id] = operation
            case Filed():
                for name in operation.ids:
                    filed = self.unfiled.pop(name, None)
                    if isinstance(filed, Reject):
                        self.rejected.pop(tail_of(filed.key), None)
            case Settled():
                for attempt in operation.attempts:
                    for key in self.unsettled.pop(attempt, ()):
                        self.digests.pop(key, None)
            case Replay():
                self.replayed[operation.id] = operation.key
                self.rejected.pop(tail_of(operation.key), None)
            case Delete():
                self.deleted.update(operation.ids)
            case Forget():
                self._forget(operation)
            case Forgotten():
                self._forgotten(operation.id)
            case _:  # Erase and Note are there to be read
                pass

    def _plan(self, plan: Plan, entry: Entry) -> None:
        if plan.attempt in self.open or plan.attempt in self.dead:
            raise LedgerBrokenError(f"ledger entry {entry.n} plans attempt {plan.attempt} again")
        self.floor = max(self.floor, plan.attempt)
        self.restore_open(OpenPlan(plan, entry.owner, entry.instance, entry.n))

    def restore_open(self, opened: OpenPlan) -> None:
        """Put an open plan in place; for `apply` and for snapshots."""
        self.open[opened.plan.attempt] = opened
        for item in opened.plan.objects:
            self._occupy(object_scope(opened.plan.table, item), item.ranges)

    def _end(self, attempt: int) -> Plan:
        try:
            plan = self.open.pop(attempt).plan
        except KeyError:
            raise LedgerBrokenError(f"attempt {attempt} ends, but is not open") from None
        for item in plan.objects:
            self._free(object_scope(plan.table, item), item.ranges)
        return plan

    def _loaded(self, attempt: int, table: Signal, objects: Sequence[LoadedObject]) -> None:
        for item in objects:
            # Made even when nothing of it is loaded: a plain object is done when its scope is here.
            handled = self.handled.setdefault(object_scope(table, item), IntervalSet())
            if item.last >= item.first:
                handled.add(item.first, item.last)
            self.drops.pop(tail_of(item.key), None)
            self.reload.pop(item.key, None)
            self.digests[item.key] = item.sha256
        # Numbers of `Done` are not in `floor`: two may be the same.
        self.unsettled.setdefault(attempt, {}).update({i.key: i.sha256 for i in objects})

    def _bad(self, bad: Bad) -> None:
        lines = self.drops.setdefault(tail_of(bad.key), [])
        known = set(lines)
        lines.extend(line.line for line in bad.lines if line.line not in known)
        handled = self.handled.setdefault(
            scope_of(bad.signal, bad.project, writer_hash(bad.writer)), IntervalSet()
        )
        for line in bad.lines:
            if line.seq:
                handled.add(line.seq, line.seq)
            self.unfiled[line.id] = msgspec.structs.replace(bad, lines=[line])

    def _forget(self, forget: Forget) -> None:
        self.floor = max(self.floor, forget.before)
        for scope, ranges in forget.ranges.items():
            handled = self.handled.get(scope)
            if handled is not None:
                for first, last in ranges:
                    handled.discard(first, last)
                if not handled:
                    del self.handled[scope]
        self.restore_forget(forget)

    def restore_forget(self, forget: Forget) -> None:
        """Put an unfinished forget in place; for `apply` and for snapshots."""
        self.forgetting[forget.id] = forget
        for scope, ranges in forget.ranges.items():
            self._occupy(scope, ranges)

    def _forgotten(self, name: str) -> None:
        forget = self.forgetting.pop(name, None)
        if forget is not None:
            for scope, ranges in forget.ranges.items():
                self._free(scope, ranges)
            self.reload.update(dict.fromkeys(forget.keys))

    def _occupy(self, scope: str, ranges: Iterable[Range]) -> None:
        busy = self.busy.setdefault(scope, IntervalSet())
        for first, last in ranges:
            busy.add(first, last)

    def _free(self, scope: str, ranges: Iterable[Range]) -> None:
        busy = self.busy.get(scope)
        if busy is None:
            return
        for first, last in ranges:
            busy.discard(first, last)
        if not busy:
            del self.busy[scope]

    def is_handled(self, scope: str, first: int, last: int) -> bool:
        """Whether nothing of first…last needs loading any more."""
        handled = self.handled.get(scope)
        return handled is not None and handled.covers(first, last)

    def is_busy(self, scope: str, first: int, last: int) -> bool:
        """Whether a part of first…last is planned or being forgotten right now."""
        busy = self.busy.get(scope)
        return busy is not None and next(busy.overlap(first, last), None) is not None

    def missing(self, scope: str, first: int, last: int) -> Iterator[Range]:
        """The parts of first…last that are still to be loaded."""
        handled = self.handled.get(scope)
        if handled is None:
            return iter([(first, last)])
        return handled.missing(first, last)


def object_scope(table: Signal, item: LoadedObject) -> str:
    """The scope of a planned object."""
    return scope_of(table, item.project, writer_hash(item.writer))
