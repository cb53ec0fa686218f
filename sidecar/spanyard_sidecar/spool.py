"""The spool: the collector's checkpoint log and its buffer while storage is away.

One directory. An entry makes objects and the states of their writers durable in one step: written,
synced, renamed, its directory synced, and only then may its upload begin; otherwise a power cut
could re-cut a range that is stored already. What is uploaded is renamed `.entry` → `.done` and
kept for a while as the disk ring. State files fold the states, so that done entries can go:

    epoch                     who we are since when, made once
    {n:016d}.entry            durable, waiting for its upload
    {n:016d}.done             uploaded; history for /live
    {n:016d}.state            fold of all states up to n
    {n:016d}.damaged          set aside: not what was written
    reserve                   disk kept for saying that the disk is full

Nothing here ever makes the directory larger than the budget. A rename that a power cut undoes
costs one more put, which finds its equal; so only what must be durable is synced.
"""

import asyncio
import contextlib
import errno
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from spanyard_core.chunks import check_chunk
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError
from spanyard_core.faults import fault_point
from spanyard_core.files import Files, ReadFile, write_durably
from spanyard_sidecar.budget import DiskBudget, SpoolFullError, on_disk
from spanyard_sidecar.entries import (
    DamagedEntryError,
    EntryHead,
    Fold,
    Rename,
    SpooledObject,
    encode_fold,
    encode_head,
    file_name,
    read_head,
)
from spanyard_sidecar.headroom import Headroom
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import NewObject, State
from spanyard_sidecar.recovery import Hole, read_spool

log = logging.getLogger("spanyard.sidecar")

RESERVE = 1 << 20
"""Bytes preallocated so that a full disk can still be reported."""
COMPACT_AFTER = 8
"""Done entries that wait for a state file before one is written: at 5 s per flush, every 40 s."""


class DiskFullError(SpoolFullError):
    """The file system has no room, though the budget has."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that is durable and not uploaded. Its head stays on disk: an outage may be long."""

    n: int
    charge: int
    since: float
    """Monotonic time when it was committed, or found at the start."""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Limits of the spool's own housekeeping."""

    ring_seconds: float = 60.0
    ring_bytes: int = 64 << 20
    reserve: int = RESERVE


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry while it is being read; stays readable when the spool drops it."""

    head: EntryHead
    _file: ReadFile
    _at: int

    def read(self, item: SpooledObject) -> bytes:
        """An object's bytes, checked. Raises DamagedEntryError, OSError."""
        data = self._file.pread(item.length, self._at + item.offset)
        try:
            sound = check_chunk(data) == item.facts
        except BadRecordError:
            sound = False
        if not sound:
            raise DamagedEntryError(
                f"object {item.key} in spool entry {self.head.n} is not what was written"
            )
        return data


@dataclass(slots=True)
class _Done:
    charge: int
    since: float


@dataclass(slots=True)
class Spool:
    """Made by `open`. `commit` is serialised; everything else is synchronous."""

    files: Files
    directory: str
    clock: Clock
    budget: DiskBudget
    settings: SpoolSettings
    fold: Fold
    pending: OrderedDict[int, Pending] = field(default_factory=OrderedDict)
    holes: list[Hole] = field(default_factory=list)
    """What recovery found missing; for gap lines."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an entry was committed."""
    room: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when room was made."""
    _last_entry: dict[str, int] = field(default_factory=dict)
    """Writer → the last entry with something of it, for writers that have one waiting."""
    _done: OrderedDict[int, _Done] = field(default_factory=OrderedDict)
    _done_bytes: int = 0
    _next: int = 1
    _covered: int = 0
    _state_charge: int = 0
    _headroom: Headroom = field(init=False)
    _seldom: Seldom = field(default_factory=Seldom)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(
        cls,
        files: Files,
        directory: str,
        *,
        clock: Clock,
        rng: Random,
        budget: DiskBudget,
        settings: SpoolSettings | None = None,
    ) -> "Spool":
        """Recover the spool in `directory`, or make one. Raises OSError."""
        found = await read_spool(files, directory, clock, rng)
        spool = cls(files, directory, clock, budget, settings or SpoolSettings(), found.fold)
        spool.holes = found.holes
        spool._seldom = Seldom(clock.monotonic)
        now = clock.monotonic()
        spool._covered, spool._state_charge = found.covered, found.state_bytes
        for n, size, done in found.entries:
            if done:
                spool._done[n] = _Done(size, now)
                spool._done_bytes += size
            else:
                spool.pending[n] = Pending(n, size, now)
        spool._next, spool._last_entry = found.next, found.last_entry
        reserve = f"{directory}/reserve"
        spool._headroom = Headroom(files, reserve, budget, spool.settings.reserve)
        spool._headroom.adopt(
            found.other_bytes + found.state_bytes + sum(size for _, size, _ in found.entries),
            present=found.reserve_bytes > 0,
        )
        budget.on_pressure(spool._relieve)
        spool._relieve(budget.used - budget.limit)
        await spool.maintain()
        return spool

    @property
    def epoch(self) -> str:
        """Random since this spool was made; part of every writer's id."""
        return self.fold.epoch

    @property
    def states(self) -> Mapping[str, State]:
        """Writer → state as of the last commit."""
        return self.fold.states

    @property
    def oldest_pending(self) -> float:
        """Seconds for which the oldest pending entry has waited; 0 without one."""
        first = next(iter(self.pending.values()), None)
        return self.clock.monotonic() - first.since if first else 0.0

    def last_entry(self, writer: str) -> int:
        """Number of the last entry with something of `writer`, 0 when none is known."""
        return self._last_entry.get(writer, 0)

    def is_uploaded(self, writer: str) -> bool:
        """Whether everything of `writer` that was committed is in storage."""
        return self._last_entry.get(writer, 0) not in self.pending

    async def commit(
        self,
        objects: Sequence[NewObject],
        states: Mapping[str, State | None],
        *,
        renames: Mapping[str, Rename] | None = None,
        last_resort: bool = False,
    ) -> int:
        """Make objects and states durable together; gives the entry's number.

        Raises SpoolFullError (also when the disk is) and OSError; then nothing has changed, and
        the same call may be repeated. With `last_resort` the reserve is spent when there is no
        other room: for gap lines only.
        """
        async with self._lock:
            n = self._next
            head = EntryHead(
                n=n,
                epoch=self.fold.epoch,
                objects=list(_laid_out(objects)),
                states=dict(states),
                renames=dict(renames or {}),
            )
            parts = [encode_head(head), *(part for item in objects for part in item.parts)]
            charge = on_disk(sum(map(len, parts)))
            await self._take(charge, last_resort=last_resort)
            try:
                await self._write(file_name(n, "entry"), parts, charge, last_resort=last_resort)
            except BaseException:
                # Durable or not, nobody has seen it: the next commit takes the same number.
                with contextlib.suppress(OSError):
                    self.files.unlink(self._path(n, "entry"))
                self._headroom.release(charge)  # no news: `room` would end the caller's back-off
                raise
            fault_point("spool.durable")
            self._next = n + 1
            self.fold.apply(head)
            self.pending[n] = Pending(n, charge, self.clock.monotonic())
            for writer in head.writers:
                self._last_entry[writer] = n
            self.arrived.set()
            return n

    async def _take(self, charge: int, *, last_resort: bool) -> None:
        try:
            self.budget.reserve(charge)
        except SpoolFullError:
            # The ring gives way first; what no state file covers yet needs one before it may go.
            if any(n > self._covered for n in self._done):
                await self._fold_states()
                with contextlib.suppress(SpoolFullError):
                    self.budget.reserve(charge)
                    return
            if not (last_resort and self._headroom.spend(charge, share=0.5)):
                raise

    async def _write(
        self, name: str, parts: Sequence[bytes], charge: int, *, last_resort: bool
    ) -> None:
        path = f"{self.directory}/{name}"
        entry = name.endswith(".entry")
        while True:
            try:
                await write_durably(self.files, path, parts, faults="spool" if entry else "")
                return
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                if await self._give_way(charge, fold=entry):
                    continue
                if last_resort and self._headroom.give_disk():
                    continue
                raise DiskFullError(
                    f"no room on the disk of {self.directory} for {charge} bytes: "
                    f"{error.strerror}; free some, or give the collector a smaller spool_limit"
                ) from error

    async def _give_way(self, short: int, *, fold: bool) -> bool:
        """Whether entries of the ring were dropped, because the disk is full."""
        before = len(self._done)
        self._relieve(short)
        if fold and before == len(self._done) > 0:
            with contextlib.suppress(SpoolFullError):
                await self._fold_states()
            self._relieve(short)
        return len(self._done) < before

    @contextlib.contextmanager
    def opened(self, n: int) -> Iterator["OpenEntry"]:
        """Entry `n`, pending or done, for reading. Raises DamagedEntryError, OSError."""
        kind = "entry" if n in self.pending else "done"
        file = self.files.open_read(self._path(n, kind))
        try:
            head, at = read_head(file, f"spool entry {n}")
            yield OpenEntry(head, file, at)
        finally:
            file.close()

    def mark_stored(self, n: int) -> None:
        """All objects of entry `n` are in storage. Raises OSError; repeat then."""
        self.files.rename(self._path(n, "entry"), self._path(n, "done"))
        charge = self.pending.pop(n).charge
        self._done[n] = _Done(charge, self.clock.monotonic())
        self._done_bytes += charge
        fault_point("spool.marked")
        self.room.set()  # the ring gives way to new entries

    def set_aside(self, n: int) -> None:
        """Entry `n` is not what was written: keep its bytes, forget it. Raises OSError."""
        self.files.rename(self._path(n, "entry"), self._path(n, "damaged"))
        del self.pending[n]

    def on_disk_entries(self) -> list[int]:
        """Numbers of all entries that are there, done or not, oldest first."""
        return sorted((*self._done, *self.pending))

    async def maintain(self) -> None:
        """Drop what has left the ring, fold states when that is due, restore the reserve.

        Raises nothing: what fails is logged and comes again.
        """
        async with self._lock:
            try:
                expired = self._expired()
                if sum(n > self._covered for n in expired) >= COMPACT_AFTER:
                    await self._fold_states()
                for n in expired:
                    if n <= self._covered:
                        self._drop(n)
                await self._headroom.restore()
            except (SpoolFullError, OSError) as error:
                if self._seldom("maintain"):
                    log.warning("housekeeping of the spool failed: %s", error)

    def _expired(self) -> list[int]:
        horizon = self.clock.monotonic() - self.settings.ring_seconds
        excess = self._done_bytes - self.settings.ring_bytes
        expired = []
        for n, done in self._done.items():
            if done.since > horizon and excess <= 0:
                break
            excess -= done.charge
            expired.append(n)
        return expired

    async def _fold_states(self) -> None:
        """Write a state file; after it, done entries up to its number may go. Holds the lock."""
        n, before = self.fold.n, self._covered
        if n == before and self._state_charge:
            return
        data = encode_fold(self.fold)
        charge = on_disk(len(data))
        try:
            self.budget.reserve(charge)
        except SpoolFullError:
            if not self._headroom.spend(charge):
                raise
        try:
            await self._write(file_name(n, "state"), [data], charge, last_resort=True)
        except BaseException:
            # It may be there under its name, when only the directory's sync failed.
            with contextlib.suppress(OSError):
                self.files.unlink(self._path(n, "state"))
            self._headroom.release(charge)
            raise
        old_charge, self._state_charge, self._covered = self._state_charge, charge, n
        if old_charge:
            with contextlib.suppress(OSError):  # the next start removes it
                self.files.unlink(self._path(before, "state"))
            self._release(old_charge)
        self._headroom.grow(4 * charge)

    def _relieve(self, short: int) -> None:
        for n in [n for n in self._done if n <= self._covered]:
            if short <= 0:
                return
            short -= self._done[n].charge
            self._drop(n)

    def _drop(self, n: int) -> None:
        with contextlib.suppress(OSError):
            self.files.unlink(self._path(n, "done"))
            charge = self._done.pop(n).charge
            self._done_bytes -= charge
            self._release(charge)

    def _release(self, charge: int) -> None:
        self._headroom.release(charge)
        self.room.set()

    def _path(self, n: int, kind: str) -> str:
        return f"{self.directory}/{file_name(n, kind)}"


def _laid_out(objects: Iterable[NewObject]) -> Iterable[SpooledObject]:
    offset = 0
    for item in objects:
        length = sum(map(len, item.parts))
        yield SpooledObject(item.key, item.facts, offset, length, container=item.container)
        offset += length
