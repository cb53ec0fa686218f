"""Copying: rows of ClickHouse's `ledger` table, made from the log as it is folded.

The table is a copy for queries (which records of which writer are stored, which source they came
from). It may lag by seconds and can be made again: a start copies everything since the last
snapshot, and a snapshot is taken only when nothing is left to copy.
"""

import asyncio
from collections import deque
from datetime import datetime

from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Abandon,
    Close,
    Commit,
    Done,
    Entry,
    LoadedObject,
    Plan,
    Reject,
    tail_of,
)
from spanyard_ingester.warehouse import LedgerRow, Warehouse

_AT_ONCE = 2_000


class Copier:
    """Listens to the ledger, and writes what it heard when told to."""

    def __init__(self, warehouse: Warehouse, shard: int) -> None:
        self._warehouse = warehouse
        self._shard = shard
        self._copying = asyncio.Lock()
        self._rows: deque[LedgerRow] = deque()
        self.waiting = 0
        """Rows not copied yet."""

    def hear(self, entry: Entry, before: LedgerState) -> None:
        """See an entry with the state before it."""
        time = datetime.fromisoformat(entry.time)
        plans = {plan.attempt: plan for plan in entry.operations if isinstance(plan, Plan)}
        for operation in entry.operations:
            match operation:
                case Commit() | Abandon() | Close():
                    opened = before.open.get(operation.attempt)
                    plan = opened.plan if opened is not None else plans.get(operation.attempt)
                    if plan is None:
                        continue
                    n = opened.n if opened is not None else entry.n
                    committed = isinstance(operation, Commit)
                    status = "committed" if committed else "abandoned"
                    for item in plan.objects:
                        self._add(n, plan.attempt, plan.table, item, status, time, before)
                case Done():
                    for item in operation.objects:
                        self._add(
                            entry.n, operation.attempt, operation.table, item, "done", time, before
                        )
                case Reject():
                    self._rows.append(
                        LedgerRow(
                            shard=self._shard,
                            n=entry.n,
                            attempt=0,
                            key=operation.key,
                            writer=operation.writer,
                            seq_from=operation.first,
                            seq_to=operation.last,
                            records=0,
                            signal=operation.signal,
                            project=operation.project,
                            status="rejected",
                            time=time,
                        )
                    )
                case _:
                    pass
        self.waiting = len(self._rows)

    def _add(
        self,
        n: int,
        attempt: int,
        table: str,
        item: LoadedObject,
        status: str,
        time: datetime,
        before: LedgerState,
    ) -> None:
        source = item.source
        self._rows.append(
            LedgerRow(
                shard=self._shard,
                n=n,
                attempt=attempt,
                key=item.key,
                writer=item.writer,
                seq_from=item.first,
                seq_to=max(item.last, 0),
                records=item.rows if status == "committed" else 0,
                bad=len(before.drops.get(tail_of(item.key), ())),
                source=source.fingerprint if source is not None else "",
                source_from=source.from_offset if source is not None else 0,
                source_to=source.to_offset if source is not None else 0,
                source_pending=tuple(source.pending) if source is not None else (),
                signal=table,
                project=item.project,
                status=status,
                time=time,
            )
        )

    async def run_once(self) -> None:
        """Copy what waits. Raises DatabaseError; what was not copied waits on."""
        async with self._copying:
            await self._run_once()

    async def _run_once(self) -> None:
        while self._rows:
            some = [self._rows[i] for i in range(min(_AT_ONCE, len(self._rows)))]
            await self._warehouse.ledger_copy(some)
            for _ in some:
                self._rows.popleft()
            self.waiting = len(self._rows)
