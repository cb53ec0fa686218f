"""Prune: retention by age. What a source of records left goes when all of it is old enough (I7).

The unit is a writer (a container's run, a span file, a signal of a pod's OTLP): it goes with all of
its rows, objects, told losses and quarantined lines, or stays whole. So the proof says afterwards
of the rest exactly what it said before; to take single rows would look like a loss. A writer that
has not ended stays, however old its first record is, and so does one that has objects which are not
loaded yet. Age is when records were collected, not the time that an application wrote into them: a
wrong clock must not delete anything.

The ledger keeps its entries: it knows which objects were loaded, also when they are gone.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from spanyard_core.clickhouse import Database
from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import (
    PENDING,
    PROCESSED,
    QUARANTINE,
    ChunkName,
    check_project,
    parse_key,
    writer_hash,
)
from spanyard_core.records import SIGNALS, Signal
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import Erase as EraseOperation
from spanyard_ingester.planner import Ready, is_covered

log = logging.getLogger("spanyard.ingester")

_REQUESTS = 16
_AT_ONCE = 500
"""Writers in one statement."""
_META = "/meta"


@dataclass(frozen=True, slots=True)
class PruneScope:
    """What may go."""

    project: str
    before_ns: int
    """Nanoseconds since the epoch: collected before then."""
    signals: Sequence[Signal] = ("logs", "spans", "traces", "metrics", "scores")

    def __str__(self) -> str:
        return f"{', '.join(self.signals)} of {self.project} before {self.before_ns}"


@dataclass(slots=True)
class Pruned:
    """What was found (and, unless it was a dry run, deleted)."""

    writers: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """By table, `gaps` and `quarantine` among them."""
    objects: int = 0
    size: int = 0
    """Bytes of them."""
    running: int = 0
    """Writers that are old enough and have not ended: they stay."""
    waiting: int = 0
    """Writers with objects that are not loaded yet: they stay."""


class WriterRows(Protocol):
    """Rows by writer. Raises DatabaseError and DatabaseUnavailableError."""

    async def old(self, signal: Signal, project: str, before_ns: int) -> dict[str, int]:
        """Writers whose last record was collected before then → their rows; none where only their
        lives are left, by a deletion that was interrupted."""
        ...

    async def ended(self, project: str) -> set[str]:
        """Writers whose last word on themselves is an end."""
        ...

    async def count(self, table: str, project: str, writers: Sequence[str]) -> int:
        """Rows of these writers."""
        ...

    async def delete(self, table: str, project: str, writers: Sequence[str]) -> None:
        """Delete the rows of these writers."""
        ...


class Pruner:
    """Deletes by age. Each call may be repeated; what is gone is found no more."""

    def __init__(self, storage: Storage, ledger: Ledger, rows: WriterRows, rng: Random) -> None:
        self._storage = storage
        self._ledger = ledger
        self._rows = rows
        self._rng = rng

    async def run(self, scope: PruneScope, *, dry_run: bool = False) -> Pruned:
        """Delete what is in the scope, or count it.

        Raises BadRecordError for a project or signal that is none, StorageError and DatabaseError
        (call it again: it is then incomplete).
        """
        check_project(scope.project)
        for signal in scope.signals:
            if signal not in SIGNALS or signal == "gaps":
                raise BadRecordError(f"signal {signal[:40]!r} cannot be pruned by itself")
        result = Pruned()
        going = await self._writers(scope, result)
        every = [name for writers in going.values() for name in writers]
        metas = [name + _META for name in every]
        result.writers = len(every)
        keys = await self._objects(scope, going, metas, result)
        for signal, writers in going.items():
            _add(result, signal, sum(writers.values()))
        await self._count(scope, result, "gaps", metas)
        await self._count(scope, result, "quarantine", every)
        if dry_run or not every:
            return result
        name = f"{self._rng.getrandbits(62):x}"
        await self._say(name, scope, result, complete=False)
        # Objects first: what is deleted from the tables only would come back with a rebuild.
        await map_bounded(self._storage.delete, keys, limit=_REQUESTS)
        for signal, writers in going.items():
            await self._delete(scope, signal, list(writers))
        await self._delete(scope, "quarantine", every)
        # The lives last: a writer without one would look like one that never announced itself.
        await self._delete(scope, "gaps", metas)
        await self._say(name, scope, result, complete=True)
        return result

    async def _count(
        self, scope: PruneScope, result: Pruned, table: str, writers: Sequence[str]
    ) -> None:
        counts = [await self._rows.count(table, scope.project, some) for some in _pieces(writers)]
        _add(result, table, sum(counts))

    async def _delete(self, scope: PruneScope, table: str, writers: Sequence[str]) -> None:
        for some in _pieces(writers):
            await self._rows.delete(table, scope.project, some)

    async def _writers(self, scope: PruneScope, result: Pruned) -> dict[Signal, Mapping[str, int]]:
        ended = await self._rows.ended(scope.project)
        # After the ends: what is in the bucket before its writer was seen to end is seen too.
        waiting = await self._with_objects(scope.project)
        going: dict[Signal, Mapping[str, int]] = {}
        for signal in scope.signals:
            old = await self._rows.old(signal, scope.project, scope.before_ns)
            chosen: dict[str, int] = {}
            for writer, rows in old.items():
                if writer not in ended and not writer.startswith("plain:"):
                    result.running += 1
                elif waiting & {writer_hash(writer), writer_hash(writer + _META)}:
                    result.waiting += 1
                else:
                    chosen[writer] = rows
            going[signal] = chosen
        return going

    async def _with_objects(self, project: str) -> set[str]:
        """Hashes of writers that have objects which are not loaded yet."""
        found: set[str] = set()
        for signal in SIGNALS:
            async for info in self._storage.list(f"{PENDING}/{signal}/{project}/"):
                if not self._is_loaded(info.key):
                    found.add(_hash_of(info.key))
        return found

    def _is_loaded(self, key: str) -> bool:
        """Of a pending object: whether it only stays (it may be kept there, or is to be moved)."""
        try:
            name = parse_key(key)
        except BadRecordError:
            return False
        return is_covered(Ready(key, name, 0, 0.0), self._ledger.state)

    async def _objects(
        self,
        scope: PruneScope,
        going: Mapping[Signal, Mapping[str, int]],
        metas: Sequence[str],
        result: Pruned,
    ) -> list[str]:
        hashes: dict[str, set[str]] = {
            signal: {writer_hash(name) for name in writers} for signal, writers in going.items()
        }
        hashes["gaps"] = {writer_hash(name) for name in metas}
        keys: list[str] = []
        for root in (PENDING, PROCESSED, QUARANTINE):
            for signal, wanted in hashes.items():
                if not wanted:
                    continue
                async for info in self._storage.list(f"{root}/{signal}/{scope.project}/"):
                    if _hash_of(info.key) in wanted:
                        keys.append(info.key)
                        result.size += info.size
        result.objects = len(keys)
        return keys

    async def _say(self, name: str, scope: PruneScope, result: Pruned, *, complete: bool) -> None:
        operation = EraseOperation(
            id=name,
            scope=str(scope),
            rows=sum(result.rows.values()),
            objects=result.objects,
            complete=complete,
        )
        # Said twice after a lost answer, it does no harm: it is there to be read.
        await self._ledger.append(lambda state: [operation], subject=f"prune {name}")


def _add(result: Pruned, table: str, rows: int) -> None:
    if rows:
        result.rows[table] = rows


def _hash_of(key: str) -> str:
    try:
        name = parse_key(key)
    except BadRecordError:
        return ""
    return name.writer_hash if isinstance(name, ChunkName) else writer_hash(name.writer)


def _pieces(writers: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(writers), _AT_ONCE):
        yield writers[at : at + _AT_ONCE]


class ClickHouseWriterRows:
    """`WriterRows` over an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def old(self, signal: Signal, project: str, before_ns: int) -> dict[str, int]:
        rows = await self._database.rows(
            f"SELECT writer, count() AS n FROM {signal}"  # noqa: S608 - a table's name of ours
            " WHERE project = {project:String} GROUP BY writer"
            " HAVING max(recorded_at) < fromUnixTimestamp64Nano({before:Int64}, 'UTC')",
            {"project": project, "before": before_ns},
        )
        bare = await self._database.rows(
            "SELECT subject FROM gaps WHERE project = {project:String} AND signal = {signal:String}"  # noqa: S608 - values are bound
            " GROUP BY subject"
            " HAVING max(recorded_at) < fromUnixTimestamp64Nano({before:Int64}, 'UTC') AND subject"
            f" NOT IN (SELECT writer FROM {signal} WHERE project = {{project:String}})",
            {"project": project, "signal": signal, "before": before_ns},
        )
        return {str(row["writer"]): int(row["n"]) for row in rows} | {
            str(row["subject"]): 0 for row in bare
        }

    async def ended(self, project: str) -> set[str]:
        rows = await self._database.rows(
            "SELECT subject FROM gaps WHERE project = {project:String}"
            " AND event IN ('begin', 'end') GROUP BY subject HAVING argMax(event, seq) = 'end'"
            " UNION DISTINCT SELECT continues FROM gaps WHERE project = {project:String}"
            " AND event = 'begin' AND continues != ''",
            {"project": project},
        )
        return {str(row["subject"]) for row in rows}

    async def count(self, table: str, project: str, writers: Sequence[str]) -> int:
        final = " FINAL" if table == "quarantine" else ""
        [row] = await self._database.rows(
            f"SELECT count() AS n FROM {table}{final}"  # noqa: S608 - a table's name of ours
            " WHERE project = {project:String} AND writer IN {writers:Array(String)}",
            _params(project, writers),
        )
        return int(row["n"])

    async def delete(self, table: str, project: str, writers: Sequence[str]) -> None:
        await self._database.command(
            f"DELETE FROM {table}"  # noqa: S608 - a table's name of ours
            " WHERE project = {project:String} AND writer IN {writers:Array(String)}",
            _params(project, writers),
            {"lightweight_deletes_sync": 2},
        )


def _params(project: str, writers: Sequence[str]) -> dict[str, Any]:
    return {"project": project, "writers": list(writers)}
