"""The ledger: a numbered log in the bucket, in which who may load what is settled.

Entry n is the object `ledger/{shard}/{n:012d}.json`, created only if absent: of two ingesters that
both believe they own a shard, one gets n and the other reads what was decided and thinks again.
Every decision is therefore a function of the state up to n - 1, which `append` evaluates anew
whenever somebody else was quicker. Appends that wait at the same time share one entry, so that the
commit of one batch and the plan of the next cost one PUT.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import msgspec

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import (
    BadRecordError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)
from spanyard_core.object_names import LEDGER, ledger_key
from spanyard_core.retry import Backoff
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import batched, map_bounded
from spanyard_ingester.ledger_state import LedgerBrokenError, LedgerState
from spanyard_ingester.operations import (
    Entry,
    Filed,
    Operation,
    Settled,
    decode_entry,
    encode_entry,
)
from spanyard_ingester.snapshots import decode_snapshot, snapshot_key, snapshot_number

log = logging.getLogger("spanyard.ingester")

Build = Callable[[LedgerState], Sequence[Operation]]
"""What to append in a given state; empty when nothing is (or is any longer) to be said. Called
again after every entry of somebody else's, and after a lost answer: it must see by the state that
its own operations are there already."""

STALE_AFTER = 600.0
"""Seconds after which an ingester that was asleep looks for the log's head before it appends.
Compaction keeps entries for six times as long, so nobody ever fills a hole it left."""
_READS_AT_ONCE = 16
_LOOKS = 3
"""Listings in a row that lack the same entry: then it is not there."""
_RIDERS_AT_ONCE = 2_000


@dataclass(eq=False, slots=True)
class _Request:
    build: Build
    subject: str
    done: bool = False
    error: Exception | None = None


class Ledger:
    """One shard's log as one ingester sees it. `load` first."""

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        rng: Random,
        *,
        owner: str,
        shard: int = 0,
        listener: Callable[[Entry, LedgerState], None] | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._rng = rng
        self._listener = listener
        """Sees each entry with the state before it."""
        self.shard = shard
        self.owner = owner
        self.instance = f"{rng.getrandbits(64):016x}"
        self.state = LedgerState()
        self.snapshot_n = 0
        """Newest snapshot seen."""
        self.seen: dict[tuple[str, str], float] = {}
        """Owner and instance → when we last saw it append, monotonic seconds."""
        self.conflicts = 0
        self.waiting_since: float | None = None
        """Monotonic; set while storage does not take an entry."""
        self._lock = asyncio.Lock()
        self._queue: list[_Request] = []
        self._riders: deque[Filed | Settled] = deque()
        self._uncertain = False
        self._fresh_at = (0.0, 0)

    async def load(self) -> LedgerState:
        """Read the newest snapshot and the entries after it. Raises StorageError."""
        async with self._lock:
            await self._reload()
        return self.state

    async def refresh(self) -> None:
        """Read what others have appended since. Raises StorageError."""
        async with self._lock:
            await self._catch_up()

    def ride(self, operation: Filed | Settled) -> None:
        """Say this with the next entry. For what may be said again after a crash."""
        self._riders.append(operation)

    @property
    def riders(self) -> int:
        """Operations waiting for an entry to go with."""
        return len(self._riders)

    async def append(self, build: Build, *, subject: str) -> None:
        """Append what `build` returns, exactly once, and fold it; waits while storage is away.

        Builds with the same `subject` never share an entry, because each must see the other's
        effect. What `build` raises is raised here and appends nothing.
        """
        request = _Request(build, subject)
        self._queue.append(request)
        try:
            while not request.done:
                async with self._lock:
                    if not request.done:
                        await self._flush()
        finally:
            if request in self._queue:
                self._queue.remove(request)
        if request.error is not None:
            raise request.error

    async def flush_riders(self) -> None:
        """Append the riders now, if there are any."""
        async with self._lock:
            while self._riders:
                await self._flush()

    async def _flush(self) -> None:
        """Append one entry with everything that may share it; marks those requests done."""
        if self._uncertain or self._is_stale():
            await self._until_storage_answers(self._catch_up)
        while True:
            chosen, operations = self._collect()
            riders = list(islice(self._riders, _RIDERS_AT_ONCE))
            if not operations and (chosen or not riders):
                for request in chosen:
                    self._finish(request)
                return
            entry = Entry(
                shard=self.shard,
                n=self.state.n + 1,
                owner=self.owner,
                instance=self.instance,
                nonce=f"{self._rng.getrandbits(64):016x}",
                time=rfc3339(self._clock.time_ns()),
                operations=[*operations, *_merged(riders)],
            )
            self._uncertain = True  # until we know: a cancelled await leaves it so
            started = self._now()
            mine = await self._put(entry)
            if mine and not self._elapsed(started):
                self._fold(entry)
                self._uncertain = False
                self._fresh_at = self._now()
                for _ in riders:
                    self._riders.popleft()
                for request in chosen:
                    self._finish(request)
                return
            self.conflicts += not mine
            # A PUT that took that long may have filled a hole of compaction: what counts is what
            # a reader of the whole log sees.
            await self._until_storage_answers(self._reload if mine else self._catch_up)
            self._uncertain = False

    def _collect(self) -> tuple[list[_Request], list[Operation]]:
        chosen: list[_Request] = []
        subjects: set[str] = set()
        operations: list[Operation] = []
        for request in list(self._queue):
            if request.subject in subjects:
                continue
            try:
                built = request.build(self.state)
            except Exception as error:  # handed to whoever asked
                request.error = error
                self._finish(request)
                continue
            subjects.add(request.subject)
            chosen.append(request)
            operations.extend(built)
        return chosen, operations

    def _finish(self, request: _Request) -> None:
        request.done = True
        if request in self._queue:  # else who asked was cancelled while its entry was written
            self._queue.remove(request)

    async def _put(self, entry: Entry) -> bool:
        """Store the entry; False when this number is somebody else's. Waits for storage."""
        key = ledger_key(self.shard, entry.n)
        data = encode_entry(entry)
        mine = False

        async def put() -> None:
            nonlocal mine
            try:
                await self._storage.write(key, data, if_absent=True)
                mine = True
            except ObjectExistsError:
                try:
                    there = await self._storage.read(key)
                except ObjectNotFoundError:  # compacted away meanwhile: we are far behind
                    mine = False
                else:
                    mine = self._decode(key, there).nonce == entry.nonce

        await self._until_storage_answers(put)
        return mine

    async def _until_storage_answers(self, action: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(self._rng)
        while True:
            try:
                await action()
            except StorageError as error:
                if self.waiting_since is None:
                    self.waiting_since = self._clock.monotonic()
                    log.warning("the ledger waits for storage: %s", error)
                await self._clock.sleep(backoff.next())
            else:
                self.waiting_since = None
                return

    async def _reload(self) -> None:
        self.state = LedgerState()
        await self._take_snapshot()
        await self._catch_up()

    async def _take_snapshot(self) -> bool:
        """Go on to the newest readable snapshot; whether one is ahead of us."""
        snapshots = [
            n
            async for info in self._storage.list(f"{LEDGER}/{self.shard}/snapshot-")
            if (n := snapshot_number(info.key)) is not None
        ]
        for n in sorted(snapshots, reverse=True):
            if n <= self.state.n:
                break
            try:
                state = decode_snapshot(await self._storage.read(snapshot_key(self.shard, n)))
            except ObjectNotFoundError:
                continue  # deleted by a newer compaction since the listing
            except BadRecordError as error:
                log.error("ledger snapshot %d is passed over: %s", n, error)
                continue
            self.state = state
            self.snapshot_n = max(self.snapshot_n, n)
            return True
        return False

    async def _catch_up(self) -> None:
        """Fold what was appended after our head; from a snapshot where entries are gone."""
        looks = 0
        while True:
            before = self.state.n
            entries, newest = await self._listed()
            await self._fold_numbers(entries)
            missing = self.state.n + 1
            if newest >= missing and await self._take_snapshot():
                continue
            if newest < missing and (not entries or entries[-1] < missing):
                break
            # A listing may show an entry that was written while it ran and not the one before it.
            looks = looks + 1 if self.state.n == before else 0
            if looks >= _LOOKS:
                later = min((n for n in entries if n > missing), default=newest)
                raise LedgerBrokenError(
                    f"{LEDGER}/{self.shard}/: entry {missing} is missing before {later}, and no "
                    "snapshot that holds it is readable; restore it, or remove the folder to load "
                    "everything pending anew"
                )
        self._fresh_at = self._now()
        self._uncertain = False

    async def _listed(self) -> tuple[list[int], int]:
        """Numbers of the entries after our head, ascending, and of the newest snapshot."""
        entries: list[int] = []
        newest = 0
        async for info in self._storage.list(
            f"{LEDGER}/{self.shard}/", after=ledger_key(self.shard, self.state.n)
        ):
            number = snapshot_number(info.key)
            if number is not None:
                newest = max(newest, number)
            else:
                entries.append(self._number(info.key))
        self.snapshot_n = max(self.snapshot_n, newest)
        return entries, newest

    async def _fold_numbers(self, numbers: Sequence[int]) -> None:
        """Read and fold these entries, as far as they follow our head without a hole."""
        head = self.state.n
        following = [n for place, n in enumerate(numbers, head + 1) if n == place]
        now = self._clock.monotonic()
        for some in batched(following, _READS_AT_ONCE):
            keys = [ledger_key(self.shard, n) for n in some]
            read = await map_bounded(self._storage.read, keys, limit=_READS_AT_ONCE)
            for key, data in zip(keys, read, strict=True):
                entry = self._decode(key, data)
                self._fold(entry)
                self.seen[entry.owner, entry.instance] = now

    def _fold(self, entry: Entry) -> None:
        if self._listener is not None:
            self._listener(entry, self.state)
        self.state.apply(entry)

    def _decode(self, key: str, data: bytes) -> Entry:
        try:
            return decode_entry(data)
        except msgspec.DecodeError as error:
            raise LedgerBrokenError(
                f"ledger object {key} is not an entry of a ledger ({error}); a newer version may "
                "have written it, or something else"
            ) from error

    def _number(self, key: str) -> int:
        digits = key.rpartition("/")[2].removesuffix(".json")
        if not digits.isdigit():
            raise LedgerBrokenError(f"{key} is not a ledger object; remove it")
        return int(digits)

    def _now(self) -> tuple[float, int]:
        return self._clock.monotonic(), self._clock.time_ns()

    def _elapsed(self, since: tuple[float, int]) -> bool:
        """Whether more than STALE_AFTER passed. By both clocks: one stands still in a sleep."""
        monotonic, wall = self._now()
        return max(monotonic - since[0], (wall - since[1]) / 1e9) > STALE_AFTER

    def _is_stale(self) -> bool:
        return self._elapsed(self._fresh_at)


def _merged(riders: Sequence[Filed | Settled]) -> list[Operation]:
    ids = [name for rider in riders if isinstance(rider, Filed) for name in rider.ids]
    attempts = [a for rider in riders if isinstance(rider, Settled) for a in rider.attempts]
    merged: list[Operation] = []
    if ids:
        merged.append(Filed(ids=ids))
    if attempts:
        merged.append(Settled(attempts=attempts))
    return merged
