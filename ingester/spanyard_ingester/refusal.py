"""Refusal: what to do with a batch whose data the engine refused or miscounted.

Its objects are scanned. One ledger entry closes the attempt, names the bad lines and objects, and
plans the rest anew. Where the scan finds nothing, the batch is halved until the object stands
alone that the engine cannot take; that one goes to quarantine with the engine's words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spanyard_core.intervals import IntervalSet
from spanyard_ingester.operations import (
    Bad,
    BadLine,
    LoadedObject,
    Operation,
    Plan,
    Range,
    Reject,
)


@dataclass(slots=True)
class Findings:
    """What the scan of a batch's objects brought to light, by key."""

    bad: dict[str, list[BadLine]] = field(default_factory=dict)
    good: dict[str, list[Range]] = field(default_factory=dict)
    """Seqs that the object really holds, of objects that hold less than planned."""
    rejects: dict[str, Reject] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Objects that are not in storage any more."""
    unread: set[str] = field(default_factory=set)
    """Objects that could not be read: nothing is known of them, so they wait for another batch."""

    def __bool__(self) -> bool:
        return bool(self.bad or self.good or self.rejects or self.gone or self.unread)


@dataclass(slots=True)
class Children:
    """What follows in the ledger."""

    operations: list[Operation] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    done: list[LoadedObject] = field(default_factory=list)
    """Objects of which nothing is left."""


def children_of(plan: Plan, findings: Findings, attempts: Sequence[int]) -> Children:
    """The rest of a plan after what was found, under new attempts (two are used at most).

    With findings: one child without the bad lines. Without: two halves; the plan then has at
    least two objects.
    """
    result = Children()
    if not findings:
        middle = len(plan.objects) // 2
        for attempt, objects in zip(
            attempts, (plan.objects[:middle], plan.objects[middle:]), strict=False
        ):
            result.plans.append(
                Plan(attempt=attempt, table=plan.table, day=plan.day, objects=objects)
            )
        result.operations.extend(result.plans)
        return result
    rest: list[LoadedObject] = []
    for item in plan.objects:
        if item.key in findings.gone or item.key in findings.unread:
            continue
        reject = findings.rejects.get(item.key)
        if reject is not None:
            result.operations.append(reject)
            continue
        bad = findings.bad.get(item.key)
        if bad:
            result.operations.append(
                Bad(
                    key=item.key,
                    signal=plan.table,
                    project=item.project,
                    writer=item.writer,
                    lines=bad,
                )
            )
        less = _less(item, findings.good, bad or ())
        (rest if less is item or less.load else result.done).append(less)
    if rest:
        child = Plan(attempt=attempts[0], table=plan.table, day=plan.day, objects=rest)
        result.plans.append(child)
        result.operations.append(child)
    return result


def _less(
    item: LoadedObject, good: Mapping[str, list[Range]], bad: Sequence[BadLine]
) -> LoadedObject:
    """The object with only those seqs to load that it really holds."""
    if item.key not in good:
        return item
    held = IntervalSet(good[item.key])
    load = [part for first, last in item.ranges for part in held.overlap(first, last)]
    for line in bad:
        if line.seq:
            held.add(line.seq, line.seq)
    absent = [part for first, last in item.ranges for part in held.missing(first, last)]
    return LoadedObject(
        key=item.key,
        size=item.size,
        sha256=item.sha256,
        project=item.project,
        writer=item.writer,
        first=item.first,
        last=item.last,
        load=load,
        absent=[*item.absent, *absent],
        source=item.source,
    )
