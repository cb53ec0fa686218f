"""Settle: what becomes of an object after it is loaded: moved, kept or deleted.

Nothing here is needed for exactly once: an object that still lies there is covered by the ledger,
found again by listing, and settled then. Only its digest is compared first: the same name with
other content is never moved over what was loaded.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping

from spanyard_core.errors import BadRecordError, DatabaseError, ObjectNotFoundError, StorageError
from spanyard_core.faults import fault_point
from spanyard_core.object_names import PENDING, ChunkName, PlainName, parse_key
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.copying import Copier
from spanyard_ingester.heads import read_facts
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Bad,
    Done,
    LoadedObject,
    Operation,
    Settled,
    processed_key,
    tail_of,
)
from spanyard_ingester.pending import Pending
from spanyard_ingester.planner import Ready, is_covered
from spanyard_ingester.rejects import Rejects, reject_of
from spanyard_ingester.settings import AfterLoad

log = logging.getLogger("spanyard.ingester")


def _writer(ready: Ready) -> str:
    return ready.facts.writer if ready.facts is not None else ""


class Settler:
    """Two queues: attempts just committed, and objects found covered."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        pending: Pending,
        rejects: Rejects,
        copier: Copier,
        *,
        after_load: AfterLoad,
        at_once: int,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._pending = pending
        self._rejects = rejects
        self._copier = copier
        self._after_load = after_load
        self._settling = asyncio.Lock()
        self._at_once = at_once
        self._loaded: deque[tuple[int, list[str]]] = deque()
        self._covered: deque[Ready] = deque()
        self._leftover: deque[tuple[int, dict[str, str]]] = deque()
        self.problem = ""

    def loaded(self, attempt: int, keys: Iterable[str]) -> None:
        """These objects were loaded (and verified) under this attempt."""
        self._loaded.append((attempt, list(keys)))

    def leftover(self, attempt: int, digests: Mapping[str, str]) -> None:
        """These were loaded before a crash, or by somebody else: each is compared first."""
        self._leftover.append((attempt, dict(digests)))

    def covered(self, ready: Ready) -> None:
        """This object needs no loading, says the ledger."""
        self._covered.append(ready)

    @property
    def waiting(self) -> int:
        """Attempts and objects that are not settled."""
        return len(self._loaded) + len(self._covered) + len(self._leftover)

    async def run_once(self) -> bool:
        """Settle what waits. False when storage failed: what is left waits for the next time."""
        async with self._settling:
            return await self._run_once()

    async def _run_once(self) -> bool:
        try:
            # Who asks how far a file is stored looks at pending objects, then at the ledger's
            # copy: an object must be in the one before it leaves the other. Attempts are added
            # while others are moved here, so it is copied ahead of each.
            await self._copier.run_once()
            while self._loaded:
                attempt, keys = self._loaded[0]
                await self._copier.run_once()
                await map_bounded(self._settle, keys, limit=self._at_once)
                self._loaded.popleft()
                self._ledger.ride(Settled(attempts=[attempt]))
                fault_point("ingest.moved")
            while self._leftover:
                attempt, digests = self._leftover[0]
                await self._copier.run_once()
                for key in digests:
                    await self._settle_leftover(key)
                self._leftover.popleft()
                self._ledger.ride(Settled(attempts=[attempt]))
            while self._covered:
                some = [self._covered[i] for i in range(min(self._at_once, len(self._covered)))]
                await self._copier.run_once()
                await map_bounded(self._settle_covered, some, limit=self._at_once)
                for _ in some:
                    self._covered.popleft()
        except (StorageError, DatabaseError) as error:
            if not self.problem:
                log.warning("loaded objects cannot be moved yet, trying again: %s", error)
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    async def _settle(self, key: str) -> None:
        if key.startswith(f"{PENDING}/"):
            try:
                if self._after_load == "move":
                    await self._storage.move(key, processed_key(key))
                elif self._after_load == "delete" and not self._is_read_again(key):
                    await self._storage.delete(key)
            except ObjectNotFoundError:
                log.debug("%s is gone: another ingester settled it", key)
        self._pending.forget(key)

    async def _settle_leftover(self, key: str) -> None:
        if not key.startswith(f"{PENDING}/") or self._after_load == "keep":
            return
        ready = Ready(key, parse_key(key), 0, 0.0)
        if not is_covered(ready, self._ledger.state):
            return  # forgotten since: the ledger has its key, to be loaded from where it lies
        if isinstance(ready.name, ChunkName):
            try:
                ready.facts = await read_facts(self._storage, key)
            except ObjectNotFoundError:
                return
            except BadRecordError as error:
                self._rejects.add(reject_of(key, ready.name, str(error)))
                return
        await self._settle_covered(ready)

    async def _settle_covered(self, ready: Ready) -> None:
        key = ready.key
        if not is_covered(ready, self._ledger.state):
            self._pending.retry(ready)  # forgotten since, too
            return
        try:
            mine = await self._digest(key, ready)
        except ObjectNotFoundError:
            self._pending.forget(key)
            return
        processed = await self._processed_digest(ready)
        stored = self._ledger.state.digests.get(key) or processed
        if key in self._ledger.state.reload or not key.startswith(f"{PENDING}/"):
            await self._reloaded(ready, mine)
        elif stored is not None and stored != mine:
            reason = (
                f"an object of this name was loaded with the digest {stored[:12]}…, this one has "
                f"{mine[:12]}…"
            )
            log.error("%s: %s", key, reason)
            self._rejects.add(
                reject_of(key, ready.name, reason, size=ready.size, facts=ready.facts)
            )
        elif self._after_load == "keep" or self._is_read_again(key):
            self._pending.forget(key)
        elif processed is not None or (stored is not None and self._after_load == "delete"):
            await self._storage.delete(key)  # the copy that was loaded is there, or unwanted too
            self._pending.forget(key)
        else:
            # Also in the mode `delete`: what cannot be compared is not deleted.
            try:
                await self._storage.move(key, processed_key(key))
            except ObjectNotFoundError:
                log.debug("%s is gone: another ingester settled it", key)
            self._pending.forget(key)

    def _is_read_again(self, key: str) -> bool:
        """Whether quarantine rows are still to be made from the object's bad lines.

        It is not deleted before; a listing finds it again.
        """
        tail = tail_of(key)
        return self._after_load == "delete" and any(
            isinstance(item, Bad) and tail_of(item.key) == tail
            for item in self._ledger.state.unfiled.values()
        )

    async def _reloaded(self, ready: Ready, digest: str) -> None:
        """A rebuild's object, all of whose records have come from others: it stays where it is."""
        attempt = self._ledger.state.floor + 1  # no row carries it
        item = LoadedObject(
            key=ready.key,
            size=ready.size,
            sha256=digest,
            project=ready.name.project,
            writer=ready.name.writer if isinstance(ready.name, PlainName) else _writer(ready),
            first=ready.name.first if isinstance(ready.name, ChunkName) else 1,
            last=ready.name.last if isinstance(ready.name, ChunkName) else 0,
        )

        def build(state: LedgerState) -> list[Operation]:
            if ready.key not in state.reload or not is_covered(ready, state):
                return []
            return [Done(attempt=attempt, table=ready.table, objects=[item])]

        await self._ledger.append(build, subject=f"reloaded {ready.key}")
        if ready.key in self._ledger.state.reload:
            self._pending.retry(ready)  # forgotten once more
            return
        self._ledger.ride(Settled(attempts=[attempt]))
        self._pending.forget(ready.key)

    async def _digest(self, key: str, ready: Ready) -> str:
        """Of a chunk the digest it declares (checked when it was loaded), else that of its bytes."""
        if isinstance(ready.name, ChunkName):
            if ready.facts is not None and key == ready.key:
                return ready.facts.sha256
            return (await read_facts(self._storage, key)).sha256
        return await self._storage.digest(key)

    async def _processed_digest(self, ready: Ready) -> str | None:
        try:
            return await self._digest(processed_key(ready.key), ready)
        except ObjectNotFoundError:
            return None
        except BadRecordError:
            return "unreadable"
