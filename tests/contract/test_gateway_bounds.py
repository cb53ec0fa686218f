"""The gateway's bounds: slow, away, too much; and what is stored of a writer, exactly."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.errors import DatabaseUnavailableError
from spanyard_core.storage import open_storage
from spanyard_gateway import reader as reader_module
from spanyard_gateway.process import run
from spanyard_gateway.queries.stored import stored_rows
from spanyard_gateway.reader import QueryLimitError, Reader
from spanyard_gateway.settings import GatewaySettings
from spanyard_gateway.where import Where
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import eventually, running_gateway
from tests.fakes.ports import own_port
from tests.fakes.stored_batches import store_batches

pytestmark = pytest.mark.engine
HUGE = "SELECT sum(cityHash64(number)) AS n FROM numbers(100000000000)"


def settings(**more: Any) -> GatewaySettings:
    return GatewaySettings(storage="file:///unused", clickhouse="http://me:secret@ch:1/x", **more)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with database(engine_url()) as db:
        await migrate(db)
        yield db


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        (HUGE, "longer than 0.5 s"),
        ("SELECT groupArray(number) AS n FROM numbers(1000000000)", "more memory than its 100,000,000"),
        ("SELECT repeat(toString(number % 10), 1000000) AS n FROM numbers(300)", "larger than 256 MB"),
    ],
)  # fmt: skip
async def test_a_query_beyond_a_bound_is_told_with_what_to_do(
    db: Database, sql: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here the engine's word is wanted, however late it comes.
    monkeypatch.setattr(reader_module, "GRACE_S", 60)
    memory = 100_000_000 if "groupArray" in sql else 2_000_000_000
    reader = Reader(settings(query_timeout=0.5 if sql is HUGE else 30, query_memory=memory), db)
    with pytest.raises(QueryLimitError, match=f"{bound}.* Ask for less"):
        await reader.rows(sql)
    # Of one that has time: the half second is the large query's alone.
    patient = Reader(settings(query_memory=memory), db)
    assert await patient.rows("SELECT 1 AS n") == [{"n": 1}]


class SlowDatabase:
    """Never answers; notes who asks, and who gave up."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.given_up = asyncio.Event()

    async def rows(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Any = None
    ) -> list[dict[str, Any]]:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        return []


async def test_a_database_that_does_not_answer_is_an_error_in_time(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    slow: Any = SlowDatabase()
    async with running_gateway(slow, storage, query_timeout=0.1) as api:
        problem = await api.get("/projects/local.a/logs", expect=503)
        assert "did not answer within 0.1 s" in problem["detail"]
        assert slow.given_up.is_set()
    await storage.close()


async def test_a_client_that_goes_away_ends_its_query(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    slow: Any = SlowDatabase()
    async with running_gateway(slow, storage) as api:
        asking = asyncio.create_task(api.get("/projects/local.a/traces"))
        await slow.asked.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            await slow.given_up.wait()
    await storage.close()


async def test_a_client_that_goes_away_does_not_end_an_action(db: Database, tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    async with running_gateway(db, storage) as api:
        begun, done = asyncio.Event(), asyncio.Event()

        async def action(*args: Any) -> dict[str, Any]:
            begun.set()
            await asyncio.sleep(0.3)
            done.set()
            return {}

        api.ingester.quarantine_action = action  # type: ignore[method-assign]
        asking = asyncio.create_task(api.session.post("/quarantine/q1/replay"))
        await begun.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            await done.wait()
    await storage.close()


async def test_without_clickhouse_a_gateway_starts_and_answers_what_the_bucket_can(
    tmp_path: Path,
) -> None:
    storage = open_storage(f"file://{tmp_path}")
    await storage.write("builds/local.b/build.log", b"all of it\n")
    await storage.close()
    stop = asyncio.Event()
    port = own_port()
    gateway = asyncio.create_task(
        run(
            GatewaySettings(
                storage=f"file://{tmp_path}", clickhouse="http://u:secret@127.0.0.1:9/x", port=port
            ),
            stop,
            SystemClock(),
        )
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def answers() -> bool:
            try:
                async with session.get("/readyz") as response:
                    return "127.0.0.1:9" in await response.text()
            except aiohttp.ClientError:
                return False

        await eventually(answers)
        async with session.get("/builds/local.b/logs") as response:
            assert (await response.json())["text"] == "all of it\n"
        async with session.get("/projects") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert "secret" not in await response.text()
        async with session.get("/readyz") as response:
            assert response.status == 503
    stop.set()
    await gateway


async def test_before_it_is_connected_a_reader_says_where_to_without_the_password() -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"not connected to .*http://ch:1/x") as told:
        await Reader(settings()).rows("SELECT 1")
    assert "secret" not in str(told.value)


async def test_what_is_stored_of_a_writer_is_counted_exactly(db: Database) -> None:
    rng = random.Random(7)
    writers: dict[str, list[list[int]]] = {
        "whole": [[*range(1, 101)]],
        "whole in batches": [[*range(51, 101)], [*range(1, 51)]],
        "a hole in a batch": [[*range(1, 50), *range(51, 101)], [*range(101, 111)]],
        "a hole between batches": [[*range(1, 50)], [*range(60, 101)]],
        "one twice, one missing": [[1, 2, 2, 4, 5]],
        "twice in two batches": [[*range(1, 11)], [*range(1, 11)]],
        "batches that overlap": [[*range(1, 21)], [*range(15, 31)]],
        "begins late": [[*range(7, 11)]],
    }
    for i in range(30):
        writers[f"random {i}"] = [
            rng.choices(range(1, 40), k=rng.randrange(1, 50)) for _ in range(rng.randrange(1, 4))
        ]
    await store_batches(db, writers)
    reader = Reader(settings(), db)
    where = Where()
    where.add("project = {project:String}", project="local.a")
    found = await stored_rows(reader, "logs", where)
    for writer, batches in writers.items():
        seqs = [seq for batch in batches for seq in batch]
        stored = found[writer]
        assert (stored.count, stored.distinct, stored.last) == (
            len(seqs), len(set(seqs)), max(seqs)
        ), writer  # fmt: skip
    other = Where()
    other.add("project = {project:String}", project="local.b")
    assert await stored_rows(reader, "logs", other) == {}


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        (("SELECT writer, count(), min(seq), max(seq), sum(seq) FROM logs GROUP BY writer"
         " HAVING min(project) = 'local.a'"), "by_batch"),
        (("SELECT writer, batch, count(), min(seq) FROM logs WHERE writer IN ['w1', 'w2']"
         " GROUP BY ingest_day, batch, writer"), "by_batch"),
        (("SELECT message FROM logs WHERE project = 'local.a' ORDER BY timestamp DESC, writer DESC,"
         " seq DESC LIMIT 101"), "Read type: InReverseOrder"),
        (("SELECT name FROM spans WHERE project = 'local.a' AND ended = 1 AND (root = 1)"
         " ORDER BY start_time DESC, trace_id DESC, writer DESC, seq DESC LIMIT 101"),
         "Read type: InReverseOrder"),
        ("SELECT name FROM spans WHERE id = 'x'", "id_bloom"),
        ("SELECT name FROM spans WHERE project = 'local.a' AND trace_id = 'x'", "trace_id_bloom"),
    ],
)  # fmt: skip
async def test_the_engine_answers_as_the_tables_were_laid_out_for(
    db: Database, sql: str, reads: str
) -> None:
    await db.command(
        "INSERT INTO logs (project, writer, seq, batch, ingest_day, level, timestamp) SELECT"
        " 'local.a', concat('w', toString(number % 5)), number + 1, 1, today(), 'info', now64()"
        " FROM numbers(20000)"
    )
    await db.command(
        "INSERT INTO spans (project, writer, seq, batch, ingest_day, id, trace_id, start_time, ended,"
        " root, status, span_kind) SELECT 'local.a', 'w', number + 1, 1, today(), toString(number),"
        " toString(number % 100), now64(), number % 2, number % 3 = 0, 'ok', 'internal'"
        " FROM numbers(20000)"
    )
    plan = await db.rows(f"EXPLAIN indexes = 1 {sql}")
    assert reads in "\n".join(str(next(iter(row.values()))) for row in plan)
