"""A gateway over the real engine for tests: loading lines, asking, page by page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry

from spanyard_core.chunks import ChunkWriter
from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.records import AnyLine, Signal
from spanyard_core.resources.api import ResourceApi
from spanyard_core.serve import serving
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.ingester_client import IngesterAwayError, IngesterRefusedError
from spanyard_gateway.settings import GatewaySettings
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import engine_url

T0 = 1_795_000_000_000_000_000
DAY = date(2026, 11, 21)


class RecordingIngester:
    """Takes hints and actions; can be away."""

    def __init__(self) -> None:
        self.hints: list[str] = []
        self.actions: list[tuple[str, str, dict[str, Any]]] = []
        self.away = False

    async def hint(self, keys: list[str]) -> None:
        if self.away:
            raise IngesterAwayError("the ingester does not answer")
        self.hints += keys

    async def quarantine_action(self, action: str, quarantine_id: str, body: dict[str, Any]) -> Any:
        if self.away:
            raise IngesterAwayError("the ingester does not answer")
        if quarantine_id == "gone":
            raise IngesterRefusedError(404, {"title": "Not in quarantine", "detail": "no such id"})
        self.actions.append((action, quarantine_id, body))
        return {"id": quarantine_id, "status": "replayed"}

    async def prune(self, body: dict[str, Any]) -> Any:
        if self.away:
            raise IngesterAwayError("the ingester does not answer")
        self.actions.append(("prune", body["project"], body))
        return {"writers": 2, "rows": {"logs": 150}, "objects": 3, "size": 1200, "running": 1,
                "waiting": 0}  # fmt: skip


def chunk(signal: Signal, lines: list[AnyLine]) -> tuple[str, bytes]:
    """The object that a collector would make of these lines of one writer."""
    writer = ChunkWriter()
    writer.add(msgspec.json.Encoder().encode_lines(lines), len(lines))
    facts, parts = writer.finish(
        signal=signal, project=lines[0].project, writer=lines[0].writer, first=lines[0].seq,
        last=lines[-1].seq, time_ns=T0,
    )  # fmt: skip
    return facts.name.key(), b"".join(parts)


async def load(
    db: Database, folder: Path, attempt: int, signal: Signal, lines: list[AnyLine]
) -> None:
    """Store lines of one writer as the ingester does."""
    warehouse = ClickHouseWarehouse(db)
    file = folder / f"{attempt}.jsonl.zst"
    file.write_bytes(chunk(signal, lines)[1])
    await warehouse.insert(attempt, signal, DAY, [file])
    await warehouse.derive(attempt, signal, DAY)


Filled = tuple[Database, Storage]
"""A migrated database of its own with lines in it, and a bucket."""


@asynccontextmanager
async def filled(
    folder: Path, batches: Iterable[tuple[Signal, list[AnyLine]]] = ()
) -> AsyncIterator[Filled]:
    """Both below the folder; each batch is stored by itself, in this order."""
    async with database(engine_url()) as db:
        await migrate(db)
        for attempt, (signal, lines) in enumerate(batches, start=1):
            await load(db, folder, attempt, signal, lines)
        storage = open_storage(f"file://{folder}/bucket")
        try:
            yield db, storage
        finally:
            await storage.close()


class Api:
    """The gateway as a client sees it."""

    def __init__(
        self, session: aiohttp.ClientSession, ingester: RecordingIngester, storage: Storage
    ) -> None:
        self.session, self.ingester, self.storage = session, ingester, storage

    async def get(self, path: str, expect: int = 200, **params: str) -> Any:
        async with self.session.get(path, params=params) as response:
            assert response.status == expect, await response.text()
            kind = "application/json" if expect == 200 else "application/problem+json"
            assert response.content_type == kind
            return await response.json()

    async def all_pages(self, path: str, **params: str) -> list[Any]:
        """Fails when a page leads to one that was there before: it would never end."""
        items: list[Any] = []
        seen: set[str] = set()
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(path, **params, **cursor)
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            assert page["nextCursor"] not in seen, f"{path}: its pages go round in a ring"
            seen.add(page["nextCursor"])
            cursor = {"cursor": page["nextCursor"]}


@asynccontextmanager
async def running_gateway(
    db: Database | None, storage: Storage, *, resources: ResourceApi | None = None, **settings: Any
) -> AsyncIterator[Api]:
    """A gateway that listens, over what the caller opened."""
    ingester = RecordingIngester()
    app = make_app(
        GatewaySettings(storage="file:///unused", clickhouse="chdb:///unused", **settings),
        database=db, storage=storage, ingester=ingester, clock=SystemClock(),
        registry=CollectorRegistry(), resources=resources,
    )  # fmt: skip
    async with (
        serving(app, "127.0.0.1", 0, cancel_abandoned=True) as address,
        aiohttp.ClientSession(address.url) as session,
    ):
        yield Api(session, ingester, storage)


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.02)
