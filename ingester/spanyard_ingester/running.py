"""Running: the ingester's eternal tasks, and how they end.

Each task does one kind of work and never waits for another's outage: heads are read while
ClickHouse is away, objects are moved while a batch is inserted.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from spanyard_core.errors import DatabaseError, StorageError
from spanyard_core.retry import Backoff
from spanyard_core.tasks import run_root_tasks
from spanyard_ingester.planner import Prepared

if TYPE_CHECKING:
    from spanyard_ingester.ingester import Ingester

log = logging.getLogger("spanyard.ingester")

_READY_AHEAD = 4
"""Batches of objects whose heads are read ahead of loading."""
_EXAMINED_AT_ONCE = 256
_LOADS_AT_ONCE = 2
"""One inserts while the other is read back and committed; a third is being fetched."""
_TICK = 0.25
"""Seconds between two looks at what needs no hurry: moves, quarantine rows, the ledger's copy."""
_RIDERS_EVERY = 5.0
_STOP_WITHIN = 15.0
"""Seconds that a stop waits for batches under way; what takes longer is recovered at the start."""


class Running:
    """The tasks of one `Ingester.run`."""

    def __init__(self, ingester: "Ingester") -> None:
        self._ingester = ingester
        self._clock = ingester.clock
        self._stopping = False
        self._loading = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Start, work until `stop`, finish."""
        ingester = self._ingester
        start = asyncio.ensure_future(ingester.start())
        waiting = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({start, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return
            start.result()
            await run_root_tasks(
                {
                    "lister": self._list(),
                    "examiner": self._examine(),
                    "loader": self._load(),
                    "settler": self._repeat(self._settle, _TICK),
                    "filer": self._repeat(self._file, _TICK),
                    "copier of the ledger": self._repeat(ingester.copier.run_once, _TICK),
                    "keeper of the ledger": self._repeat(
                        self._keep_ledger, min(_RIDERS_EVERY, ingester.settings.list_interval)
                    ),
                    "auditor": self._repeat(
                        self._audit, ingester.settings.audit_interval, at_once=False
                    ),
                },
                until=self._stop(waiting),
            )
        finally:
            for task in (start, waiting):
                task.cancel()
            await asyncio.gather(start, waiting, return_exceptions=True)

    async def _stop(self, told: Awaitable[object]) -> None:
        await told
        self._stopping = True
        self._ingester.pending.became_ready.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN):
                await self._idle.wait()
                await self._ingester.settler.run_once()
                await self._ingester.ledger.flush_riders()

    async def _list(self) -> None:
        ingester = self._ingester
        backoff = Backoff(ingester.rng)
        while True:
            try:
                await ingester.list_once()
            except StorageError as error:
                log.warning("cannot list pending objects, trying again: %s", error)
                await self._clock.sleep(backoff.next())
            else:
                backoff.reset()
                await self._clock.sleep(ingester.settings.list_interval)

    async def _examine(self) -> None:
        pending = self._ingester.pending
        ahead = _READY_AHEAD * self._ingester.settings.batch_objects
        while True:
            await self._ingester.rejects.flush()
            if pending.ready_objects >= ahead:
                await self._clock.sleep(0.02)
                continue
            due = pending.next_due
            if not pending.waiting and due != 0.0:
                pending.arrived.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await pending.arrived.wait()
            await self._ingester.examiner.run_once(_EXAMINED_AT_ONCE)

    async def _load(self) -> None:
        loader = self._ingester.loader
        slots = asyncio.Semaphore(_LOADS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._until_due()
                prepared = await loader.fetch()
                if not prepared:
                    continue
                self._loading += 1
                self._idle.clear()
                await slots.acquire()
                group.create_task(self._load_one(prepared, slots), name="load of a batch")

    async def _load_one(self, prepared: Sequence[Prepared], slots: asyncio.Semaphore) -> None:
        try:
            await self._ingester.loader.load(prepared)
        finally:
            slots.release()
            self._loading -= 1
            if not self._loading:
                self._idle.set()

    async def _until_due(self) -> None:
        """Return when a batch is full, or its first object has waited long enough for others."""
        pending, settings = self._ingester.pending, self._ingester.settings
        while True:
            tables = [] if self._stopping else pending.tables()
            if not tables:
                pending.became_ready.clear()
                await pending.became_ready.wait()
                continue
            left = pending.oldest(tables[0]) + settings.coalesce - self._clock.monotonic()
            if left <= 0 or pending.is_full(tables[0], settings.limits):
                return
            await self._clock.sleep(left)

    async def _settle(self) -> None:
        if self._ingester.settler.waiting:
            await self._ingester.settler.run_once()

    async def _file(self) -> None:
        await self._ingester.rejects.flush()
        if self._ingester.filer.waiting:
            await self._ingester.filer.run_through()

    async def _keep_ledger(self) -> None:
        ingester = self._ingester
        await ingester.ledger.flush_riders()
        await ingester.ledger.refresh()
        await ingester.recovery.take_over()
        ingester.pending.adopt(ingester.ledger.state.reload)
        if ingester.compactor.is_due and not ingester.copier.waiting:
            await ingester.compactor.run_once()

    async def _audit(self) -> None:
        await self._ingester.audit()

    async def _repeat(
        self, action: Callable[[], Awaitable[None]], every: float, *, at_once: bool = True
    ) -> None:
        """Do it again and again; while storage or ClickHouse fails, less often."""
        backoff = Backoff(self._ingester.rng, first=1.0)
        if not at_once:
            await self._clock.sleep(every)
        while True:
            try:
                await action()
            except (StorageError, DatabaseError) as error:
                if not backoff.attempts:
                    log.warning("put off: %s", error)
                await self._clock.sleep(backoff.next())
            else:
                backoff.reset()
                await self._clock.sleep(every)
