"""Filing: quarantine rows for what the ledger says is bad, and the move of rejected objects.

The ledger's entry comes first, the rows are made from it as often as needed: ids are the same
each time, the raw bytes are read from the object again. One object that cannot be read or moved
just now is put off, and the others go on.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from spanyard_core.clock import Clock
from spanyard_core.errors import ObjectNotFoundError, StorageError
from spanyard_core.object_names import PROCESSED
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import Bad, Filed, Reject, quarantine_key
from spanyard_ingester.raw import RawReader
from spanyard_ingester.warehouse import QuarantineRow, QuarantineStatus, Warehouse

log = logging.getLogger("spanyard.ingester")

_AT_ONCE = 200
_PUT_OFF = 5.0
_PUT_OFF_MOST = 300.0
"""Seconds until an object is tried again that could not be read or moved, doubled each time."""
_FAILURES_IN_A_ROW = 3
"""After which it is storage that is away, and not one object that cannot be read."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(ns: int) -> datetime:
    """Nanoseconds since the epoch as a datetime (microseconds)."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


class Filer:
    """Works through `LedgerState.unfiled`."""

    def __init__(
        self,
        storage: Storage,
        warehouse: Warehouse,
        ledger: Ledger,
        clock: Clock,
        *,
        max_object: int,
        at_once: int,
    ) -> None:
        self._storage = storage
        self._warehouse = warehouse
        self._ledger = ledger
        self._clock = clock
        self.raw = RawReader(storage, clock, max_object=max_object)
        self._requests = at_once
        self._filing = asyncio.Lock()
        self._told: set[str] = set()
        """Filed, though the ledger's entry that says so is still to come."""
        self._put_off: dict[str, tuple[float, float]] = {}
        """Key → when it is tried again, monotonic seconds, and how long it was put off."""

    @property
    def waiting(self) -> int:
        """Things without a quarantine row that can be filed now."""
        return sum(self._is_due(item.key) for _, item in self._unfiled())

    @property
    def unfiled(self) -> int:
        """Things without a quarantine row."""
        return len(self._unfiled())

    @property
    def put_off(self) -> int:
        """Objects that could not be read or moved when they were tried last."""
        return len(self._put_off)

    @property
    def next_due(self) -> float | None:
        """Seconds until one of those is tried again; None when there is none."""
        if not self._put_off:
            return None
        return max(min(due for due, _ in self._put_off.values()) - self._clock.monotonic(), 0.0)

    def _unfiled(self) -> list[tuple[str, Reject | Bad]]:
        unfiled = self._ledger.state.unfiled
        return [(name, item) for name, item in unfiled.items() if name not in self._told]

    def _is_due(self, key: str) -> bool:
        return key not in self._put_off or self._put_off[key][0] <= self._clock.monotonic()

    def _later(self, key: str, error: StorageError) -> None:
        _, before = self._put_off.get(key, (0.0, 0.0))
        delay = min(max(2 * before, _PUT_OFF), _PUT_OFF_MOST)
        self._put_off[key] = (self._clock.monotonic() + delay, delay)
        if not before:
            log.warning("%s waits for its quarantine rows, trying again: %s", key, error)

    async def run_once(self, only: Collection[str] | None = None) -> int:
        """File some of what waits (or what is named); how many.

        Raises DatabaseError, and StorageError when nothing could be filed; what was not filed
        waits for the next time.
        """
        async with self._filing:
            return await self._run_once(only)

    async def _run_once(self, only: Collection[str] | None) -> int:
        self._forget_filed()
        chosen = [
            (name, item)
            for name, item in self._unfiled()
            if self._is_due(item.key) and (only is None or name in only)
        ][:_AT_ONCE]
        texts, error = await self._texts(chosen)
        chosen = [(name, item) for name, item in chosen if name in texts]
        if not chosen:
            if error is not None:
                raise error
            return 0
        rows = self._rows(chosen, texts)
        if any(row.size and not row.bytes for row in rows):
            # The object is gone: another ingester may have filed it, and then deleted it. His rows
            # have the text.
            await self._ledger.refresh()
            unfiled = self._ledger.state.unfiled
            chosen = [(name, item) for name, item in chosen if name in unfiled]
            rows = [row for row in rows if row.id in unfiled]
        await self._warehouse.quarantine_add(rows)
        rejects = [item for _, item in chosen if isinstance(item, Reject)]
        errors = await map_bounded(self._move, rejects, limit=self._requests)
        stay = {item.id: error for item, error in zip(rejects, errors, strict=True) if error}
        filed = [name for name, _ in chosen if name not in stay]
        if stay and not filed:
            raise next(iter(stay.values()))
        self._told.update(filed)
        self._ledger.ride(Filed(ids=filed))
        return len(filed)

    async def run_through(self, only: Collection[str] | None = None) -> None:
        """File all of it."""
        while await self.run_once(only):
            pass

    def _forget_filed(self) -> None:
        self._told.intersection_update(self._ledger.state.unfiled)
        if self._put_off:  # another ingester may have filed them
            keys = {item.key for _, item in self._unfiled()}
            for key in self._put_off.keys() - keys:
                del self._put_off[key]

    async def _texts(
        self, chosen: Sequence[tuple[str, Reject | Bad]]
    ) -> tuple[dict[str, bytes], StorageError | None]:
        """Id → raw bytes of what can be read now; and the last error of what cannot."""
        by_key: dict[str, list[tuple[str, Reject | Bad]]] = {}
        for name, item in chosen:
            by_key.setdefault(item.key, []).append((name, item))
        texts: dict[str, bytes] = {}
        failed: StorageError | None = None
        in_a_row = 0
        for key, items in by_key.items():
            if in_a_row >= _FAILURES_IN_A_ROW:
                break
            try:
                texts.update(await self._texts_of(key, items))
            except StorageError as error:
                self._later(key, error)
                failed = error
                in_a_row += 1
            else:
                in_a_row = 0
        return texts, failed

    async def _texts_of(
        self, key: str, items: Sequence[tuple[str, Reject | Bad]]
    ) -> dict[str, bytes]:
        texts = dict.fromkeys((name for name, _ in items), b"")
        lines = [line for _, item in items if isinstance(item, Bad) for line in item.lines]
        if lines:
            texts.update(await self.raw.lines(key, lines))
        for name, item in items:
            if isinstance(item, Reject):
                texts[name] = await self.raw.head(key)
        return texts

    def _rows(
        self, chosen: Sequence[tuple[str, Reject | Bad]], texts: Mapping[str, bytes]
    ) -> list[QuarantineRow]:
        now = utc(self._clock.time_ns())
        rows = []
        for name, item in chosen:
            if isinstance(item, Reject):
                rows.append(
                    QuarantineRow(
                        id=name,
                        project=item.project,
                        signal=item.signal,
                        key=item.key,
                        writer=item.writer,
                        reason=item.reason,
                        bytes=texts[name],
                        size=item.size,
                        status=self._status(name),
                        created_at=now,
                        updated_at=now,
                    )
                )
                continue
            line = item.lines[0]
            rows.append(
                QuarantineRow(
                    id=name,
                    project=item.project,
                    signal=item.signal,
                    key=item.key,
                    writer=item.writer,
                    line=line.line,
                    offset=line.offset,
                    reason=line.reason,
                    bytes=texts[name],
                    size=line.size,
                    status=self._status(name),
                    created_at=now,
                    updated_at=now,
                )
            )
        return rows

    def _status(self, name: str) -> QuarantineStatus:
        state = self._ledger.state
        if name in state.deleted:
            return "deleted"
        return "replayed" if name in state.replayed else "open"

    async def _move(self, reject: Reject) -> StorageError | None:
        if reject.key.startswith(f"{PROCESSED}/"):
            return None  # found bad by a rebuild: it stays where rebuilds look
        if reject.id in self._ledger.state.replayed:
            return None  # another ingester moved it, and then it was sent back to be loaded
        try:
            await self._storage.move(reject.key, await self._free_place(reject.key))
        except ObjectNotFoundError:
            log.debug("%s is gone: it was moved or deleted meanwhile", reject.key)
        except StorageError as error:
            self._later(reject.key, error)
            return error
        return None

    async def _free_place(self, key: str) -> str:
        """Where in quarantine it goes: never over another object of the same name."""
        target = quarantine_key(key)
        try:
            there = await self._storage.digest(target)
            mine = await self._storage.digest(key)
        except ObjectNotFoundError:
            return target
        return target if there == mine else f"{target}.{mine[:8]}"
