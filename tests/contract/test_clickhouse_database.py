"""The connection: the same promises in process and over HTTP, and what only one of them has."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clickhouse import database, open_database, parse_address, rfc3339
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError, SettingError
from tests.contract.connections import ASLEEP, SLOW, Opener, opened, running
from tests.fakes.clickhouse_server import PASSWORD, ClickHouseServer, running_clickhouse
from tests.fakes.engine import engine_folder, engine_url

__all__ = ["opened"]

pytestmark = pytest.mark.engine


async def test_values_are_bound_and_arrive_as_they_were(opened: Opener) -> None:
    text = "it's \\ {n:UInt8} \n\t é \x07"
    async with opened() as db:
        rows = await db.rows(
            "SELECT {text:String} AS text, {n:UInt64} AS n, {list:Array(String)} AS list,"
            " {none:Nullable(String)} AS none",
            {"text": text, "n": 2**64 - 1, "list": ["a'b", "c"], "none": None},
        )
    assert rows == [{"text": text, "n": 2**64 - 1, "list": ["a'b", "c"], "none": None}]


async def test_an_answer_can_be_had_in_a_format_and_is_ended_like_any_other(
    opened: Opener,
) -> None:
    async with opened(pool=1) as db:
        sql = "SELECT {text:String} AS text, number AS n FROM numbers(2)"
        answer = await db.text(sql, form="TSV", params={"text": "é\n"})
        assert answer.decode() == "é\\n\t0\né\\n\t1\n"
        with pytest.raises(DatabaseError, match="no_such_table"):
            await db.text("SELECT * FROM no_such_table")
        read = asyncio.create_task(db.text(ASLEEP, settings={"max_block_size": 1}))
        await asyncio.sleep(0.2)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        async with asyncio.timeout(60):
            assert await db.text("SELECT 1 AS n", settings={"max_threads": 1}) == b'{"n":1}\n'


async def test_whoever_has_the_client_next_may_write(opened: Opener) -> None:
    """The gateway reads with `readonly = 2`; in one process the ingester has the same clients."""
    async with opened(pool=1) as db:
        await db.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        bounds = {"readonly": 2, "max_execution_time": 10.0, "max_result_bytes": 256_000_000}
        for _ in range(3):
            assert await db.text("SELECT 'it''s' AS a", settings=bounds) == b'{"a":"it\'s"}\n'
            await db.command("INSERT INTO t SELECT 1")
            assert await db.text("SELECT 1 AS a", settings=bounds) == b'{"a":1}\n'
            await db.insert("t", ["a"], [(1,)])
            with pytest.raises(DatabaseError):
                await db.text("SELECT throwIf(1) AS a", settings=bounds)
            await db.command("INSERT INTO t SELECT 1", settings={"max_threads": 1})
            again = "SELECT toString(getSetting('max_result_bytes')) AS n"
            assert await db.text(again) == b'{"n":"0"}\n'
        assert await db.rows("SELECT count() AS n FROM t") == [{"n": 9}]


async def test_rows_are_inserted_and_read(opened: Opener) -> None:
    async with opened() as db:
        await db.command("CREATE TABLE t (a Int64, s String) ENGINE = MergeTree ORDER BY a")
        await db.insert("t", ["s", "a"], [("x", 1), ("y'", -2)])
        await db.insert("t", ["s", "a"], [])
        await db.command("INSERT INTO t SELECT number, 'z' FROM numbers(3, 1)")
        assert await db.rows("SELECT * FROM t ORDER BY a") == [
            {"a": -2, "s": "y'"},
            {"a": 1, "s": "x"},
            {"a": 3, "s": "z"},
        ]


def test_an_insert_imports_no_data_frames(tmp_path: Path) -> None:
    """It would take 1.5 s of CPU in every process that inserts."""
    script = f"""
import asyncio, sys
from spanyard_core.clickhouse import database
async def main():
    async with database("chdb://{tmp_path}/engine") as db:
        await db.command("CREATE TABLE t (a Int64, at DateTime64(3)) ENGINE = MergeTree ORDER BY a")
        await db.insert("t", ["a", "at"], [(1, 0)])
        print(await db.rows("SELECT a FROM t"), "pandas" in sys.modules)
asyncio.run(main())
"""
    told = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120
    )
    assert told.stdout == "[{'a': 1}] False\n", told.stderr


async def test_nanoseconds_are_kept_as_text(opened: Opener) -> None:
    column = "toDateTime64('2026-11-21 14:45:00.123456789', 9, 'UTC')"
    async with opened() as db:
        [row] = await db.rows(f"SELECT {rfc3339(column)} AS t")
    assert row == {"t": "2026-11-21T14:45:00.123456789Z"}


async def test_settings_of_one_call_do_not_stay(opened: Opener) -> None:
    async with opened(pool=1) as db:
        sql = "SELECT toString(getSetting('max_block_size')) AS n"
        [before] = await db.rows(sql)
        assert await db.rows(sql, settings={"max_block_size": 17}) == [{"n": "17"}]
        await db.command("SELECT 1", settings={"max_block_size": 17})
        assert await db.rows(sql) == [before]


async def test_a_refused_statement_says_why_and_the_connection_goes_on(opened: Opener) -> None:
    async with opened(pool=1) as db:
        with pytest.raises(DatabaseError, match="nowhere") as refused:
            await db.rows("SELECT * FROM nowhere")
        assert refused.value.code == 60
        assert not isinstance(refused.value, DatabaseUnavailableError)
        with pytest.raises(DatabaseError) as refused:
            await db.command("DROP TABLE nowhere")
        assert refused.value.code == 60
        assert await db.rows("SELECT 1 AS n") == [{"n": 1}]


async def test_a_statement_out_of_memory_or_time_may_be_tried_again(opened: Opener) -> None:
    async with opened() as db:
        with pytest.raises(DatabaseUnavailableError) as refused:
            await db.rows(
                "SELECT groupArray(number) FROM numbers(10000000)",
                settings={"max_memory_usage": 1_000_000},
            )
        assert refused.value.code == 241
        with pytest.raises(DatabaseUnavailableError) as refused:
            await db.rows(SLOW, settings={"max_execution_time": 1})
        assert refused.value.code == 159


async def test_several_statements_run_side_by_side(opened: Opener) -> None:
    async with opened(pool=3) as db:
        slow = [asyncio.create_task(db.command(SLOW, query_id=f"side-{n}")) for n in range(2)]
        await running(db, 2)
        for n in range(2):
            await db.kill(f"side-{n}")
        for task in slow:
            with pytest.raises(DatabaseUnavailableError):
                await task


async def test_more_statements_than_clients_wait_their_turn(opened: Opener) -> None:
    async with opened() as db:
        rows = await asyncio.gather(
            *(db.rows("SELECT {n:UInt8} AS n", {"n": n}) for n in range(20))
        )
    assert [row[0]["n"] for row in rows] == list(range(20))


class TestInProcess:
    async def test_two_connections_of_a_process_share_the_engine(self) -> None:
        url = engine_url()
        async with database(url) as one, database(url) as other:
            await one.create_database()
            await one.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
            await other.insert("t", ["a"], [(1,)])
            assert await one.rows("SELECT a FROM t") == [{"a": 1}]

    async def test_a_second_process_is_told_that_the_folder_is_taken(self) -> None:
        engine_folder()
        program = (
            "import asyncio\n"
            "from spanyard_core.clickhouse import open_database\n"
            "from spanyard_core.errors import DatabaseUnavailableError\n"
            "try:\n"
            f"    asyncio.run(open_database('chdb://{engine_folder()}'))\n"
            "except DatabaseUnavailableError as error:\n"
            "    print(error)\n"
        )
        result = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True
        )
        assert "another process has this folder open" in result.stdout, result.stderr

    async def test_another_folder_in_the_same_process_is_refused(self) -> None:
        with pytest.raises(DatabaseError, match="has only one"):
            await open_database(f"chdb://{engine_folder()}-other")


class TestOverHttp:
    @pytest.fixture
    async def server(self) -> AsyncIterator[ClickHouseServer]:
        engine_folder()
        async with running_clickhouse() as started:
            yield started

    async def test_nobody_there(self) -> None:
        with pytest.raises(DatabaseUnavailableError, match="does not answer") as refused:
            await open_database("http://user:geheim@127.0.0.1:1/x")
        assert "geheim" not in str(refused.value)

    async def test_a_wrong_password(self, server: ClickHouseServer) -> None:
        with pytest.raises(DatabaseError) as refused:
            await open_database(server.url(password="geheim"))
        assert refused.value.code == 516
        assert not isinstance(refused.value, DatabaseUnavailableError)
        assert "geheim" not in str(refused.value)

    @pytest.mark.parametrize("status", [502, 503])
    async def test_a_server_that_cannot_now(self, server: ClickHouseServer, status: int) -> None:
        async with database(server.url()) as db:
            server.answer_status = status
            with pytest.raises(DatabaseUnavailableError):
                await db.rows("SELECT 1")
            with pytest.raises(DatabaseUnavailableError):
                await db.command("SELECT 1")
            server.answer_status = 0

    async def test_a_command_whose_answer_is_lost_is_not_sent_again(
        self, server: ClickHouseServer
    ) -> None:
        async with database(server.url(parse_address(engine_url()).database)) as db:
            await db.create_database()
            await db.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
            server.lose_answers_to = "INSERT"
            with pytest.raises(DatabaseUnavailableError):
                await db.command("INSERT INTO t SELECT 1")
            assert await db.rows("SELECT count() AS n FROM t") == [{"n": 1}]

    async def test_a_stream_whose_answer_is_lost_is_not_sent_again(
        self, server: ClickHouseServer
    ) -> None:
        import zstandard

        async with database(server.url(parse_address(engine_url()).database)) as db:
            await db.create_database()
            await db.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
            server.lose_answers_to = "INSERT"
            with pytest.raises(DatabaseUnavailableError):
                await db.send(
                    "t SELECT a FROM input('a UInt8')",
                    lambda: [zstandard.compress(b'{"a":1}\n'), zstandard.compress(b'{"a":2}\n')],
                    query_id="spanyard-1",
                )
            assert await db.rows("SELECT count() AS n FROM t") == [{"n": 2}]
            [sent] = server.inserts()
            assert (sent.encoding, sent.chunked) == ("zstd", True)
            assert sent.params["query_id"] == "spanyard-1"
            assert "query" not in sent.params

    async def test_ids_and_settings_travel_beside_the_statement(
        self, server: ClickHouseServer
    ) -> None:
        async with database(server.url()) as db:
            server.requests.clear()
            await db.command("SELECT 1", settings={"max_threads": 3}, query_id="spanyard-9")
            [request] = server.requests
        assert request.params["query_id"] == "spanyard-9"
        assert request.params["max_threads"] == "3"
        assert request.params["wait_end_of_query"] == "1"
        assert PASSWORD not in str(request)


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("chdb:///var/lib/spanyard", "chdb:///var/lib/spanyard"),
            ("chdb:///data/a%20b?database=x", "chdb:///data/a%20b?database=x"),
            ("http://ch", "http://ch:8123/default"),
            ("https://me:p%40ss@ch/obs", "https://me@ch:8443/obs"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
        ],
    )
    def test_are_read_and_shown_without_their_password(self, url: str, shown: str) -> None:
        address = parse_address(url)
        assert str(address) == shown
        assert "p@ss" not in repr(address)
        assert address.password in {"", "p@ss"}

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "clickhouse:9000",
            "postgres://x/y",
            "chdb://relative/path",
            "chdb:///",
            "chdb:///data?colour=red",
            "http://",
            "http://host:port/x",
            "http://host/da-ta",
            "http://host/1st",
        ],
    )
    def test_that_cannot_be_are_refused_with_the_right_shape(self, url: str) -> None:
        with pytest.raises(SettingError):
            parse_address(url)

    def test_a_refusal_never_repeats_the_password(self) -> None:
        for url in ("http://u:geheim@host:port/x", "ftp://u:geheim@host/x", "http://u:geheim@/x"):
            with pytest.raises(SettingError) as refused:
                parse_address(url)
            assert "geheim" not in str(refused.value)


async def test_a_pool_has_at_least_one_client() -> None:
    arguments: dict[str, Any] = {"pool": 0}
    with pytest.raises(ValueError, match="pool"):
        await open_database(engine_url(), **arguments)
