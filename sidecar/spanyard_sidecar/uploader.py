"""The uploader: entries of the spool to storage, oldest first, for ever.

Four entries are under way at a time, but the objects of one writer (with the lines about it) keep
their order, so that what is stored of a writer is always a prefix, and a begin line comes before
its first chunk. A put is create-if-absent: one that finds its own bytes there is a success, so
every step may be repeated after a crash at any point.

Retries have no limit on purpose: the spool has one, and the reader stops when it is full.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from spanyard_core.clock import Clock
from spanyard_core.errors import ObjectExistsError, SpanyardError, StorageRefusedError
from spanyard_core.faults import fault_point
from spanyard_core.retry import Backoff
from spanyard_core.storage import Storage, digest_of
from spanyard_sidecar.amends import Amends
from spanyard_sidecar.entries import DamagedEntryError, EntryHead, SpooledObject
from spanyard_sidecar.gaps import Book
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.rekey import base_of, needs_rekey, rekeyed
from spanyard_sidecar.spool import OpenEntry

log = logging.getLogger("spanyard.sidecar")

CONCURRENCY = 4
HURRIED_PAUSE = 1.0
"""Most seconds between two tries once the collector has begun to end: its grace period is shorter
than a pause of the usual back-off may be, and storage may just have come back."""


class Hinter(Protocol):
    """Tells the gateway about new objects, best effort."""

    def tell(self, keys: Sequence[str]) -> None:
        """These objects are there. Returns at once, raises nothing."""
        ...


class Uploader:
    """Sends entries; `uploaded` is called with the head of each that is in storage."""

    def __init__(
        self,
        book: Book,
        storage: Storage,
        *,
        clock: Clock,
        rng: Random,
        metrics: CollectorMetrics,
        hinter: Hinter | None = None,
        uploaded: Callable[[EntryHead], None] | None = None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._book = book
        self._spool = book.spool
        self._storage = storage
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._hinter = hinter
        self._uploaded = uploaded
        self._concurrency = concurrency
        self._amends = Amends(book, clock, rng, metrics)
        self._seldom = Seldom(clock.monotonic)
        self._claiming = asyncio.Lock()
        self._claimed: set[int] = set()
        self._last: dict[str, asyncio.Event] = {}
        """Writer → set when the newest claimed entry with something of it has stored that."""
        self._settled = asyncio.Event()
        self._hurried = asyncio.Event()
        self.trouble = ""
        """What storage says, while it does not take uploads; empty when it does."""

    async def run(self) -> None:
        """Upload, for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._concurrency):
                group.create_task(self._work(), name=f"uploader {number + 1}")

    async def idle(self) -> None:
        """Return when nothing waits any more."""
        while self._spool.pending:
            self._settled.clear()
            await self._settled.wait()

    def hurry(self) -> None:
        """The collector ends: try again at once, and from now on after short pauses."""
        self._hurried.set()

    async def _pause(self, seconds: float) -> None:
        if self._hurried.is_set():
            await self._clock.sleep(min(seconds, HURRIED_PAUSE))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _work(self) -> None:
        while True:
            await self._send(await self._claim())

    async def _claim(self) -> "_Sending":
        """The oldest entry that nobody works on. Claims come one by one, in order."""
        async with self._claiming:
            backoff = Backoff(self._rng)
            while True:
                # The unclaimed ones are at the end, behind at most a handful.
                n = next((n for n in self._spool.pending if n not in self._claimed), None)
                if n is None:
                    self._spool.arrived.clear()
                    await self._spool.arrived.wait()
                    continue
                try:
                    return self._begin(n)
                except DamagedEntryError as error:
                    await self._amends.lost_entry(error)
                    self._spool.set_aside(n)
                except OSError as error:
                    self._complain("disk", f"spool entry {n} cannot be read: {error}")
                    await self._pause(backoff.next())

    def _begin(self, n: int) -> "_Sending":
        with self._spool.opened(n) as entry:
            head = entry.head
        self._claimed.add(n)
        turns: dict[str, _Turn] = {}
        for writer in head.writers:
            base = base_of(writer)
            if base not in turns:
                turns[base] = _Turn(self._last.get(base))
                self._last[base] = turns[base].done
        for item in head.objects:
            turns[base_of(item.facts.writer)].left += 1
        return _Sending(head, turns)

    async def upload(self, n: int) -> None:
        """Store entry `n` whole and mark it. Raises DamagedEntryError, OSError."""
        await self._send(self._begin(n))

    async def _send(self, sending: "_Sending") -> None:
        n = sending.head.n
        backoff = Backoff(self._rng)
        try:
            while True:
                try:
                    with self._spool.opened(n) as entry:
                        await self._send_objects(entry, sending)
                    self._spool.mark_stored(n)
                    break
                except OSError as error:
                    self._complain("disk", f"spool entry {n}: {error}")
                    await self._pause(backoff.next())
        finally:
            self._claimed.discard(n)
            for base, turn in sending.turns.items():
                turn.done.set()
                if self._last.get(base) is turn.done:
                    del self._last[base]
        if self._uploaded is not None:
            self._uploaded(sending.head)
        if self._hinter is not None:
            self._hinter.tell(sending.keys)
        self._settled.set()

    async def _send_objects(self, entry: OpenEntry, sending: "_Sending") -> None:
        objects = sending.head.objects
        while sending.position < len(objects):
            item = objects[sending.position]
            turn = sending.turns[base_of(item.facts.writer)]
            await turn.before()
            await self._send_object(entry, item, sending)
            sending.position += 1
            turn.left -= 1
            if not turn.left:
                turn.done.set()
        for turn in sending.turns.values():
            await turn.before()  # of some, only the state is here

    async def _send_object(
        self, entry: OpenEntry, item: SpooledObject, sending: "_Sending"
    ) -> None:
        try:
            data = entry.read(item)
        except DamagedEntryError as error:
            await self._amends.lost_object(item, error)
            return
        n = entry.head.n
        while True:
            key, facts, body = item.key, item.facts, data
            renames = self._spool.fold.renames
            if needs_rekey(facts.writer, facts.first, n, renames):
                new = rekeyed(data, n, renames)
                key, facts, body = new.key, new.facts, b"".join(new.parts)
            if await self._put(key, body):
                break
            added = await self._amends.new_name(entry, item, facts.writer, facts.first, key)
            await self.upload(added)  # the begin line goes first
        sending.keys.append(key)
        self._metrics.objects.labels(facts.signal).inc()
        self._metrics.object_bytes.inc(len(body))

    async def _put(self, key: str, data: bytes) -> bool:
        """Whether `key` holds our bytes now; False when it holds others."""
        backoff = Backoff(self._rng)
        while True:
            try:
                try:
                    await self._storage.write(key, data, if_absent=True)
                    fault_point("upload.done")
                except ObjectExistsError:
                    if await self._storage.digest(key) != digest_of(data):
                        return False
                    self._metrics.known_objects.inc()
            except StorageRefusedError as error:
                # Waiting rarely mends this, a person does; the data stays safe here until then.
                self._failed("refused", f"storage refuses uploads: {error}")
            except SpanyardError as error:
                self._failed("error", f"storage does not take uploads: {error}")
            except OSError as error:
                self._failed("error", f"storage does not take uploads: {error}")
            else:
                self.trouble = ""
                fault_point("upload.known")
                return True
            await self._pause(backoff.next())

    def _failed(self, kind: str, text: str) -> None:
        self.trouble = text
        self._metrics.upload_errors.labels(kind).inc()
        self._complain(kind, text)

    def _complain(self, subject: str, text: str) -> None:
        count = self._seldom(subject)
        if count is not None:
            log.error("%s", text, extra={"fields": {"times": count}} if count > 1 else None)


class _Turn:
    """One writer's place in the order of entries."""

    __slots__ = ("_before", "done", "left")

    def __init__(self, before: asyncio.Event | None) -> None:
        self._before = before
        self.done = asyncio.Event()
        self.left = 0

    async def before(self) -> None:
        """Wait until earlier entries have stored what they hold of the writer."""
        if self._before is not None:
            await self._before.wait()
            self._before = None


class _Sending:
    """An entry under way, and how far it is: an error of the disk goes on where it was."""

    __slots__ = ("head", "keys", "position", "turns")

    def __init__(self, head: EntryHead, turns: dict[str, _Turn]) -> None:
        self.head = head
        self.turns = turns
        self.position = 0
        self.keys: list[str] = []
