"""Planner: which objects go into the next batch, and which of their seqs. Pure.

`choose` takes objects from many projects in turn, so that a flood of one never starves another.
`fit` decides against the ledger's state what of each prepared object is to be loaded; it runs
inside the append, again whenever another ingester was quicker.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanyard_core.chunks import ChunkFacts, Source
from spanyard_core.intervals import IntervalSet
from spanyard_core.object_names import ChunkName, PlainName
from spanyard_core.records import Signal
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import BadLine, LoadedObject, Range, scope_of_name, tail_of


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one batch may hold: it becomes one part, and its bytes pass through memory."""

    decoded: int = 128 * 1024 * 1024
    rows: int = 500_000
    objects: int = 500


@dataclass(slots=True)
class Ready:
    """An object whose name and head are in order, waiting to be loaded."""

    key: str
    name: ChunkName | PlainName
    size: int
    since: float
    """When it was first seen, monotonic seconds."""
    facts: ChunkFacts | None = None
    """None for a plain object, which declares nothing."""
    data: bytes | None = field(default=None, repr=False)
    """All of it, where it is so small that reading its head read it whole."""

    @property
    def table(self) -> Signal:
        return self.name.signal

    @property
    def scope(self) -> str:
        return scope_of_name(self.name)

    @property
    def decoded(self) -> int:
        """Bytes of JSON; guessed for a plain object, which gets writer and seq on top."""
        return self.facts.decoded if self.facts is not None else self.size * 3 // 2

    @property
    def rows(self) -> int:
        """Guessed for a plain object, at 200 bytes a line."""
        return self.facts.records if self.facts is not None else self.size // 200 + 1


@dataclass(slots=True)
class Prepared:
    """An object whose bytes were read and verified, and the file that the insert will read."""

    ready: Ready
    path: Path
    temporary: bool
    """Whether the file is ours to remove."""
    sha256: str
    writer: str
    first: int
    last: int
    """first - 1 for an object without a single record."""
    present: list[Range] | None = None
    """Seqs that the file holds; None means all of first…last."""
    bad: list[BadLine] = field(default_factory=list)
    """Bad lines found now that the ledger doesn't know yet."""
    source: Source | None = None

    @property
    def held(self) -> list[Range]:
        """Seqs that the file holds, spelled out."""
        if self.present is not None:
            return self.present
        return [(self.first, self.last)] if self.first <= self.last else []


def choose(queues: Iterable[Iterable[Ready]], limits: Limits) -> list[Ready]:
    """One object of each queue (a project's) in turn, until the batch is full or all are taken.

    The first object is taken whatever its size: its own limits were checked before.
    """
    chosen: list[Ready] = []
    decoded = rows = 0
    turn: list[Iterator[Ready]] = [iter(queue) for queue in queues]
    while turn:
        going_on: list[Iterator[Ready]] = []
        for queue in turn:
            item = next(queue, None)
            if item is None:
                continue
            decoded += item.decoded
            rows += item.rows
            full = decoded > limits.decoded or rows > limits.rows or len(chosen) >= limits.objects
            if full and chosen:
                return chosen
            chosen.append(item)
            going_on.append(queue)
        turn = going_on
    return chosen


@dataclass(slots=True)
class Fit:
    """What became of each object."""

    objects: list[tuple[Prepared, LoadedObject]] = field(default_factory=list)
    exclude: dict[str, list[Range]] = field(default_factory=dict)
    """Writer → seqs that its files hold and that must not be loaded from them."""
    later: list[Prepared] = field(default_factory=list)
    """Cannot go with this batch: a part of it is under way, or would collide inside the batch."""
    done: list[tuple[Prepared, LoadedObject]] = field(default_factory=list)
    """It holds nothing to load: all its lines are bad, or there is none."""
    covered: list[Prepared] = field(default_factory=list)
    """Somebody has loaded all of it since it was chosen."""


class _Taken:
    """What the batch takes of one scope so far."""

    __slots__ = ("excluded", "load")

    def __init__(self) -> None:
        self.load = IntervalSet()
        self.excluded = IntervalSet()


def fit(items: Sequence[Prepared], state: LedgerState) -> Fit:
    """Subtract what is loaded or busy, and keep apart what must not share one insert.

    An insert leaves out ranges per *writer*; so two files of one writer go together only when
    neither loads what is left out of the other. A writer's name under two projects (one of them
    forged) never shares a batch, because rows are read back per writer.
    """
    result = Fit()
    taken: dict[str, _Taken] = {}
    scopes: dict[str, str] = {}
    for item in items:
        scope = item.ready.scope
        if state.is_busy(scope, item.first, item.last) or (
            scopes.setdefault(item.writer, scope) != scope
        ):
            result.later.append(item)
            continue
        if is_covered(item.ready, state):
            result.covered.append(item)
            continue
        load = IntervalSet()
        for first, last in item.held:
            for a, b in state.missing(scope, first, last):
                load.add(a, b)
        mine = taken.setdefault(scope, _Taken())
        if any(_touches(mine.load, pair) for pair in item.held):
            result.later.append(item)  # two objects with the same seqs: one after the other
            continue
        if any(_touches(mine.excluded, pair) for pair in load):
            result.later.append(item)
            continue
        excluded = [gap for first, last in item.held for gap in load.missing(first, last)]
        loaded = _loaded(item, list(load), state)
        if not load:
            result.done.append((item, loaded))
            continue
        for pair in load:
            mine.load.add(*pair)
        for pair in excluded:
            mine.excluded.add(*pair)
            result.exclude.setdefault(item.writer, []).append(pair)
        result.objects.append((item, loaded))
    return result


def _touches(ranges: IntervalSet, pair: Range) -> bool:
    return next(ranges.overlap(*pair), None) is not None


def is_covered(item: Ready, state: LedgerState) -> bool:
    """Whether all of an object is dealt with, as far as its name tells."""
    if isinstance(item.name, ChunkName):
        return state.is_handled(item.scope, item.name.first, item.name.last)
    # A plain object is its writer's only one and is loaded at once, or not yet.
    return item.scope in state.handled and tail_of(item.key) not in state.drops


def _loaded(item: Prepared, load: list[Range], state: LedgerState) -> LoadedObject:
    whole = load == [(item.first, item.last)]
    absent: list[Range] = []
    if item.present is not None and item.first <= item.last:
        known = IntervalSet(item.present)
        for line in item.bad:
            if line.seq:
                known.add(line.seq, line.seq)
        for first, last in known.missing(item.first, item.last):
            absent.extend(state.missing(item.ready.scope, first, last))
    return LoadedObject(
        key=item.ready.key,
        size=item.ready.size,
        sha256=item.sha256,
        project=item.ready.name.project,
        writer=item.writer,
        first=item.first,
        last=item.last,
        load=[] if whole else load,
        absent=absent,
        source=item.source,
    )
