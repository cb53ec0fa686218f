"""The front itself: takes requests of ClickHouse's HTTP interface, answers them, bounded."""

import asyncio
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from aiohttp import web

from spanyard_core.clickhouse import Database
from spanyard_core.errors import SpanyardError
from spanyard_gateway.front.blocks import compressed
from spanyard_gateway.front.errors import (
    NOT_IMPLEMENTED,
    UNKNOWN_EXCEPTION,
    FrontError,
    code_of,
    status_of,
    text_of,
)
from spanyard_gateway.front.native import UnknownTypeError, with_revision
from spanyard_gateway.front.request import (
    USER,
    Ask,
    check_access,
    encodings_of,
    query_id_of,
    read_ask,
    wants_blocks,
)
from spanyard_gateway.sql import SqlLimits, SqlResult, read_only

__all__ = ["DEFAULT_PORT", "USER", "FrontSettings", "front_app"]

log = logging.getLogger("spanyard.front")

DEFAULT_PORT = 8123
"""ClickHouse's own for HTTP, which clients have filled in already."""
MAX_BODY_BYTES = 1 << 20
"""A query and its parameters."""

_KILL = re.compile(
    r"\s*KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*'([\x21-\x26\x28-\x7e]{1,200})'\s*(?:A?SYNC)?\s*;?\s*",
    re.IGNORECASE,
)
"""What drivers send to cancel; here it ends a request of this front, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class FrontSettings:
    """Bounds of the front."""

    limits: SqlLimits = field(default_factory=SqlLimits)


def front_app(
    database: Database, token: str, settings: FrontSettings | None = None
) -> web.Application:
    """The front over a database that the caller opens and closes, for who has the token.

    Serve it on loopback, with `cancel_abandoned=True`: so a query ends when its client goes.
    """
    if not token:
        raise ValueError("the front needs a token")
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    front = _Front(database, token, settings or FrontSettings())
    app.add_routes(
        [
            web.get("/ping", front.ping),
            web.get("/replicas_status", front.ping),
            web.route("GET", "/", front.handle),
            web.route("POST", "/", front.handle),
        ]
    )
    return app


class _Front:
    def __init__(self, database: Database, token: str, settings: FrontSettings) -> None:
        self._database = database
        self._token = token
        self._limits = settings.limits
        self._running: dict[str, asyncio.Task[SqlResult]] = {}
        self._timezone: str | None = None

    async def ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def handle(self, request: web.Request) -> web.Response:
        query_id = query_id_of(request)
        try:
            check_access(request, self._token)
            ask = await read_ask(request, self._database.database, most_bytes=MAX_BODY_BYTES)
            if killed := _KILL.fullmatch(ask.query):
                return self._killed(killed[1], query_id)
            return await self._answer(ask, query_id)
        except SpanyardError as error:
            return self._refusal(error, query_id, request)
        except Exception:
            reference = os.urandom(6).hex()
            log.exception("a query failed", extra={"fields": {"ref": reference}})
            told = FrontError(
                UNKNOWN_EXCEPTION, f"Something failed on our side; our log has it as {reference}"
            )
            return self._refusal(told, query_id, request)

    async def _answer(self, ask: Ask, query_id: str) -> web.Response:
        result = await self._run(ask, query_id)
        data, encoding = await _off_the_loop(lambda: _dressed(ask, result), len(result.data))
        headers = {
            "Content-Type": result.content_type,
            "X-ClickHouse-Server-Display-Name": "Spanyard",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Format": result.form,
            "X-ClickHouse-Timezone": ask.settings.get("session_timezone") or await self._zone(),
            "X-ClickHouse-Summary": _summary(result),
        }
        if encoding:
            headers["Content-Encoding"] = encoding
        return web.Response(body=data, headers=headers)

    async def _run(self, ask: Ask, query_id: str) -> SqlResult:
        if query_id in self._running:
            raise FrontError(216, f"Query with id = {query_id} is already running")
        task = asyncio.create_task(
            read_only(
                self._database,
                ask.query,
                params=ask.params,
                format=ask.form,
                limits=self._limits,
                settings=ask.settings,
            ),
            name=f"query {query_id}",
        )
        self._running[query_id] = task
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # the client has gone, or we end
            raise FrontError(394, "Query was cancelled") from None
        finally:
            del self._running[query_id]
            task.cancel()

    def _killed(self, target: str, query_id: str) -> web.Response:
        task = self._running.get(target)
        if task is not None:
            task.cancel()
        return web.Response(
            text="" if task is None else f"finished\t{target}\t{USER}\n",
            headers={"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Format": "TabSeparated"},
        )

    async def _zone(self) -> str:
        if self._timezone is None:
            [row] = await self._database.rows("SELECT timezone() AS zone")
            self._timezone = str(row["zone"])
        return self._timezone

    def _refusal(self, error: SpanyardError, query_id: str, request: web.Request) -> web.Response:
        code = code_of(error)
        status = status_of(code)
        data, encoding = text_of(error, self._database.version).encode(), ""
        # Who was not let in gets plain text; the JDBC driver unpacks every other answer.
        if status != web.HTTPForbidden.status_code:
            data = compressed(data) if wants_blocks(request) else data
            data, encoding = _encoded(data, encodings_of(request))
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Exception-Code": str(code),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "Spanyard",
        }
        if encoding:
            headers["Content-Encoding"] = encoding
        return web.Response(status=status, body=data, headers=headers)


_LARGE = 65_536
"""Bytes whose compression would hold up the loop for a millisecond or more."""


async def _off_the_loop(work: Callable[[], tuple[bytes, str]], size: int) -> tuple[bytes, str]:
    return work() if size < _LARGE else await asyncio.to_thread(work)


def _dressed(ask: Ask, result: SqlResult) -> tuple[bytes, str]:
    """The bytes to send, and their Content-Encoding or nothing."""
    data = result.data
    if result.form == "Native" and ask.revision:
        try:
            data = with_revision(data, ask.revision)
        except UnknownTypeError as error:
            raise FrontError(
                NOT_IMPLEMENTED,
                f"a column of type {error} cannot be sent in the Native format of revision "
                f"{ask.revision}; cast it, toString(…), or ask for another format",
            ) from error
    if ask.blocks:
        data = compressed(data)
    return _encoded(data, ask.encodings)


def _encoded(data: bytes, wanted: Collection[str]) -> tuple[bytes, str]:
    for encoding, pack in _ENCODINGS.items():
        if encoding in wanted and data:
            return pack(data), encoding
    return data, ""


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(data) + packer.flush()


def _lz4(data: bytes) -> bytes:
    packed: bytes = lz4.frame.compress(data)
    return packed


_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.compress(data, 1),
    "lz4": _lz4,
    "gzip": _gzip,
    "deflate": lambda data: zlib.compress(data, 1),
}


def _summary(result: SqlResult) -> str:
    numbers = {
        "read_rows": result.rows_read,
        "read_bytes": result.bytes_read,
        "written_rows": 0,
        "written_bytes": 0,
        "total_rows_to_read": result.rows_read,
        "result_rows": result.rows,  # without it the JDBC driver takes an answer for empty
        "result_bytes": len(result.data),
        "elapsed_ns": result.elapsed_ns,
    }
    return json.dumps({name: str(value) for name, value in numbers.items()})
