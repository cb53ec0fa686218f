"""A running front over a migrated database with some logs and traces, for tests."""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from spanyard_core.clickhouse import Database
from spanyard_core.serve import serving
from spanyard_gateway.front import USER, FrontSettings, front_app
from tests.fakes.engine import migrated_database

TOKEN = "a-token-of-the-tests-0123456789abcdef"
LOGS = 2_000
TRACES = 50
SPANS = 500

_FILL = (
    f"""
    INSERT INTO logs (project, writer, seq, batch, ingest_day, deployment, service, recorded_at,
        timestamp, level, message, trace_id, span_id, attributes, attribute_map, resource)
    SELECT 'local.agent', 'w1', number + 1, 1, today(), 'agent', 'agent', now64(9),
        now64(9) - toIntervalSecond(number % 3000), ['debug', 'info', 'warn', 'error'][number % 4 + 1],
        'line ' || toString(number), lower(hex(MD5(toString(number % {TRACES})))),
        substring(lower(hex(MD5(toString(number)))), 1, 16), '{{"http.method": "GET"}}',
        map('http.method', 'GET'), '{{"service.version": "7"}}'
    FROM numbers({LOGS})
    """,
    f"""
    INSERT INTO spans (project, writer, seq, batch, ingest_day, deployment, service, recorded_at,
        ended, root, start_time, end_time, duration_ns, id, trace_id, parent_span_id, name, status,
        span_kind, events, links, attributes, resource)
    SELECT 'local.agent', 'w2', number + 1, 2, today(), 'agent', 'agent', now64(9), 1,
        number % 10 = 0, now64(9) - toIntervalSecond(number), now64(9) - toIntervalSecond(number),
        number * 1000, substring(lower(hex(MD5(toString(number)))), 1, 16),
        lower(hex(MD5(toString(intDiv(number, 10))))),
        if(number % 10 = 0, '', substring(lower(hex(MD5(toString(intDiv(number, 10) * 10)))), 1, 16)),
        'op' || toString(number % 5), if(number % 7 = 0, 'error', 'ok'), 'server',
        '[{{"timestamp": "2026-11-21T10:00:00Z", "name": "seen", "attributes": {{"a": "b"}}}}]',
        '[]', '{{"http.method": "GET"}}', '{{}}'
    FROM numbers({SPANS})
    """,
    """
    INSERT INTO trace_index (project, trace_id, start_time, end_time)
    SELECT project, trace_id, min(start_time), max(greatest(start_time, end_time)) FROM spans GROUP BY ALL
    """,
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def code(self) -> int:
        """ClickHouse's code of the error, 0 for none."""
        return int(self.headers.get("X-ClickHouse-Exception-Code", "0"))


@dataclass
class Front:
    """A front that listens."""

    database: Database
    port: int
    session: aiohttp.ClientSession
    closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def ask(
        self,
        body: str | bytes = b"",
        *,
        method: str = "POST",
        path: str = "",
        token: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
        **params: str,
    ) -> Answer:
        """Send it as `curl -u` would; parameters go into the address."""
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if token is not None:
            sent.setdefault("Authorization", basic(token))
        async with self.session.request(
            method,
            f"{self.url}{path}",
            params=params,
            data=io.BytesIO(body.encode() if isinstance(body, str) else body),
            headers=sent,
        ) as response:
            return Answer(response.status, dict(response.headers), await response.read())


def basic(token: str, user: str = USER) -> str:
    """The header's value."""
    return f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


@contextlib.asynccontextmanager
async def running_front(
    settings: FrontSettings | None = None, *, filled: bool = True
) -> AsyncIterator[Front]:
    """The front over the migrated database, with `LOGS` log lines and `SPANS` spans."""
    async with migrated_database(pool=2) as database:
        for statement in _FILL if filled else ():
            await database.command(statement)
        app = front_app(database, TOKEN, settings)
        async with (
            serving(app, "127.0.0.1", 0, cancel_abandoned=True) as address,
            aiohttp.ClientSession(
                auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60)
            ) as session,
        ):
            yield Front(database, address.port, session)


async def running_statements(database: Database) -> int:
    """How many statements of the front run in the engine just now."""
    [row] = await database.rows(
        "SELECT count() AS n FROM system.processes WHERE query LIKE '%cityHash64(number) = 1%'"
        " AND query NOT LIKE '%system.processes%' AND query NOT LIKE '%formatQuery%'"
    )
    return int(row["n"])


async def until_running(database: Database, count: int) -> None:
    """Wait until so many of them run; AssertionError after a minute."""
    for _ in range(3_000):
        if await running_statements(database) == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"there were never {count} statements")
