"""Lines of every signal, and how they are loaded, for tests against the engine."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from spanyard_core.clickhouse import Database
from spanyard_core.records import AnyLine, Signal
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database

DAY = date(2026, 11, 21)
START = "2026-11-21T14:45:00.123456789Z"
END = "2026-11-21T14:45:01.5Z"
IDENTITY: dict[str, Any] = {
    "project": "team.shop",
    "writer": "uid/server/0@ab12",
    "uid": "u-1",
    "deployment": "agent",
    "build": "b-7",
    "pod": "agent-0",
    "container": "server",
    "stream": "stdout",
    "service": "support",
    "recorded_at": "2026-11-21T14:45:02Z",
}
BARE: dict[str, Any] = {"project": "team.shop", "writer": "w", "seq": 1}
SCOPE: dict[str, Any] = {
    "resource": {"host.name": "h1"},
    "scope_name": "lib",
    "scope_version": "1.2",
}


def loader(db: Database, folder: Path) -> Any:
    """Loads lines of a signal, each time as a batch of its own; `folder` is for the objects."""
    attempts = iter(range(1, 1000))

    async def insert(signal: Signal, *lines: AnyLine) -> None:
        path = folder / f"{signal}.jsonl.zst"
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        path.write_bytes(zstandard.compress(data))
        await ClickHouseWarehouse(db).insert(next(attempts), signal, DAY, [path])

    return insert


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with migrated_database() as opened:
        yield opened


@pytest.fixture
def load(db: Database, tmp_path: Path) -> Any:
    return loader(db, tmp_path)
