"""The front as the drivers of others use it: clickhouse-connect, Go, JDBC; and many at a time."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError as ClientError

from spanyard_gateway.front import USER
from spanyard_gateway.front.blocks import unpacked
from spanyard_gateway.front.native import with_revision
from tests.fakes.front import LOGS, SPANS, TOKEN, Front, running_front

pytestmark = pytest.mark.engine


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front(filled=False) as running:
        yield running


@pytest.fixture
async def filled() -> AsyncIterator[Front]:
    async with running_front() as running:
        yield running


class TestClickHouseConnect:
    """The Python client, over HTTP: Native format, its own compression, its own handshake."""

    def _client(self, front: Front, **options: object) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=front.port, username=USER, password=TOKEN, **options
        )  # type: ignore[call-overload, no-any-return]

    @pytest.mark.parametrize("compress", [True, False, "gzip", "zstd", "lz4"])
    async def test_it_reads(self, filled: Front, compress: bool | str) -> None:
        def use() -> None:
            with self._client(filled, compress=compress) as client:
                # Its handshake asks for a revision; only with that the block's info is there.
                assert client.protocol_version == 54405
                assert client.command("SELECT count() FROM otel_logs") == LOGS
                rows = client.query(
                    "SELECT SpanName, Duration, ResourceAttributes, `Events.Name`, Timestamp"
                    " FROM otel_traces WHERE SpanKind = {kind:String} ORDER BY Duration LIMIT 3",
                    parameters={"kind": "Server"},
                ).result_rows
                assert [row[:2] for row in rows] == [("op0", 0), ("op1", 1000), ("op2", 2000)]
                assert rows[0][2]["k8s.deployment.name"] == "agent"
                assert list(rows[0][3]) == ["seen"]
                with client.query_row_block_stream(
                    "SELECT number, toString(number) FROM numbers(200000)"
                ) as blocks:
                    assert sum(len(block) for block in blocks) == 200_000
                frame = client.raw_query("SELECT 1 AS a", fmt="Parquet")
                assert frame[:4] == b"PAR1"
                with pytest.raises(ClientError, match="Code: 164|code 164"):
                    client.command("DROP TABLE logs")
                with pytest.raises(ClientError, match="47"):
                    client.query("SELECT nosuch")
                with pytest.raises(ClientError):
                    client.insert("logs", [[1]], column_names=["seq"])

        await asyncio.to_thread(use)


class TestGo:
    """The Go driver in its HTTP mode, which is Grafana's: Native of a late revision."""

    PARAMS = {"client_protocol_version": "54460", "default_format": "Native", "database": "default"}  # noqa: RUF012 -- not changed

    async def test_its_handshake(self, front: Front) -> None:
        answer = await front.ask(
            "SELECT displayName(), version(), revision(), timezone()", **self.PARAMS
        )
        # Block info; 4 columns, 1 row; the first column's name, type, mark.
        assert answer.data.startswith(
            b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\x0ddisplayName()\x06String\x00"
        )

    async def test_blocks_of_all_our_types_are_walked_to_their_end(self, filled: Front) -> None:
        for table in ("otel_logs", "otel_traces", "spans", "metrics", "system.columns"):
            plain = await filled.ask(f"SELECT * FROM {table}", default_format="Native")
            late = await filled.ask(f"SELECT * FROM {table}", **self.PARAMS)
            assert late.status == 200, late.data[:500]
            marks = len(late.data) - len(plain.data)
            if plain.data:
                assert late.data == with_revision(plain.data, 54460)
                assert marks >= 8 + plain.data[0]

    async def test_a_type_that_cannot_be_walked_is_told(self, front: Front) -> None:
        answer = await front.ask("""SELECT '{"a": 1}'::JSON AS j""", **self.PARAMS)
        assert (answer.status, answer.code) == (501, 48)
        assert "toString" in answer.text

    async def test_its_compression_in_blocks(self, front: Front) -> None:
        answer = await front.ask(
            "SELECT 1", **self.PARAMS, compress="1", network_compression_method="LZ4"
        )
        data = unpacked(answer.data, most=1_000)
        assert data == b"\x01\x00\x02\xff\xff\xff\xff\x00\x01\x01\x011\x05UInt8\x00\x01"


class TestJdbc:
    """What DBeaver's driver sends."""

    async def _rows(self, front: Front, query: str) -> bytes:
        answer = await front.ask(
            query,
            headers={
                "Content-Type": "text/plain",
                "X-ClickHouse-Format": "RowBinaryWithNamesAndTypes",
                "X-ClickHouse-Database": "default",
                "Accept-Encoding": "gzip, x-gzip, deflate",
            },
            compress="1",
            wait_end_of_query="1",
        )
        assert answer.status == 200, answer.data
        assert "Content-Encoding" not in answer.headers
        # It takes an answer whose summary has no rows for empty.
        assert int(json.loads(answer.headers["X-ClickHouse-Summary"])["result_rows"]) > 0
        return unpacked(answer.data, most=10_000_000)

    async def test_its_handshake(self, front: Front) -> None:
        version = front.database.version.encode()
        assert await self._rows(front, "SELECT version() as server_version") == (
            b"\x01\x0eserver_version\x06String" + struct.pack("B", len(version)) + version
        )
        assert await self._rows(front, "SELECT timezone()")

    async def test_its_questions_about_tables(self, front: Front) -> None:
        for query in (
            "SELECT name AS TABLE_SCHEM, '' AS TABLE_CATALOG FROM system.databases ORDER BY name",
            """SELECT t.name, t.engine, t.comment FROM system.tables t
               JOIN system.databases d ON system.tables.database = system.databases.name""",
            """SELECT toInt32(system.columns.position) AS ORDINAL_POSITION, system.columns.type
               FROM system.columns WHERE system.columns.table LIKE 'otel%'""",
            "SELECT name, case_insensitive FROM system.data_type_families",
            "SELECT name FROM system.functions WHERE name ILIKE '%'",
            "SELECT arrayJoin(['TABLE', 'VIEW']) AS TABLE_TYPE ORDER BY TABLE_TYPE",
            "SELECT c1, c2 FROM VALUES ('c1 String, c2 Int32', ('ApplicationName', 255))",
            "SHOW TABLES",
            "SHOW CREATE TABLE otel_logs",
            "DESCRIBE TABLE otel_logs",
            "SELECT * FROM information_schema.tables LIMIT 5",
        ):
            assert len(await self._rows(front, query)) > 20


async def test_a_busy_front_does_not_hold_up_inserts() -> None:
    """Eight clients that ask without end, and inserts beside them: each comes through."""
    async with running_front() as front:
        stop = asyncio.Event()
        answered = 0
        most = 0

        async def ask() -> None:
            nonlocal answered, most
            while not stop.is_set():
                answer = await front.ask(
                    "SELECT count(), uniq(Body), max(Timestamp) FROM otel_logs WHERE Body ILIKE '%7%'"
                )
                assert answer.status == 200, answer.text
                answered += 1
                most = max(most, len(front.database._running))

        async def insert() -> None:
            for number in range(20):
                await front.database.command(
                    "INSERT INTO logs (project, writer, seq, batch, level, message) SELECT"
                    f" 'local.other', 'w{number}', number + 1, {number + 10}, 'info', toString(number)"
                    " FROM numbers(10000)"
                )

        await front.ask("SELECT 1")  # the first one asks the pool what the engine is like
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            asking = [group.create_task(ask()) for _ in range(8)]
            await insert()
            stop.set()
        assert all(task.done() for task in asking)
        assert answered > 0
        assert most <= 1, "who asks takes a place of the pool"
        [row] = await front.database.rows("SELECT count() AS n FROM logs")
        assert row["n"] == LOGS + 200_000
        assert SPANS
