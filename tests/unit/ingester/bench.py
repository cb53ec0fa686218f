"""An ingester on a real directory and the simulator's warehouse, with a clock that jumps."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanyard_core.files import SystemFiles
from spanyard_core.storage import Storage, open_storage
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.quarantine import Quarantine
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.warehouse import QuarantineRow
from tests.fakes.objects import NOON_NS
from tests.sim.tables import Tables, Weather
from tests.sim.warehouse import SimWarehouse


class JumpingClock:
    """Sleeping takes no time and lets all of it pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time_ns(self) -> int:
        return NOON_NS + int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class SimStore:
    """The quarantine table of the simulated database."""

    tables: Tables

    async def get(self, name: str) -> QuarantineRow | None:
        row: QuarantineRow | None = self.tables.quarantine.get(name)
        return row


@dataclass
class Bench:
    """One bucket, one database, and ingesters on both."""

    folder: Path
    storage: Storage
    clock: JumpingClock = field(default_factory=JumpingClock)
    tables: Tables = field(default_factory=lambda: Tables(Weather(random.Random(0))))
    seeds: Iterable[int] = field(default_factory=lambda: iter(range(1000)))

    def ingester(self, owner: str = "one", **settings: Any) -> Ingester:
        """Another ingester, not started."""
        return Ingester(
            IngesterSettings(
                storage=self.storage.url,
                clickhouse="-",
                temp_dir=str(self.folder),
                owner=owner,
                **settings,
            ),
            self.storage,
            SimWarehouse(self.tables),
            SystemFiles(),
            self.clock,
            random.Random(next(iter(self.seeds))),
        )

    async def started(self, owner: str = "one", **settings: Any) -> Ingester:
        """Another ingester, started."""
        ingester = self.ingester(owner, **settings)
        await ingester.start()
        return ingester

    def quarantine(self, ingester: Ingester) -> Quarantine:
        """Its quarantine actions."""
        return Quarantine(
            SimStore(self.tables),
            self.storage,
            ingester.warehouse,
            ingester.ledger,
            ingester.filer,
            self.clock,
        )

    async def put(self, named: tuple[str, bytes]) -> str:
        """Store an object."""
        key, data = named
        await self.storage.write(key, data)
        return key

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys in the bucket, without the ledger's."""
        found = [info.key async for info in self.storage.list(prefix)]
        return [key for key in found if not key.startswith("ledger/")]

    def stored(self, table: str = "logs") -> list[tuple[str, int]]:
        """Writer and seq of every row, sorted."""
        return sorted((row["writer"], row["seq"]) for row in self.tables.rows(table))

    def seqs(self, writer: str, table: str = "logs") -> list[int]:
        """Seqs stored of one writer, sorted."""
        return [seq for name, seq in self.stored(table) if name == writer]

    @property
    def bad(self) -> dict[str, QuarantineRow]:
        """The quarantine table."""
        return self.tables.quarantine


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    """A bench in an empty folder."""
    storage = open_storage(f"file://{folder}/bucket")
    try:
        yield Bench(folder, storage)
    finally:
        await storage.close()
