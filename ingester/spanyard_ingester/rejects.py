"""Rejects: whole objects on their way to quarantine, told to the ledger many at a time."""

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import islice

from spanyard_core.chunks import ChunkFacts
from spanyard_core.object_names import ChunkName, PlainName
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import Operation, Reject, object_id, tail_of
from spanyard_ingester.pending import Pending, Unwanted

_AT_ONCE = 500
_REASON_CHARACTERS = 500


def reject_of(
    key: str,
    name: ChunkName | PlainName,
    reason: str,
    *,
    size: int = 0,
    facts: ChunkFacts | None = None,
) -> Reject:
    """The operation that sends an object to quarantine."""
    chunk = isinstance(name, ChunkName)
    return Reject(
        id=object_id(key),
        key=key,
        signal=name.signal,
        project=name.project,
        size=size,
        reason=reason[:_REASON_CHARACTERS],
        writer=facts.writer if facts is not None else "",
        first=name.first if isinstance(name, ChunkName) else 0,
        last=name.last if chunk and isinstance(name, ChunkName) else 0,
    )


class Rejects:
    """What was found bad and is not in the ledger yet."""

    def __init__(self, ledger: Ledger, pending: Pending) -> None:
        self._ledger = ledger
        self._pending = pending
        self._waiting: deque[Reject] = deque()
        self._flushing = asyncio.Lock()
        self.told = 0
        """Objects rejected since the start, but for those found by the engine."""

    def add(self, reject: Reject) -> None:
        """Take one; its key stays known to `Pending` until the ledger has it."""
        self._waiting.append(reject)

    def add_unwanted(self, unwanted: Iterable[Unwanted]) -> None:
        """Take what could be told from its name."""
        for item in unwanted:
            self.add(
                Reject(
                    id=object_id(item.key),
                    key=item.key,
                    signal=item.signal,
                    project=item.project,
                    size=item.size,
                    reason=item.reason[:_REASON_CHARACTERS],
                )
            )

    def __len__(self) -> int:
        return len(self._waiting)

    async def flush(self) -> int:
        """Tell the ledger; how many were told."""
        async with self._flushing:
            return await self._flush()

    async def _flush(self) -> int:
        while self._pending.unwanted:
            self.add_unwanted([self._pending.unwanted.popleft()])
        told = 0
        while self._waiting:
            some = list(islice(self._waiting, _AT_ONCE))
            await self._ledger.append(partial(_new, some), subject="reject")
            for reject in some:
                self._waiting.popleft()
                self._pending.forget(reject.key)
            told += len(some)
            self.told += len(some)
        return told


def _new(rejects: Iterable[Reject], state: LedgerState) -> list[Operation]:
    return [reject for reject in rejects if tail_of(reject.key) not in state.rejected]
