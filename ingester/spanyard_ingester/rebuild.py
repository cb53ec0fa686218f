"""Rebuild: loading objects again that were loaded before, for a project or a time range (I8).

Exactly once also here, and also while the ingester runs: the ledger first forgets the ranges
(nobody can plan them meanwhile), then their rows are deleted, then it says that they are
forgotten, and the objects are loaded like any others, from where they lie. What a crash
interrupts goes on at the next start, from the ledger alone.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from spanyard_core.chunks import ChunkFacts
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import PENDING, PROCESSED, ChunkName, PlainName, parse_key
from spanyard_core.records import SIGNALS, Signal
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.heads import read_facts
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Forget,
    Forgotten,
    Operation,
    Range,
    processed_key,
    scope_of_name,
)
from spanyard_ingester.stored_rows import StoredRows
from spanyard_ingester.unsettled import Unsettled

log = logging.getLogger("spanyard.ingester")

_AT_ONCE = 1_000
"""Objects forgotten by one ledger entry: each deletes from the table at most once."""
_READS = 16


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are loaded again. Times are those of first records, as names have them."""

    project: str = ""
    """Empty: every project."""
    signals: Sequence[str] = SIGNALS
    start: str = ""
    """`20261121T120000Z` or a beginning of it; empty: from the first."""
    end: str = ""
    """Not included; empty: to the last. Plain objects have no time and go with any range."""

    def __contains__(self, name: ChunkName | PlainName) -> bool:
        if name.signal not in self.signals or (self.project and name.project != self.project):
            return False
        if isinstance(name, PlainName):
            return True
        return self.start <= name.time and (not self.end or name.time < self.end)


@dataclass(slots=True)
class Progress:
    """What a rebuild has done so far."""

    found: int = 0
    bytes: int = 0
    forgotten: int = 0
    rows_deleted: int = 0
    unreadable: list[str] = field(default_factory=list)
    """Keys, the first hundred."""
    finished: bool = False
    error: str = ""
    """Why it stopped."""


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    name: ChunkName | PlainName
    writer: str


class Rebuild:
    """Forgets what is to be loaded again; the ingester's own loops (or `drain`) load it."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        rows: StoredRows,
        rng: Random,
        unsettled: Unsettled,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._rows = rows
        self._rng = rng
        self._unsettled = unsettled

    async def run(
        self,
        selection: Selection,
        *,
        load: Callable[[], Awaitable[None]],
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Progress:
        """Forget the selected objects, a thousand at a time; `load` is awaited after each lot, and
        while some of them are under way.

        May be repeated: what is loaded again twice is stored once. With `dry_run` only counts.
        Raises StorageError and DatabaseError; what was begun then is finished by `resume`.
        """
        progress = progress if progress is not None else Progress()
        lot: list[tuple[str, ChunkName | PlainName]] = []
        if not dry_run:
            await self._ledger.refresh()  # what others loaded a moment ago is waited for too
            await self._unsettled.wait(self._unsettled_of(selection))
        # Objects that are kept lie where they were pending. These first: what is moved meanwhile
        # is found where it goes.
        for root in (PENDING, PROCESSED):
            async for info in self._storage.list(_prefix(root, selection)):
                try:
                    name = parse_key(info.key)
                except BadRecordError:
                    continue
                if name not in selection or (root == PENDING and not self._is_loaded(name)):
                    continue
                progress.found += 1
                progress.bytes += info.size
                lot.append((info.key, name))
                if len(lot) >= _AT_ONCE:
                    await self._lot(lot, progress, load, dry_run=dry_run)
                    lot = []
        await self._lot(lot, progress, load, dry_run=dry_run)
        progress.finished = True
        return progress

    def _unsettled_of(self, selection: Selection) -> list[str]:
        return [key for key in self._ledger.state.digests if parse_key(key) in selection]

    def _is_loaded(self, name: ChunkName | PlainName) -> bool:
        handled = self._ledger.state.handled.get(scope_of_name(name))
        if handled is None or isinstance(name, PlainName):
            return handled is not None
        return handled.covers(name.first, name.last)

    async def _lot(
        self,
        lot: Sequence[tuple[str, ChunkName | PlainName]],
        progress: Progress,
        load: Callable[[], Awaitable[None]],
        *,
        dry_run: bool,
    ) -> None:
        if dry_run or not lot:
            return
        objects = await map_bounded(partial(self._read, progress), lot, limit=_READS)
        del progress.unreadable[100:]
        by_table: dict[Signal, list[_Object]] = {}
        for item in objects:
            if item is not None:
                by_table.setdefault(item.name.signal, []).append(item)
        for table, items in by_table.items():
            left = await self._forget(table, items, progress)
            while left:  # under way just now: let that end
                await load()
                left = await self._forget(table, left, progress)
        await load()

    async def _read(
        self, progress: Progress, found: tuple[str, ChunkName | PlainName]
    ) -> _Object | None:
        key, name = found
        if isinstance(name, PlainName):
            return _Object(key, name, name.writer)
        try:
            facts = await self._facts(key, name)
        except ObjectNotFoundError:
            if name.root == PENDING:  # moved since it was listed
                there = processed_key(key)
                return await self._read(progress, (there, parse_key(there)))
            progress.unreadable.append(key)
            return None
        except BadRecordError as error:
            log.error("%s cannot be loaded again: %s", key, error)
            progress.unreadable.append(key)
            return None
        return _Object(key, name, facts.writer)

    async def _facts(self, key: str, name: ChunkName) -> ChunkFacts:
        facts = await read_facts(self._storage, key)
        if facts.name.key(name.root) != key:
            raise BadRecordError(f"it declares what belongs under {facts.name.key()!r}")
        return facts

    async def _forget(
        self, table: Signal, items: Sequence[_Object], progress: Progress
    ) -> list[_Object]:
        """Forget these; those that cannot be just now are given back."""
        name = f"{self._rng.getrandbits(62):x}"
        waiting: list[_Object] = []

        def build(state: LedgerState) -> list[Operation]:
            waiting.clear()
            if name in state.forgetting:
                return []
            forget = _forget_of(name, table, items, state, waiting)
            return [forget] if forget.keys else []

        # Shares no entry with a plan: each must see the other's ranges.
        await self._ledger.append(build, subject="plan")
        forget = self._ledger.state.forgetting.get(name)
        if forget is not None:
            progress.rows_deleted += await self._finish(forget)
            progress.forgotten += len(forget.keys)
        return list(waiting)

    async def _finish(self, forget: Forget) -> int:
        """Delete the rows of a forget that stands in the ledger, and say so."""
        by_project: dict[str, dict[str, list[Range]]] = {}
        for scope, ranges in forget.ranges.items():
            project = scope.split("/")[1]
            by_project.setdefault(project, {})[forget.writers[scope]] = ranges
        deleted = 0
        for project, ranges_of in by_project.items():
            deleted += await self._rows.delete_ranges(
                forget.table, project, ranges_of, forget.before
            )
        await self._ledger.append(
            lambda state: [Forgotten(id=forget.id)] if forget.id in state.forgetting else [],
            subject=f"forget {forget.id}",
        )
        return deleted

    async def resume(self) -> int:
        """Finish forgets that a crash (of anybody) left open; how many."""
        open_ones = list(self._ledger.state.forgetting.values())
        for forget in open_ones:
            await self._finish(forget)
        return len(open_ones)


def _forget_of(
    name: str,
    table: Signal,
    items: Iterable[_Object],
    state: LedgerState,
    waiting: list[_Object],
) -> Forget:
    """What can be forgotten of these; the rest goes to `waiting`."""
    ranges: dict[str, list[Range]] = {}
    writers: dict[str, str] = {}
    keys: list[str] = []
    for item in items:
        if item.key in state.digests:
            continue  # loaded since the rebuild began, and it may be moved at any moment
        scope = scope_of_name(item.name)
        if isinstance(item.name, PlainName):
            mine = list(state.handled.get(scope, ()))
        else:
            mine = [(item.name.first, item.name.last)]
        if any(state.is_busy(scope, first, last) for first, last in mine):
            waiting.append(item)
            continue
        ranges.setdefault(scope, []).extend(mine)
        writers[scope] = item.writer
        keys.append(item.key)
    return Forget(
        id=name,
        table=table,
        ranges=ranges,
        writers=writers,
        keys=keys,
        before=state.floor + 1,
    )


def _prefix(root: str, selection: Selection) -> str:
    if len(selection.signals) == 1:
        prefix = f"{root}/{selection.signals[0]}/"
        return f"{prefix}{selection.project}/" if selection.project else prefix
    return f"{root}/"
