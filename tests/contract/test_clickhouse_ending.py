"""How statements end before they are done: killed, left by who asked, closed with their connection."""

import asyncio
import importlib
import threading
import time
from typing import Any

import chdb
import pytest
from clickhouse_connect.driver.client import Client

from spanyard_core.clickhouse.address import Address
from spanyard_core.clickhouse.clients import make_client
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from tests.contract.connections import (
    ASLEEP,
    SLOW,
    LateStatements,
    Opener,
    embedded,
    late,
    opened,
    running,
)

__all__ = ["late", "opened"]

pytestmark = pytest.mark.engine


async def test_a_statement_is_killed_by_its_id_even_when_the_pool_is_full(opened: Opener) -> None:
    async with opened(pool=2) as db:
        slow = asyncio.create_task(db.command(SLOW, query_id="spanyard-5"))
        await running(db)
        begun = time.monotonic()
        other = asyncio.create_task(db.command(SLOW, query_id="spanyard-55"))
        await db.kill("spanyard-5")
        with pytest.raises(DatabaseUnavailableError) as ended:
            await slow
        assert ended.value.code == 394
        assert time.monotonic() - begun < 60
        assert not other.done()
        await running(db)
        await db.kill("spanyard-55")
        with pytest.raises(DatabaseUnavailableError):
            await other
        await db.kill("nobody")


async def test_a_cancelled_read_ends_its_statement_and_leaves_the_pool_whole(
    opened: Opener,
) -> None:
    async with opened(pool=2) as db:
        for _ in range(3):
            read = asyncio.create_task(db.rows(SLOW))
            await running(db)
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
            await running(db, 0)
        assert (
            await asyncio.gather(*(db.rows("SELECT 1 AS n") for _ in range(4))) == [[{"n": 1}]] * 4
        )


async def test_what_a_killed_read_still_had_to_say_is_in_nobody_elses_answer(
    opened: Opener,
) -> None:
    talks = (
        "SELECT toLowCardinality(toString(number % 1000)) AS text, sleepEachRow(0.00001)"
        " FROM numbers(2000000) SETTINGS max_block_size = 5000"
    )
    async with opened(pool=1) as db:
        for number in range(10):
            read = asyncio.create_task(db.rows(talks))
            await asyncio.sleep(0.02 + 0.02 * number)
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
            for _ in range(2):
                assert await db.rows(f"SELECT {number} AS n") == [{"n": number}]


async def test_a_cancelled_command_goes_on_until_it_is_killed(opened: Opener) -> None:
    async with opened(pool=2) as db:
        write = asyncio.create_task(db.command(SLOW, query_id="spanyard-6"))
        await running(db)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        await running(db)
        await db.kill("spanyard-6")
        await running(db, 0)


async def test_a_cancelled_read_that_the_engine_knows_only_later_is_ended_too(
    late: LateStatements, opened: Opener
) -> None:
    async with opened(pool=1) as db:
        read = asyncio.create_task(db.rows(SLOW))
        assert await asyncio.to_thread(late.begun.wait, 60)
        begun = time.monotonic()
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        assert await db.rows("SELECT 1 AS n") == [{"n": 1}]
    assert time.monotonic() - begun < 60


async def test_closing_ends_what_the_engine_knows_only_later(
    late: LateStatements, opened: Opener
) -> None:
    async with opened(pool=1) as db:
        write = asyncio.create_task(db.command(SLOW))
        assert await asyncio.to_thread(late.begun.wait, 60)
        begun = time.monotonic()
    with pytest.raises(DatabaseUnavailableError):
        await write
    assert time.monotonic() - begun < 60


async def test_closing_ends_what_still_runs(opened: Opener) -> None:
    async with opened(pool=2) as db:
        write = asyncio.create_task(db.command(SLOW))
        await running(db)
        begun = time.monotonic()
    with pytest.raises(DatabaseUnavailableError):
        await write
    assert time.monotonic() - begun < 60
    await db.close()
    with pytest.raises(DatabaseUnavailableError, match="closed"):
        await db.rows("SELECT 1")


async def test_what_is_abandoned_while_its_client_is_made_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making, go_on = threading.Event(), threading.Event()
    asked: list[str] = []

    def slowly(address: Address) -> Client:
        making.set()
        assert go_on.wait(60)
        client = make_client(address)
        query = client.query

        def noted(sql: str, **options: Any) -> Any:
            asked.append(sql)
            return query(sql, **options)

        monkeypatch.setattr(client, "query", noted)
        return client

    async with embedded(pool=1) as db:
        with pytest.raises(DatabaseError):
            await db.rows("SELECT * FROM nowhere")  # takes its client with it
        connection = importlib.import_module("spanyard_core.clickhouse.database")
        monkeypatch.setattr(connection, "make_client", slowly)
        read = asyncio.create_task(db.rows("SELECT 'abandoned' AS s"))
        assert await asyncio.to_thread(making.wait, 60)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        await db.kill("nobody")  # sent in turn: by now the read's own found nothing
        go_on.set()
        assert await db.rows("SELECT 1 AS n") == [{"n": 1}]
    assert asked == ["SELECT 1 AS n"]


@pytest.mark.parametrize("by", ["cancelling", "closing"])
async def test_what_a_stranger_asks_and_the_engine_knows_only_later_is_ended(
    late: LateStatements, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    class Session:
        def __init__(self, *args: Any) -> None:
            self._session = connect(*args)
            self.query = late.held(self._session.query)
            self.close = self._session.close

    connect = chdb.connect
    small = {"max_block_size": 1}
    async with embedded(pool=1) as db:
        monkeypatch.setattr(chdb, "connect", Session)
        read = asyncio.create_task(db.read_raw(ASLEEP, form="TSV", settings=small))
        assert await asyncio.to_thread(late.begun.wait, 60)
        begun = time.monotonic()
        if by == "cancelling":
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
            while db._reading:
                await asyncio.sleep(0.02)
    if by == "closing":
        with pytest.raises(DatabaseUnavailableError) as ended:
            await read
        assert ended.value.code == 394
    assert time.monotonic() - begun < 60
