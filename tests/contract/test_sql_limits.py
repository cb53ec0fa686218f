"""Statements that try to take more than their share, or to go on when nobody waits for them."""

import asyncio
import importlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clickhouse.reading import (
    NOBODY_WAITS,
    RawAnswer,
    ask_in_process,
    session_statement,
)
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_gateway.sql import SqlLimits, SqlRefusedError
from tests.contract.bait import Bait, baited
from tests.fakes.front import until_running

pytestmark = pytest.mark.engine


@pytest.fixture
async def bait(tmp_path: Path) -> AsyncIterator[Bait]:
    async with baited(tmp_path) as made:
        yield made


async def test_limits_cannot_be_lifted(bait: Bait) -> None:
    limits = SqlLimits(seconds=7, memory_bytes=100_000_000, threads=1)
    shown = "SELECT getSetting('max_execution_time'), getSetting('max_memory_usage'),"
    shown += " getSetting('max_threads'), getSetting('readonly')"
    lifted = {"max_execution_time": "0", "max_memory_usage": "0", "max_threads": "64"}
    clause = ", ".join(f"{name} = {value}" for name, value in lifted.items())
    for query, settings in ((shown, lifted), (f"{shown} SETTINGS {clause}, readonly = 0", {})):
        data = await bait.ask(query, limits=limits, settings=settings)
        assert data.split() == [b"7", b"100000000", b"1", b"1"]


TOO_MUCH = [
    "SELECT number FROM numbers(1000000000000)",
    "SELECT repeat('x', 1000000) FROM numbers(1000000)",
    "SELECT groupArray(number) FROM numbers(1000000000)",
    "SELECT number FROM numbers(1000000000) ORDER BY cityHash64(number)",
    "SELECT range(1000000000)",
    "SELECT arrayJoin(range(10000000)) AS a, arrayJoin(range(10000000)) AS b",
    "SELECT * FROM numbers(100000000) AS a CROSS JOIN numbers(100000000) AS b",
    "SELECT count() FROM numbers(100000000000000) WHERE cityHash64(number) = 1",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    "SELECT 1 AS " + "a" * 10_000 + " FROM numbers(10000000) FORMAT JSONEachRow",
    "SELECT " + "(" * 50_000,
    "SELECT " + "[" * 5_000 + "]" * 5_000,
    "SELECT CAST(1, '" + "Array(" * 5_000 + "UInt8" + ")" * 5_000 + "')",
    "WITH 1 AS a0, " + ", ".join(f"(a{n}, a{n}) AS a{n + 1}" for n in range(30)) + " SELECT a30",
    "SELECT " + " + ".join(["1"] * 20_000),
    "SELECT " + "(SELECT " * 300 + "1" + ")" * 300,
    "SELECT match('x', '" + "(" * 20_000 + "')",
    "SELECT JSONExtractRaw(repeat('[', 1000000), 'a', 1), JSONLength(repeat('{\"a\":', 100000))",
]  # fmt: skip


async def test_a_statement_takes_no_more_than_its_share(bait: Bait) -> None:
    limits = SqlLimits(seconds=2, memory_bytes=200_000_000, result_bytes=10_000_000)
    for query in TOO_MUCH:
        start = time.perf_counter()
        try:
            told = await bait.ask(query, limits=limits)
        except (DatabaseError, SqlRefusedError) as error:
            told = str(error).encode()
        assert len(told) < 10_000, query[:100]
        assert time.perf_counter() - start < 40, query[:100]
        assert await bait.ask("SELECT 1") == b"1\n"


PATIENT = SqlLimits(seconds=600)
"""Ends nothing by its time."""


async def test_a_statement_ends_when_nobody_waits_for_it(bait: Bait) -> None:
    slow = "SELECT count() FROM numbers(100000000000000) WHERE cityHash64(number) = 1"
    tasks = [asyncio.create_task(bait.ask(slow, limits=PATIENT)) for _ in range(2)]
    await until_running(bait.database, 2)
    waiting = asyncio.create_task(bait.ask("SELECT 1"))
    # The pool of the ingester has its own threads.
    assert await bait.database.rows("SELECT 2 AS two") == [{"two": 2}]
    assert not waiting.done()
    for task in tasks:
        task.cancel()
    assert await waiting == b"1\n"
    await until_running(bait.database, 0)


async def test_too_many_are_turned_away(bait: Bait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanyard_gateway.sql.gate.WAITING", 3)
    slow = "SELECT count() FROM numbers(100000000000000) WHERE cityHash64(number) = 1"
    tasks = [asyncio.create_task(bait.ask(slow, limits=PATIENT)) for _ in range(2)]
    await until_running(bait.database, 2)
    tasks += [asyncio.create_task(bait.ask(slow, limits=PATIENT)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailableError, match="waiting already"):
        await bait.ask("SELECT 1")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await bait.ask("SELECT 1") == b"1\n"


async def test_what_was_abandoned_before_it_began_does_not_run(
    bait: Bait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that moment there is nothing to kill yet."""
    preparing, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []

    def slowly(settings: Mapping[str, str | float]) -> str:
        preparing.set()
        assert go_on.wait(60)
        return session_statement(settings)

    def asked(*args: Any, **options: Any) -> RawAnswer:
        try:
            return ask_in_process(*args, **options)
        except Exception as error:
            told.append(str(error))
            raise
        finally:
            ended.set()

    monkeypatch.setattr("spanyard_core.clickhouse.reading.session_statement", slowly)
    connection = importlib.import_module("spanyard_core.clickhouse.database")
    monkeypatch.setattr(connection, "ask_in_process", asked)
    slow = "SELECT count() FROM numbers(100000000000000) WHERE cityHash64(number) = 1"
    task = asyncio.create_task(bait.database.read_raw(slow, form="TabSeparated"))
    assert await asyncio.to_thread(preparing.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bait.database.kill("nobody")  # sent in turn: by now the statement's own found nothing
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert told == [NOBODY_WAITS]


STUCK = """
import asyncio, importlib, sys, threading
from spanyard_core.clickhouse import database

async def main():
    importlib.import_module("spanyard_core.clickhouse.database").CLOSING_S = 0.5
    async with database(f"chdb://{sys.argv[1]}", pool=1) as db:
        slow = "SELECT arrayLevenshteinDistance(range(300000), range(1, 300001))"
        asking = asyncio.create_task(
            db.read_raw(slow, form="TabSeparated", settings={"max_execution_time": 1})
        )
        while not await db.rows("SELECT 1 FROM system.processes WHERE query LIKE '%Levensh%' AND"
                                " query NOT LIKE '%processes%'"):
            await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await db.rows("SELECT 2 AS two") == [{"two": 2}]
        print("others go on", flush=True)

asyncio.run(main())
print("closed", flush=True)
"""


async def test_what_cannot_be_ended_holds_up_neither_others_nor_the_end(tmp_path: Path) -> None:
    """Such functions are not allowed, as far as they are known; this is for the next one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK, str(tmp_path / "data"), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output.decode().split("\n")[:2] == ["others go on", "closed"]
    assert process.returncode == 0
