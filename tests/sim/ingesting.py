"""Ingesters in the world, and the gateway between them and the collector."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from spanyard_gateway.sources import SourceFinder
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.settings import IngesterSettings
from tests.sim.clock import SimClock, WallClock
from tests.sim.disk import Disk
from tests.sim.keeper import Keeper
from tests.sim.process import Process
from tests.sim.warehouse import SimWarehouse
from tests.sim.world import World

POINTS = (
    "ingest.before-plan",
    "ingest.planned",
    "ingest.inserting",
    "ingest.inserted",
    "ingest.derived",
    "ingest.committed",
    "ingest.copied",
    "ingest.moved",
    "ingest.scanned",
    "ingest.closed",
    "ingest.quarantined",
    # Bad lines are rare: so that these have their share.
    "ingest.scanned",
    "ingest.closed",
    "ingest.quarantined",
)


class Ingesting:
    """One ingester and the machine it runs on."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        rng = world.random("ingester settings")
        self.settings = IngesterSettings(
            storage="sim:///",
            clickhouse="chdb:///sim",
            owner=name,
            temp_dir="/tmp",
            takeover_after=rng.choice((5.0, 30.0)),
            snapshot_every=rng.choice((10, 40, 2000)),
            audit_interval=20.0,
            after_load=rng.choice(("move", "move", "keep", "delete")),
            list_interval=rng.choice((1.0, 10.0)),
            batch_rows=rng.choice((2_000, 500_000)),
            batch_objects=rng.choice((3, 500)),
            fetches=rng.choice((1, 16)),
            max_pending=rng.choice((10, 50_000)),
        )
        self.wall = WallClock()
        self.disk = Disk(self.wall, rng=world.random(f"{name} disk"))
        self.disk.mkdir("/tmp")
        self.ingester: Ingester | None = None
        self.keeper = Keeper(
            name,
            self._program,
            world.random(f"{name} keeper"),
            world.chronicle,
            world.kills,
            points=POINTS if world.troubles.ingester_fault_points else (),
        )

    async def _program(self, process: Process, stop: asyncio.Event) -> None:
        world = self.world
        ingester = Ingester(
            self.settings,
            world.bucket.view(process),
            SimWarehouse(world.tables, process, read_file=self._read),
            self.disk.view(process),
            SimClock(self.wall, process),
            world.random(process.name),
        )
        self.ingester = ingester
        await ingester.run(stop)

    def _read(self, path: Path) -> bytes:
        return bytes(self.disk.inode(str(path)).data)

    async def hint(self, keys: list[str]) -> None:
        """A hint over the network."""
        process, ingester = self.keeper.process, self.ingester
        if process is None or ingester is None or not process.alive:
            raise ConnectionRefusedError("no ingester")

        async def take() -> int:
            return ingester.hint(keys)

        await process.call(take())


class SimGateway:
    """What the collector asks the gateway, over a network that may fail."""

    def __init__(self, world: World, ingesters: list[Ingesting]) -> None:
        self._world = world
        self._ingesters = ingesters
        self._rng = world.random("gateway")
        self._finder = SourceFinder(
            _Ledger(world),  # type: ignore[arg-type]  # of the database, it needs this one query
            world.bucket.view(),
        )

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/internal/hints", path
        await asyncio.sleep(self._rng.uniform(0, 0.05))
        if self._world.troubles.hints_lost and self._rng.random() < 0.5:
            if self._rng.random() < 0.5:
                raise ConnectionResetError("the gateway is gone")
            return 200, b""
        keys = msgspec.json.decode(body)["keys"]
        for ingester in self._ingesters:
            await ingester.hint(keys)
        return 200, b""

    async def get(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        assert path == "/internal/sources", path
        await asyncio.sleep(self._rng.uniform(0, 0.05))
        if self._world.tables.weather.away:
            return 503, b"the database is away"
        try:
            found = await self._finder.find(query["project"], query["fingerprint"])
        except Exception as error:  # storage is away: the gateway says so
            return 503, str(error).encode()
        return 200, msgspec.json.encode({"stored": found})


class _Ledger:
    """The ledger's copy in the database, for the one query that `SourceFinder` asks."""

    def __init__(self, world: World) -> None:
        self._tables = world.tables

    async def rows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        assert "FROM ledger FINAL" in sql, sql
        rows = [
            row
            for row in self._tables.ledger.values()
            if row.project == params["project"]
            and row.source == params["fingerprint"]
            and row.status != "abandoned"
        ]
        rows.sort(key=lambda row: (row.source_to, row.seq_to), reverse=True)
        return [
            {
                "writer": row.writer,
                "seq_to": row.seq_to,
                "source_to": row.source_to,
                "source_pending": row.source_pending,
            }
            for row in rows[:1]
        ]
