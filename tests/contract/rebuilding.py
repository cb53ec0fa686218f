"""A bucket, an engine, ingesters on both: for tests of loading again and deleting on demand."""

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clickhouse import Database
from spanyard_core.clock import SystemClock
from spanyard_core.files import SystemFiles
from spanyard_core.storage import Storage, open_storage
from spanyard_ingester.erase import Eraser
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.rebuild import Progress, Selection
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.stored_rows import ClickHouseRows
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database
from tests.fakes.objects import log_chunk, log_line

PLAIN = (
    b'{"type":"log","level":"info","message":"plain","timestamp":"2026-11-21T12:00:00Z"}\n'
    b'{"type":"log","level":"info","message":"other","timestamp":"2026-11-21T12:00:00Z",'
    b'"attributes":{"user":"42"}}\n'
)


class Chain:
    """One bucket, one database, ingesters on both."""

    def __init__(self, database: Database, storage: Storage, folder: Path) -> None:
        self.database = database
        self.storage = storage
        self.folder = folder

    def ingester(self, owner: str = "one", **settings: Any) -> Ingester:
        return Ingester(
            IngesterSettings(
                storage="-",
                clickhouse="-",
                temp_dir=str(self.folder),
                owner=owner,
                list_interval=0.1,
                **settings,
            ),
            self.storage,
            ClickHouseWarehouse(self.database),
            SystemFiles(),
            SystemClock(),
            random.Random(owner),
            rows=ClickHouseRows(self.database),
        )

    async def loaded(self, **settings: Any) -> Ingester:
        """An ingester that has loaded three writers of two projects, bad lines, a plain object."""
        await self.storage.write(*log_chunk("w", 1, 50))
        await self.storage.write(*log_chunk("w", 51, 100, instead={60: b'{"bad\n'}))
        await self.storage.write(*log_chunk("v", 1, 100))
        await self.storage.write(*log_chunk("z", 1, 100, project="team.zoo"))
        await self.storage.write("observability/logs/team.shop/plain.jsonl", PLAIN)
        ingester = self.ingester(**settings)
        await ingester.start()
        await ingester.drain()
        assert await self.counts() == {"w": 99, "v": 100, "z": 100, "plain": 2}
        return ingester

    async def counts(self) -> dict[str, int]:
        """Rows by writer; fails when a record is there twice."""
        rows = await self.database.rows(
            "SELECT if(startsWith(writer, 'plain:'), 'plain', writer) AS name, count() AS n,"
            " uniqExact(writer, seq) AS u FROM logs GROUP BY name"
        )
        assert all(row["n"] == row["u"] for row in rows), rows
        return {row["name"]: int(row["n"]) for row in rows}

    async def rebuild(
        self, ingester: Ingester, selection: Selection | None = None, **options: Any
    ) -> Progress:
        assert ingester.rebuild is not None
        return await ingester.rebuild.run(selection or Selection(), load=ingester.drain, **options)

    def eraser(self, ingester: Ingester) -> Eraser:
        return Eraser(
            self.storage,
            ingester.ledger,
            ClickHouseRows(self.database),
            SystemClock(),
            random.Random(7),
            ingester.unsettled,
        )

    async def committed(self, ingester: Ingester, name: str = "m") -> str:
        """Load one more object of fifty records, and leave it where it was pending."""
        key, data = log_chunk(name, 1, 50)
        await self.storage.write(key, data)
        await self.load(ingester)
        assert key in ingester.ledger.state.digests
        return key

    async def load(self, ingester: Ingester) -> None:
        """Everything but settling."""
        await ingester.ledger.refresh()
        await ingester.list_once()
        while await ingester.examine_once() or await ingester.load_once():
            pass


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    storage = open_storage(f"file://{tmp_path}/bucket")
    async with migrated_database() as database:
        yield Chain(database, storage, tmp_path)
    await storage.close()


ALL = {"w": 99, "v": 100, "z": 100, "plain": 2}


def user_line(seq: int, user: str, trace: str = "") -> bytes:
    line = json.loads(log_line("u", seq))
    line["attributes"] = {"user": user, "n": seq}
    line["traceId"] = trace
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def before_deleting(ingester: Ingester, action: Callable[[], Awaitable[object]]) -> None:
    """Have something done between a Forget and the deletion of its rows."""
    assert ingester.rebuild is not None
    rows = ingester.rebuild._rows
    delete_ranges = rows.delete_ranges

    async def acting(*given: Any) -> int:
        await action()
        return await delete_ranges(*given)

    rows.delete_ranges = acting  # type: ignore[method-assign]


class Acting:
    """A storage; after the first `method` of keys with this beginning, something is done."""

    def __init__(
        self, storage: Storage, method: str, prefix: str, action: Callable[[], Awaitable[object]]
    ) -> None:
        self._storage = storage
        self._method = method
        self._prefix = prefix
        self._action: Callable[[], Awaitable[object]] | None = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def _act(self, method: str, key: str) -> None:
        if self._action and method == self._method and key.startswith(self._prefix):
            action, self._action = self._action, None
            await action()

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Any]:
        async for info in self._storage.list(prefix, after=after):
            yield info
        await self._act("list", prefix)

    async def read(self, key: str, **given: Any) -> bytes:
        data = await self._storage.read(key, **given)
        await self._act("read", key)
        return data
