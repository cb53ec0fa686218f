"""ClickHouse's HTTP protocol, as clients speak it, in front of the embedded engine."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator

import aiohttp
import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard

from spanyard_gateway.front import USER, FrontSettings
from spanyard_gateway.front.blocks import compressed, unpacked
from spanyard_gateway.sql import SqlLimits
from tests.fakes.front import TOKEN, Front, basic, running_front, until_running

pytestmark = pytest.mark.engine

SLOW = "SELECT count() FROM numbers(100000000000000) WHERE cityHash64(number) = 1"


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front(filled=False) as running:
        yield running


class TestAccess:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": basic("wrong")},
            {"Authorization": basic("")},
            {"Authorization": basic(TOKEN, user="default")},
            {"Authorization": "Basic %%%"},
            {"Authorization": f"Bearer {TOKEN}"},
            {"X-ClickHouse-User": USER},
            {"X-ClickHouse-Key": TOKEN},
            {"X-ClickHouse-User": USER, "X-ClickHouse-Key": TOKEN + "x"},
            {"Authorization": basic(TOKEN), "Host": "evil.example"},
            {"Authorization": basic(TOKEN), "Host": "localhost.evil.example"},
            {"Authorization": basic(TOKEN), "Origin": "http://evil.example"},
            {"Authorization": basic(TOKEN), "Origin": "null"},
            {"Authorization": basic(TOKEN), "Origin": "http://localhost:1"},
            {"Authorization": basic(TOKEN), "Sec-Fetch-Site": "cross-site"},
        ],
    )
    async def test_who_has_no_token_or_comes_from_elsewhere_gets_nothing(
        self, front: Front, headers: dict[str, str]
    ) -> None:
        answer = await front.ask("SELECT 'secret'", token=None, headers=headers)
        assert (answer.status, answer.code) == (403, 516)
        assert "AUTHENTICATION_FAILED" in answer.text
        assert "secret" not in answer.text
        assert TOKEN not in answer.text
        # A browser that was asked for a password would send it by itself ever after.
        assert "WWW-Authenticate" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": basic(TOKEN)},
            {"X-ClickHouse-User": USER, "X-ClickHouse-Key": TOKEN},
            {"Authorization": basic(TOKEN), "Host": "localhost"},
            {"Authorization": basic(TOKEN), "Host": "[::1]:8123"},
        ],
    )
    async def test_the_token_in_a_header_opens(self, front: Front, headers: dict[str, str]) -> None:
        answer = await front.ask("SELECT 1", token=None, headers=headers)
        assert (answer.status, answer.data) == (200, b"1\n")

    async def test_the_token_is_not_taken_from_the_address(self, front: Front) -> None:
        for token in (TOKEN, None):
            answer = await front.ask("SELECT 1", token=token, user=USER, password=TOKEN)
            assert (answer.status, answer.code) == (403, 516)
            assert "headers" in answer.text

    async def test_the_token_is_never_logged(
        self, front: Front, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            await front.ask("SELECT 1", token=None, user=USER, password=TOKEN)
            await front.ask("SELECT nosuch")
        assert TOKEN not in caplog.text

    async def test_only_this_application_is_there(self, front: Front) -> None:
        assert (await front.ask(method="GET", path="ping", token=None)).data == b"Ok.\n"
        for method, path in (("GET", "play"), ("GET", "dashboard"), ("PUT", ""), ("OPTIONS", "")):
            assert (await front.ask(method=method, path=path)).status in {404, 405}


class TestProtocol:
    async def test_get_and_post_and_both_together(self, front: Front) -> None:
        assert (await front.ask(method="GET", query="SELECT 1")).data == b"1\n"
        assert (await front.ask("SELECT 2")).data == b"2\n"
        assert (await front.ask("+ 1", query="SELECT 2")).data == b"3\n"
        head = await front.ask(method="HEAD", query="SELECT 1")
        assert (head.status, head.data) == (200, b"")

    async def test_the_headers_say_what_it_is(self, front: Front) -> None:
        answer = await front.ask("SELECT number FROM numbers(5) FORMAT JSONCompact", query_id="q-7")
        assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
        assert answer.headers["X-ClickHouse-Format"] == "JSONCompact"
        assert answer.headers["X-ClickHouse-Query-Id"] == "q-7"
        assert answer.headers["X-ClickHouse-Timezone"]
        summary = json.loads(answer.headers["X-ClickHouse-Summary"])
        assert summary["result_rows"] == "5"
        assert summary["read_rows"] == "5"

    async def test_the_format_comes_from_the_query_else_the_address_else_a_header(
        self, front: Front
    ) -> None:
        header = {"X-ClickHouse-Format": "CSV"}
        ask = front.ask
        assert (
            await ask("SELECT 'a' FORMAT JSONEachRow", default_format="XML", headers=header)
        ).data
        assert (
            await ask("SELECT 'a'", default_format="JSONCompactEachRow", headers=header)
        ).data == (b'["a"]\n')
        assert (await ask("SELECT 'a'", headers=header)).data == b'"a"\n'

    async def test_parameters_are_escaped_as_the_protocol_says(self, front: Front) -> None:
        answer = await front.ask(
            "SELECT {a:String}, {b:Array(UInt8)}, {c:Nullable(String)}",
            param_a="it's\\\\ \\n \\t x",
            param_b="[1,2]",
            param_c="\\N",
        )
        assert answer.data == b"it\\'s\\\\ \\n \\t x\t[1,2]\t\\N\n"

    async def test_settings_come_from_the_address(self, front: Front) -> None:
        query = "SELECT toDateTime(0), getSetting('max_execution_time')"
        answer = await front.ask(
            query, session_timezone="Asia/Tokyo", max_execution_time="7", wait_end_of_query="1"
        )
        assert answer.data == b"1970-01-01 09:00:00\t7\n"
        assert answer.headers["X-ClickHouse-Timezone"] == "Asia/Tokyo"
        assert (await front.ask("SELECT 1", allow_ddl="1")).code == 164

    async def test_sessions_quotas_and_the_database_are_taken_note_of(self, front: Front) -> None:
        answer = await front.ask(
            "SELECT currentDatabase()", session_id="s", session_timeout="60", quota_key="q",
            database="default", buffer_size="1", send_progress_in_http_headers="1",
        )  # fmt: skip
        assert answer.text.strip() == front.database.database
        assert (await front.ask("SELECT 1", database="system")).code == 81
        assert (await front.ask("SELECT 1", headers={"X-ClickHouse-Database": "x"})).code == 81
        assert (await front.ask("SELECT 1", role="admin")).code == 511

    @pytest.mark.parametrize(
        ("query", "status", "code", "name"),
        [
            ("", 400, 62, "SYNTAX_ERROR"),
            ("SELEC 1", 400, 62, "SYNTAX_ERROR"),
            ("SELECT 1; SELECT 2", 400, 62, "SYNTAX_ERROR"),
            ("SELECT nosuch", 404, 47, "UNKNOWN_IDENTIFIER"),
            ("SELECT * FROM nosuch", 404, 60, "UNKNOWN_TABLE"),
            ("SELECT toUInt8('x')", 400, 6, "CANNOT_PARSE_TEXT"),
            ("SELECT throwIf(1)", 500, 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
            ("SELECT {x:String}", 400, 456, "UNKNOWN_QUERY_PARAMETER"),
            ("DROP TABLE logs", 403, 164, "READONLY"),
            ("SELECT * FROM file('/etc/passwd')", 403, 164, "READONLY"),
            ("SELECT 1 FORMAT Template", 403, 164, "READONLY"),
        ],
    )
    async def test_errors_are_told_as_clickhouse_does(
        self, front: Front, query: str, status: int, code: int, name: str
    ) -> None:
        answer = await front.ask(query)
        assert (answer.status, answer.code) == (status, code)
        assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
        assert f"({name}) (version {front.database.version}" in answer.text
        assert answer.text.count("\n") == 1
        assert "formatQuery" not in answer.text

    async def test_limits_end_a_query_with_their_code(self) -> None:
        hasty = SqlLimits(seconds=0.5)
        async with running_front(FrontSettings(limits=hasty), filled=False) as front:
            slow = await front.ask(SLOW)
            assert (slow.status, slow.code) == (408, 159)
        small = SqlLimits(memory_bytes=100_000_000, result_rows=10)
        async with running_front(FrontSettings(limits=small), filled=False) as front:
            large = await front.ask("SELECT groupArray(number) FROM numbers(1000000000)")
            assert (large.status, large.code) == (500, 241)
            many = await front.ask("SELECT number FROM numbers(11)")
            assert (many.status, many.code) == (500, 396)

    async def test_large_bodies_are_refused(self, front: Front) -> None:
        assert (await front.ask("SELECT 1 " + " " * 200_000)).code == 164
        assert (await front.ask("SELECT 1 " + " " * 1_100_000)).status == 413
        bomb = compressed(b"SELECT 1" + b" " * 20_000_000)
        assert len(bomb) < 200_000
        assert (await front.ask(bomb, decompress="1")).code == 36

    async def test_nonsense_gets_an_answer(self, front: Front) -> None:
        for body in (b"\xff\xfe", b"\x00", b"SELECT '\xff'", b"SELECT 1 \x00 x", b"(((("):
            answer = await front.ask(body)
            assert answer.status == 400
            assert answer.code == 62
        assert (await front.ask(b"no blocks", decompress="1")).code == 36
        assert (await front.ask("SELECT 1", client_protocol_version="x" * 99)).status == 200
        assert (await front.ask("SELECT 1", param_="1")).code == 164

    async def test_forms_carry_the_query_and_its_parameters(self, front: Front) -> None:
        form = aiohttp.FormData()
        form.add_field("query", "SELECT {a:String}", content_type="text/plain")
        form.add_field("param_a", "x", content_type="text/plain")
        headers = {"Authorization": basic(TOKEN)}
        async with front.session.post(front.url, data=form, headers=headers) as response:
            assert (response.status, await response.read()) == (200, b"x\n")
        form = aiohttp.FormData()
        form.add_field("query", "SELECT * FROM t", content_type="text/plain")
        form.add_field("t", b"1\n", filename="t")
        async with front.session.post(front.url, data=form, headers=headers) as response:
            assert response.status == 400
            assert "cannot be sent along" in await response.text()


class TestCompression:
    QUERY = "SELECT repeat('spanyard ', 1000) FROM numbers(100) FORMAT RawBLOB"
    PLAIN = b"spanyard " * 100_000

    async def test_blocks(self, front: Front) -> None:
        answer = await front.ask(self.QUERY, compress="1")
        assert len(answer.data) < 20_000
        assert unpacked(answer.data, most=1 << 20) == self.PLAIN

    async def test_blocks_of_errors_but_not_of_refusals(self, front: Front) -> None:
        # The JDBC driver unpacks errors, except where it wasn't let in.
        error = await front.ask("SELECT nosuch", compress="1")
        assert unpacked(error.data, most=10_000).startswith(b"Code: 47.")
        assert (await front.ask("DROP TABLE x", compress="1")).text.startswith("Code: 164.")

    async def test_a_request_in_blocks(self, front: Front) -> None:
        assert (await front.ask(compressed(b"SELECT 1"), decompress="1")).data == b"1\n"

    async def test_a_request_in_gzip(self, front: Front) -> None:
        headers = {"Content-Encoding": "gzip"}
        assert (await front.ask(gzip.compress(b"SELECT 1"), headers=headers)).data == b"1\n"

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
    async def test_of_http(self, front: Front, encoding: str) -> None:
        unpack = {
            "gzip": gzip.decompress,
            "deflate": zlib.decompress,
            "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
            "lz4": lz4.frame.decompress,
        }[encoding]
        headers = {"Accept-Encoding": f"br, {encoding};q=0.5"}
        answer = await front.ask(self.QUERY, enable_http_compression="1", headers=headers)
        assert answer.headers["Content-Encoding"] == encoding
        assert unpack(answer.data) == self.PLAIN
        plain = await front.ask(self.QUERY, headers=headers)
        assert plain.data == self.PLAIN


@pytest.fixture
async def patient() -> AsyncIterator[Front]:
    """A front that ends nothing by its time."""
    async with running_front(FrontSettings(limits=SqlLimits(seconds=600)), filled=False) as running:
        yield running


class TestCancelling:
    async def test_a_query_ends_with_its_client(self, patient: Front) -> None:
        asking = asyncio.create_task(patient.ask(SLOW))
        await until_running(patient.database, 1)
        asking.cancel()
        await until_running(patient.database, 0)

    async def test_a_query_is_killed_by_its_name(self, patient: Front) -> None:
        asking = asyncio.create_task(patient.ask(SLOW, query_id="my-query"))
        await until_running(patient.database, 1)
        twice = await patient.ask("SELECT 1", query_id="my-query")
        assert (twice.status, twice.code) == (500, 216)
        killed = await patient.ask("KILL QUERY WHERE query_id = 'my-query'")
        assert "my-query" in killed.text
        answer = await asking
        assert (answer.status, answer.code) == (500, 394)
        await until_running(patient.database, 0)

    async def test_nothing_else_can_be_killed(self, patient: Front) -> None:
        assert (await patient.ask("KILL QUERY WHERE 1")).code == 164
        assert (await patient.ask("KILL QUERY WHERE query_id = 'x' OR 1 = 1")).code == 164
        assert (await patient.ask("KILL QUERY WHERE query_id = 'nobody'")).data == b""
