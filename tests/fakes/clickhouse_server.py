"""A server that speaks ClickHouse's HTTP protocol over the embedded engine, for tests.

It proves what a client sends and how it takes the answers: addresses, accounts, parameters,
settings, query ids, streamed bodies, error codes, lost answers. It proves nothing about how a real
server reads a stream: the body of an INSERT goes to a file first, and `input()` becomes `file()`.
"""

import asyncio
import base64
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb
import lz4.frame  # type: ignore[import-untyped]
import zstandard
from aiohttp import web

from tests.fakes.engine import engine_folder

USER = "spanyard"
PASSWORD = "s3cret/#"
_TRANSPORT = {
    "query", "database", "query_id", "session_id", "wait_end_of_query", "client_protocol_version",
    "enable_http_compression", "send_progress_in_http_headers", "compress", "decompress",
    "http_headers_progress_interval_ms", "buffer_size", "role",
}  # fmt: skip
_INPUT = re.compile(r"input\(('(?:[^'\\]|\\.)*')\)")
_CODE = re.compile(r"Code: (\d+)")


@dataclass
class Request:
    """One statement as it arrived."""

    statement: str
    params: Mapping[str, str]
    encoding: str
    body_bytes: int
    chunked: bool


@dataclass
class ClickHouseServer:
    """A running server, what it was asked, and how it shall fail."""

    host: str = "127.0.0.1"
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    lose_answers_to: str = ""
    """Statements that begin so are carried out, and then the connection breaks."""
    answer_status: int = 0
    """If set, every request is answered so and nothing is done."""
    refused: int = 0
    """Requests that were answered so."""
    delay: float = 0.0
    """Seconds before each statement is carried out."""

    def url(self, database: str = "default", password: str = PASSWORD) -> str:
        secret = password.replace("/", "%2F").replace("#", "%23")
        return f"http://{USER}:{secret}@{self.host}:{self.port}/{database}"

    def inserts(self) -> list[Request]:
        return [request for request in self.requests if request.statement.startswith("INSERT")]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.answer_status:
            self.refused += 1
            return web.Response(status=self.answer_status, text="not now")
        if request.path == "/ping":
            return web.Response(text="Ok.\n")
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return _refusal(
                "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)"
            )
        body = await request.read()
        encoding = request.headers.get("Content-Encoding", "")
        statement = request.query.get("query", "")
        length = len(body)
        if not statement:
            try:
                statement, body = _statement_and_data(_decoded(body, encoding))
            except zstandard.ZstdError as error:
                return _refusal(f"Code: 561. DB::Exception: {error} (ZSTD_DECODER_FAILED)")
        chunked = request.headers.get("Transfer-Encoding") == "chunked"
        self.requests.append(Request(statement, dict(request.query), encoding, length, chunked))
        await asyncio.sleep(self.delay)
        try:
            answer = await asyncio.to_thread(_execute, statement, body, dict(request.query))
        except Exception as error:
            return _refusal(str(error))
        if self.lose_answers_to and statement.startswith(self.lose_answers_to):
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        return web.Response(
            body=answer,
            headers={
                "X-ClickHouse-Summary": "{}",
                "X-ClickHouse-Timezone": "UTC",
                "X-ClickHouse-Query-Id": request.query.get("query_id", ""),
            },
        )


def _refusal(text: str) -> web.Response:
    code = match[1] if (match := _CODE.search(text)) else "1002"
    status = 403 if code == "516" else 500
    return web.Response(status=status, text=text, headers={"X-ClickHouse-Exception-Code": code})


def _statement_and_data(body: bytes) -> tuple[str, bytes]:
    if body.startswith(b"INSERT"):
        for form in (b"FORMAT Native\n", b"FORMAT JSONEachRow\n"):
            head, separator, data = body.partition(form)
            if separator:
                return (head + form.strip()).decode(), data
    return body.decode(), b""


def _execute(statement: str, body: bytes, params: Mapping[str, str]) -> bytes:
    values = {name[6:]: text for name, text in params.items() if name.startswith("param_")}
    with tempfile.TemporaryDirectory(prefix="spanyard-http-") as folder:
        data = Path(folder, "body")
        if body:
            data.write_bytes(body)
            if match := _INPUT.search(statement):
                source = f"file('{data}', 'JSONEachRow', {match[1]}, 'none')"
                statement = statement.replace(match[0], source)
                statement = statement.removesuffix(" FORMAT JSONEachRow")
            else:
                statement = statement.replace(
                    "FORMAT Native", f"FROM INFILE '{data}' FORMAT Native"
                )
        # The embedded engine has no query ids.
        statement = statement.replace(
            "KILL QUERY WHERE query_id", "KILL QUERY WHERE Settings['log_comment']"
        )
        engine: Any = chdb.connect(str(engine_folder()))  # type: ignore[no-untyped-call]
        try:
            if "database" in params:
                engine.query(f"USE `{params['database']}`")
            if query_id := params.get("query_id"):
                engine.query(f"SET log_comment = '{query_id}'")
            # A server takes them all at once; here `readonly` would refuse the next one.
            for name, value in sorted(params.items(), key=lambda item: item[0] == "readonly"):
                if name not in _TRANSPORT and not name.startswith("param_"):
                    engine.query(f"SET {name} = '{value}'")
            return bytes(engine.query(statement, "TabSeparated", params=values).bytes() or b"")
        finally:
            engine.close()


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)
    if encoding == "lz4":
        return bytes(lz4.frame.decompress(body))
    return body


@asynccontextmanager
async def running_clickhouse(host: str = "127.0.0.1") -> AsyncIterator[ClickHouseServer]:
    """A server on a free port of this address."""
    server = ClickHouseServer(host)
    app = web.Application(client_max_size=512 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
