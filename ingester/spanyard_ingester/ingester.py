"""The ingester: its parts put together, with every seam given from outside.

`run` works until it is told to stop. The same work can be done step by step, without timers, for
tests and for loading what is there and no more (`drain`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError, StorageError
from spanyard_core.files import Files
from spanyard_core.retry import Backoff
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.attempts import Attempts
from spanyard_ingester.compaction import Compactor, read_shards
from spanyard_ingester.copying import Copier
from spanyard_ingester.examine import Examiner
from spanyard_ingester.filing import Filer
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.loader import Loader
from spanyard_ingester.pending import Pending
from spanyard_ingester.prepare import Preparer
from spanyard_ingester.rebuild import Rebuild
from spanyard_ingester.recovery import Recovery
from spanyard_ingester.rejects import Rejects
from spanyard_ingester.rescan import Rescan
from spanyard_ingester.running import Running
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.settle import Settler
from spanyard_ingester.stored_rows import StoredRows
from spanyard_ingester.unsettled import Unsettled
from spanyard_ingester.warehouse import Warehouse
from spanyard_ingester.workspace import Workspace

log = logging.getLogger("spanyard.ingester")

_RELOADED_EVERY = 0.2


class Ingester:
    """One shard's ingester. It does not close storage, warehouse or files: they were given."""

    def __init__(
        self,
        settings: IngesterSettings,
        storage: Storage,
        warehouse: Warehouse,
        files: Files,
        clock: Clock,
        rng: Random,
        *,
        shards: int = 1,
        rows: StoredRows | None = None,
    ) -> None:
        if settings.shard >= shards:
            raise SettingError(
                f"shard is {settings.shard}, but the ledger in {storage.url} has {shards} "
                f"(0…{shards - 1})"
            )
        self.settings = settings
        self.storage = storage
        self.warehouse = warehouse
        self.clock = clock
        self.rng = rng
        self.copier = Copier(warehouse, settings.shard)
        self.ledger = Ledger(
            storage,
            clock,
            rng,
            owner=settings.name,
            shard=settings.shard,
            listener=self.copier.hear,
        )
        self.pending = Pending(
            storage,
            limit=settings.max_pending,
            keep=settings.after_load == "keep",
            monotonic=clock.monotonic,
            shard=settings.shard,
            shards=shards,
        )
        self.rejects = Rejects(self.ledger, self.pending)
        self.settler = Settler(
            storage,
            self.ledger,
            self.pending,
            self.rejects,
            self.copier,
            after_load=settings.settled,
            at_once=settings.fetches,
        )
        self.examiner = Examiner(
            storage,
            self.ledger,
            self.pending,
            self.rejects,
            self.settler,
            rng,
            limits=settings.limits,
            at_once=settings.fetches,
        )
        self.filer = Filer(
            storage,
            warehouse,
            self.ledger,
            clock,
            max_object=settings.max_object,
            at_once=settings.fetches,
        )
        self.attempts = Attempts(
            warehouse, self.ledger, clock, rng, pulse_every=max(settings.takeover_after / 3, 0.1)
        )
        self._workspace = Workspace(files, settings.folder, settings.name, self.ledger.instance)
        self.preparer = Preparer(
            storage,
            self._workspace,
            clock,
            limits=settings.limits,
            max_object=settings.max_object,
            max_plain=settings.max_plain,
            max_line=settings.max_line,
            max_bad=settings.max_bad_lines,
        )
        self.loader = Loader(
            ledger=self.ledger,
            pending=self.pending,
            preparer=self.preparer,
            attempts=self.attempts,
            rejects=self.rejects,
            settler=self.settler,
            filer=self.filer,
            rescan=Rescan(self.ledger, self.preparer, clock, rng),
            clock=clock,
            rng=rng,
            limits=settings.limits,
            fetches=settings.fetches,
        )
        self.recovery = Recovery(
            self.ledger,
            warehouse,
            self.attempts,
            self.settler,
            clock,
            takeover_after=settings.takeover_after,
        )
        self.compactor = Compactor(
            storage,
            self.ledger,
            clock,
            every=settings.snapshot_every,
            dead_for=settings.dead_for,
        )
        self.unsettled = Unsettled(self.ledger, self.settler, clock)
        self.rebuild = (
            Rebuild(storage, self.ledger, rows, rng, self.unsettled) if rows is not None else None
        )
        """Loading again; needs `rows`."""
        self.started = False

    async def start(self) -> None:
        """Read the ledger, check the warehouse, finish what a crash interrupted.

        Waits for storage and warehouse as long as they are away. Raises SpanyardError for what
        waiting does not mend.
        """
        self._workspace.open()
        await self._until_storage_answers(self._load_ledger)
        await self.attempts.when_available(self.warehouse.self_test, "the self-test")
        await self.recovery.at_start()
        if self.rebuild is not None:
            await self.attempts.when_available(self.rebuild.resume, "going on with a rebuild")
        await self.attempts.when_available(self.recovery.audit, "the audit")
        self.started = True

    async def _load_ledger(self) -> None:
        await self.ledger.load()

    async def _until_storage_answers(self, action: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(self.rng)
        while True:
            try:
                return await action()
            except StorageError as error:
                log.warning("waiting for storage: %s", error)
                await self.clock.sleep(backoff.next())

    def hint(self, keys: Iterable[str]) -> int:
        """Take keys that were just stored; how many were taken."""
        return self.pending.hint(keys, self.ledger.state)

    async def list_once(self) -> None:
        """Look for pending objects. Raises StorageError."""
        await self.pending.list_once(self.ledger.state)

    async def examine_once(self, most: int = 1_000) -> int:
        """Read the heads of some new objects; how many."""
        count = await self.examiner.run_once(most)
        await self.rejects.flush()
        return count

    async def load_once(self) -> bool:
        """Load one batch; False when none is ready."""
        return await self.loader.load_once()

    async def settle_once(self) -> None:
        """Move what is loaded, file what is bad, copy the ledger. Raises what these raise."""
        await self.rejects.flush()
        await self.settler.run_once()
        await self.rejects.flush()
        await self.filer.run_through()
        await self.copier.run_once()
        await self.ledger.flush_riders()

    async def step(self) -> bool:
        """One round of everything; False when there was nothing to do."""
        await self.ledger.refresh()
        await self.recovery.take_over()
        self.pending.adopt(self.ledger.state.reload)
        await self.list_once()
        did = False
        while await self.examine_once() or await self.load_once():
            did = True
        did = did or bool(self.settler.waiting or self.filer.waiting or len(self.rejects))
        await self.settle_once()
        return did

    async def drain(self) -> None:
        """Load everything pending and return, also what is under way elsewhere or delayed."""
        while True:
            if not await self.step():
                dues = (self.pending.next_due, self.filer.next_due)
                due = min((due for due in dues if due is not None), default=None)
                if due is None:
                    return
                await self.clock.sleep(due)

    async def until_reloaded(self) -> None:
        """Wait until what was forgotten is loaded again, while `run` does the work."""
        self.pending.adopt(self.ledger.state.reload)
        await self.clock.sleep(_RELOADED_EVERY)
        while self.ledger.state.reload:
            await self.clock.sleep(_RELOADED_EVERY)

    async def audit(self) -> int:
        """Delete late rows of attempts that were given up; how many attempts had any."""
        return await self.recovery.audit()

    async def run(self, stop: asyncio.Event) -> None:
        """Start, then work until `stop` is set; then finish what is under way and return."""
        await Running(self).run(stop)

    def not_ready(self) -> str | None:
        """Why it cannot do its work just now; None when it can."""
        if not self.started:
            return self.attempts.availability.problem or "starting: reading the ledger"
        if self.ledger.waiting_since is not None:
            return "storage does not take ledger entries"
        return self.attempts.availability.problem or self.attempts.availability.refusal or None


async def shards_of(storage: Storage, clock: Clock, rng: Random) -> int:
    """Number of the ledger's shards; waits while storage is away."""
    backoff = Backoff(rng)
    while True:
        try:
            return await read_shards(storage)
        except StorageError as error:
            log.warning("waiting for storage: %s", error)
            await clock.sleep(backoff.next())
