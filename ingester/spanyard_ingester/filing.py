"""Filing: quarantine rows for what the ledger says is bad, and the move of rejected objects.

The ledger's entry comes first, the rows are made from it as often as needed: ids are the same
each time, the raw bytes are read from the object again.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from spanyard_core.chunks import FRAME_MAGIC, decoded_blocks
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import PROCESSED
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import (
    Bad,
    BadLine,
    Filed,
    Reject,
    pending_key,
    processed_key,
    quarantine_key,
)
from spanyard_ingester.warehouse import QuarantineRow, QuarantineStatus, Warehouse

log = logging.getLogger("spanyard.ingester")

PREVIEW_BYTES = 64 * 1024
_AT_ONCE = 200
_READ_BYTES = 4 * 1024 * 1024
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
        self._max_object = max_object
        self._requests = at_once
        self._filing = asyncio.Lock()
        self._told: set[str] = set()
        """Filed, though the ledger's entry that says so is still to come."""
        self.problem = ""

    @property
    def waiting(self) -> int:
        """Things without a quarantine row."""
        return sum(name not in self._told for name in self._ledger.state.unfiled)

    async def run_once(self, only: Collection[str] | None = None) -> int:
        """File some of what waits (or what is named); how many.

        Raises DatabaseError and StorageError; what was not filed waits for the next time.
        """
        async with self._filing:
            return await self._run_once(only)

    async def _run_once(self, only: Collection[str] | None) -> int:
        unfiled = self._ledger.state.unfiled
        self._told.intersection_update(unfiled)
        chosen = [
            (name, item)
            for name, item in unfiled.items()
            if name not in self._told and (only is None or name in only)
        ][:_AT_ONCE]
        if not chosen:
            return 0
        rows = await self._rows(chosen)
        if any(row.size and not row.bytes for row in rows):
            # The object is gone: another ingester may have filed it, and then deleted it. His rows
            # have the text.
            await self._ledger.refresh()
            unfiled = self._ledger.state.unfiled
            chosen = [(name, item) for name, item in chosen if name in unfiled]
            rows = [row for row in rows if row.id in unfiled]
        await self._warehouse.quarantine_add(rows)
        rejects = [item for _, item in chosen if isinstance(item, Reject)]
        await map_bounded(self._move, rejects, limit=self._requests)
        self._told.update(name for name, _ in chosen)
        self._ledger.ride(Filed(ids=[name for name, _ in chosen]))
        return len(chosen)

    async def run_through(self, only: Collection[str] | None = None) -> None:
        """File all of it."""
        while await self.run_once(only):
            pass

    async def _rows(self, chosen: Sequence[tuple[str, Reject | Bad]]) -> list[QuarantineRow]:
        now = utc(self._clock.time_ns())
        by_key: dict[str, list[BadLine]] = {}
        for _, item in chosen:
            if isinstance(item, Bad):
                by_key.setdefault(item.key, []).extend(item.lines)
        texts: dict[str, bytes] = {}
        for key, lines in by_key.items():
            texts.update(await self.raw_lines(key, lines))
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
                        bytes=await self._head(item.key),
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
                    bytes=texts.get(name, b""),
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

    async def _head(self, key: str) -> bytes:
        for place in (key, quarantine_key(key)):
            try:
                return await self._storage.read(place, length=PREVIEW_BYTES)
            except ObjectNotFoundError:
                continue
        return b""

    async def _move(self, reject: Reject) -> None:
        if reject.key.startswith(f"{PROCESSED}/"):
            return  # found bad by a rebuild: it stays where rebuilds look
        if reject.id in self._ledger.state.replayed:
            return  # another ingester moved it, and then it was sent back to be loaded
        try:
            await self._storage.move(reject.key, await self._free_place(reject.key))
        except ObjectNotFoundError:
            log.debug("%s is gone: it was moved or deleted meanwhile", reject.key)

    async def _free_place(self, key: str) -> str:
        """Where in quarantine it goes: never over another object of the same name."""
        target = quarantine_key(key)
        try:
            there = await self._storage.digest(target)
            mine = await self._storage.digest(key)
        except ObjectNotFoundError:
            return target
        return target if there == mine else f"{target}.{mine[:8]}"

    async def raw_lines(
        self, key: str, lines: Iterable[BadLine], *, most: int = PREVIEW_BYTES
    ) -> dict[str, bytes]:
        """Id → the first `most` bytes of each of these lines, from wherever the object is now."""
        wanted = sorted(lines, key=lambda line: line.offset)
        for place in dict.fromkeys(
            (key, pending_key(key), processed_key(key), quarantine_key(key))
        ):
            try:
                return await self._read_lines(place, wanted, most)
            except ObjectNotFoundError:
                continue
        return {}

    async def _read_lines(self, key: str, wanted: Sequence[BadLine], most: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {line.id: b"" for line in wanted}
        if key.endswith(".jsonl"):
            for line in wanted:
                length = min(line.size, most)
                found[line.id] = await self._storage.read(key, start=line.offset, length=length)
            return found
        data = await self._storage.read(key, length=self._max_object)
        if data[:4] != FRAME_MAGIC:
            return found
        at = 0
        open_lines = list(wanted)
        try:
            for block in decoded_blocks(data):
                end = at + len(block)
                going_on = []
                for line in open_lines:
                    stop = line.offset + min(line.size, most)
                    piece = block[max(line.offset - at, 0) : max(stop - at, 0)]
                    found[line.id] += piece
                    if stop > end:
                        going_on.append(line)
                open_lines = going_on
                at = end
                if not open_lines:
                    break
                await self._clock.sleep(0)
        except BadRecordError:
            log.warning("%s cannot be read to the end for its quarantine rows", key)
        return found
