"""Erase: deletion on demand by project, trace or attribute (I7, privacy).

Rows, objects and quarantine: everything that would bring the data back. Objects that hold other
records too are rewritten without those lines, under their names; objects of a whole project are
deleted. The ledger says what was asked for and when it was done, without the data itself.

A whole project's pending objects are deleted too; of a trace or attribute only what is loaded:
what is still on its way then belongs to a later deletion, and is counted.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import msgspec

from spanyard_core.chunks import MAX_DECODED_BYTES, ChunkWriter, decode_facts, decoded_blocks
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import (
    PENDING,
    PROCESSED,
    QUARANTINE,
    PlainName,
    check_project,
    parse_key,
    writer_hash,
)
from spanyard_core.records import LINE_TYPES, SIGNALS
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import Erase as EraseOperation
from spanyard_ingester.planner import Ready, is_covered
from spanyard_ingester.splitter import LineSplitter
from spanyard_ingester.stored_rows import Scope, StoredRows
from spanyard_ingester.unsettled import Unsettled

log = logging.getLogger("spanyard.ingester")

_REQUESTS = 16
_WAIT = 0.5
_ROUNDS = 60


@dataclass(slots=True)
class Erased:
    """What a deletion found (and, unless it was a dry run, deleted)."""

    rows: dict[str, int] = field(default_factory=dict)
    """By table, the quarantine among them."""
    objects: int = 0
    """Deleted whole."""
    rewritten: int = 0
    """Kept without some of their lines."""
    pending: int = 0
    """Objects of the project that are not loaded yet and were not looked into."""


class Eraser:
    """Deletes on demand. Each call may be repeated; what is gone is found no more."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        rows: StoredRows,
        clock: Clock,
        rng: Random,
        unsettled: Unsettled,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._rows = rows
        self._clock = clock
        self._rng = rng
        self._unsettled = unsettled

    async def run(self, scope: Scope, *, dry_run: bool = False) -> Erased:
        """Delete what is in the scope, or count it.

        Raises BadRecordError for a project that is none, StorageError and DatabaseError (call it
        again: the deletion is then incomplete).
        """
        check_project(scope.project)
        result = Erased(rows=await self._rows.count(scope))
        if dry_run:
            await self._objects(scope, result, dry_run=True)
            return result
        name = f"{self._rng.getrandbits(62):x}"
        await self._say(name, scope, result, complete=False)
        # Objects first: what is deleted from the table only would come back with a rebuild.
        await self._objects(scope, result, dry_run=False)
        await self._until_nothing_is_under_way(scope)
        await self._rows.delete(scope)
        await self._say(name, scope, result, complete=True)
        return result

    async def _say(self, name: str, scope: Scope, result: Erased, *, complete: bool) -> None:
        operation = EraseOperation(
            id=name,
            scope=str(scope),
            rows=sum(result.rows.values()),
            objects=result.objects + result.rewritten,
            complete=complete,
        )
        # Said twice after a lost answer, it does no harm: it is there to be read.
        await self._ledger.append(lambda state: [operation], subject=f"erase {name}")

    async def _until_nothing_is_under_way(self, scope: Scope) -> None:
        """A batch that is being inserted would bring its rows after the deletion."""
        for _ in range(_ROUNDS):
            await self._ledger.refresh()
            if not any(
                item.project == scope.project
                for opened in self._ledger.state.open.values()
                for item in opened.plan.objects
            ):
                return
            await self._clock.sleep(_WAIT)
        log.warning("deleting %s while batches of it are under way; delete again later", scope)

    async def _objects(self, scope: Scope, result: Erased, *, dry_run: bool) -> None:
        if scope.is_whole_project:
            for root in (PENDING, PROCESSED, QUARANTINE):
                for signal in SIGNALS:
                    keys = [
                        info.key
                        async for info in self._storage.list(f"{root}/{signal}/{scope.project}/")
                    ]
                    result.objects += len(keys)
                    if not dry_run:
                        await map_bounded(self._storage.delete, keys, limit=_REQUESTS)
            return
        for signal in LINE_TYPES:
            found = await self._rows.find(signal, scope)
            seqs = {writer_hash(writer): frozenset(mine) for writer, mine in found.items()}
            for root in (PENDING, PROCESSED):  # as they move: none passes by unseen
                async for info in self._storage.list(f"{root}/{signal}/{scope.project}/"):
                    await self._object(info.key, seqs, scope, result, dry_run=dry_run)

    async def _object(
        self,
        key: str,
        seqs: dict[str, frozenset[int]],
        scope: Scope,
        result: Erased,
        *,
        dry_run: bool,
    ) -> None:
        """Rewrite one loaded object without the lines in the scope, if it has any."""
        try:
            name = parse_key(key)
        except BadRecordError:
            return
        if name.root == PENDING and not is_covered(Ready(key, name, 0, 0.0), self._ledger.state):
            result.pending += 1
            return
        if isinstance(name, PlainName):
            mine = seqs.get(writer_hash(name.writer), frozenset())
        else:
            mine = frozenset(
                seq for seq in seqs.get(name.writer_hash, ()) if name.first <= seq <= name.last
            )
        if not mine:
            return
        if name.root == PENDING and not dry_run:
            # Moved between the read and the write, it would be there twice, and whole once.
            await self._unsettled.wait([key])
        try:
            data = await self._storage.read(key)
            rest = (
                _without_plain(data, mine) if isinstance(name, PlainName) else _without(data, scope)
            )
        except ObjectNotFoundError:
            return
        except BadRecordError as error:
            log.warning("%s cannot be read for a deletion: %s", key, error)
            return
        result.rewritten += bool(rest)
        result.objects += not rest
        if dry_run:
            return
        if rest:
            await self._storage.write(key, rest)
        else:
            await self._storage.delete(key)


def _without_plain(data: bytes, numbers: frozenset[int]) -> bytes:
    """A plain object without these lines; empty when nothing else is left."""
    kept = [line for n, line in enumerate(data.split(b"\n"), 1) if n not in numbers]
    return b"\n".join(kept) if any(line.strip() for line in kept) else b""


def _without(data: bytes, scope: Scope) -> bytes:
    """A chunk without the records in the scope; empty when nothing else is left."""
    facts, at = decode_facts(data)
    out = ChunkWriter()
    for line in _lines(data[at:]):
        if not _holds(scope, line):
            out.add(line + b"\n", 1)
    if not out.records:
        return b""
    _, parts = out.finish(
        signal=facts.signal,
        project=facts.project,
        writer=facts.writer,
        first=facts.first,
        last=facts.last,
        time_ns=facts.time_ns,
        source=facts.source,
    )
    return b"".join(parts)


def _holds(scope: Scope, line: bytes) -> bool:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = line.decode("utf-8", "replace")
        return any(pattern in text for pattern in scope.patterns)
    return isinstance(value, dict) and scope.holds(value)


def _lines(payload: bytes) -> Iterator[bytes]:
    splitter = LineSplitter(MAX_DECODED_BYTES)
    for block in decoded_blocks(payload):
        for line in splitter.feed(block):
            yield line.data or b""
    rest = splitter.finish()
    if rest is not None:
        yield rest.data or b""
