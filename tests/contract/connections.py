"""Connections to the real engine, in process and over HTTP, and statements that take long on it."""

import asyncio
import importlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
from clickhouse_connect.driver.client import Client

from spanyard_core.clickhouse import Database, database, parse_address
from spanyard_core.clickhouse.address import Address
from spanyard_core.clickhouse.clients import make_client
from tests.fakes.clickhouse_server import running_clickhouse
from tests.fakes.engine import engine_url

ASLEEP = "SELECT sum(sleepEachRow(0.05)) FROM numbers(2400)"
"""Two minutes, if nobody ends it, of blocks of one row."""
SLOW = f"{ASLEEP} SETTINGS max_block_size = 1"


class Opener(Protocol):
    def __call__(self, *, pool: int = 2) -> AbstractAsyncContextManager[Database]: ...


@asynccontextmanager
async def embedded(*, pool: int = 2) -> AsyncIterator[Database]:
    async with database(engine_url(), pool=pool) as db:
        await db.create_database()
        yield db


@asynccontextmanager
async def over_http(*, pool: int = 2) -> AsyncIterator[Database]:
    name = parse_address(engine_url()).database
    async with running_clickhouse() as server, database(server.url(name), pool=pool) as db:
        await db.create_database()
        yield db


@pytest.fixture(params=[embedded, over_http])
def opened(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


async def running(db: Database, count: int = 1) -> None:
    """Wait until so many slow statements run."""
    deadline = time.monotonic() + 60  # one runs for two minutes
    while time.monotonic() < deadline:
        [row] = await db.rows(
            "SELECT count() AS n FROM system.processes WHERE query LIKE '%sleepEachRow%'"
            " AND query NOT LIKE '%system.processes%'"
        )
        if row["n"] == count:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"there were never {count} slow statements")


class LateStatements:
    """Slow statements come to the engine after a KILL that found nothing."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.killed = threading.Event()

    def opened_client(self, address: Address) -> Client:
        client = make_client(address)
        for name in ("query", "command"):
            setattr(client, name, self.held(getattr(client, name)))
        return client

    def held(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(sql: str, *args: Any, **options: Any) -> Any:
            if sql in {SLOW, ASLEEP}:
                self.begun.set()
                assert self.killed.wait(60)
            answer = ask(sql, *args, **options)
            if sql.startswith("KILL"):
                self.killed.set()
            return answer

        return asked


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> LateStatements:
    made = LateStatements()
    connection = importlib.import_module("spanyard_core.clickhouse.database")
    monkeypatch.setattr(connection, "make_client", made.opened_client)
    return made
