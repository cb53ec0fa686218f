"""The connection to ClickHouse: an engine in this process or a server, behind one small API.

Both go through clickhouse-connect, whose calls block. They run in a bounded pool of threads with
as many clients as threads: one client serves one statement at a time, several side by side. A
client belongs to the thread's job, not to the awaiting task; so a cancelled await leaves the pool
whole, and the client comes back when the engine has answered.

The embedded engine knows no query ids; there the id travels as the setting `log_comment`, and
`kill` finds it in `system.processes` by that (tried on chDB 4.4).
"""

import asyncio
import logging
import queue
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from spanyard_core.clickhouse.address import Address, parse_address
from spanyard_core.clickhouse.clients import engine_failure, make_client
from spanyard_core.clickhouse.failures import Translated, translate
from spanyard_core.clickhouse.readers import Readers
from spanyard_core.clickhouse.reading import (
    NOBODY_WAITS,
    EngineError,
    RawAnswer,
    ask_in_process,
    settings_clause,
)
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS = 2
"""Statements of strangers (`read_raw`) that run in process at a time, beside the pool's own."""
CLOSING_S = 10.0
"""Seconds that those get to end when the connection is closed."""
KILL_AGAIN_S = 0.02
"""Seconds from one KILL of a statement to the next: the engine may not know yet what has just begun."""


class Database:
    """An open connection. Make it by `open_database`; close it.

    Every method raises DatabaseError when ClickHouse refuses the statement and
    DatabaseUnavailableError when it's away, overloaded or closed. Values go into statements as
    bound parameters only: `{name:Type}` in the SQL, `params={"name": value}` beside it.
    """

    def __init__(self, address: Address, clients: Sequence[Client], control: Client) -> None:
        self.url = str(address)
        self._address = address
        self.in_process = address.in_process
        self.database = address.database
        self.version = str(control.server_version)
        self._idle: queue.SimpleQueue[Client | None] = queue.SimpleQueue()
        """None: to be opened when it is needed."""
        for client in clients:
            self._idle.put(client)
        self._control = control
        self._workers = ThreadPoolExecutor(len(clients), thread_name_prefix="clickhouse")
        self._control_worker = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-control")
        self._readers = Readers(READERS, "clickhouse-reader")
        self._running: set[str] = set()
        self._killed: set[str] = set()
        """Of those that run."""
        self._reading: set[str] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    async def rows(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """The result of a SELECT, a dict per row. A cancelled await also kills the statement.

        DateTime64 values arrive as `datetime`, cut to microseconds: where nanoseconds matter,
        select `spanyard_core.clickhouse.rfc3339(column)`.
        """
        query_id = uuid.uuid4().hex
        options = self._identified(settings, query_id)

        def read(client: Client) -> list[dict[str, Any]]:
            result = client.query(sql, parameters=dict(params or {}), settings=options)
            return list(result.named_results())

        return await self._asked(read, query_id)

    async def text(
        self,
        sql: str,
        *,
        form: str = "JSONEachRow",
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The result of a SELECT of ours, without SETTINGS, in the format `form`. A cancelled await also
        kills it.

        For many rows: `rows` makes them in a thread, but with Python's lock, for 7 ms of 2,000 lines in
        which nobody else is served, this for less than one.
        """
        query_id = uuid.uuid4().hex
        options = self._identified(settings, query_id)
        if self.in_process:
            # Beside the statement the driver would SET them for the session and back: after `readonly`
            # the next statement through that client is refused if it writes (chdb 4.4).
            sql, options = f"{sql} SETTINGS {settings_clause(options)}", {}
        else:
            options["wait_end_of_query"] = 1  # else an error may follow after "200 OK"

        def read(client: Client) -> bytes:
            return client.raw_query(sql, parameters=dict(params or {}), settings=options, fmt=form)

        return await self._asked(read, query_id)

    async def read_raw(
        self,
        sql: str,
        *,
        form: str,
        params: Mapping[str, str | None] | None = None,
        settings: Mapping[str, str | float] | None = None,
    ) -> RawAnswer:
        """One statement under `readonly = 1`, its answer in the format `form`; ended if cancelled.

        The text has to be checked before (`spanyard_core.clickhouse.reading` says for what). In
        process it has a session and a thread of its own: it takes no place in the pool.
        """
        query_id = uuid.uuid4().hex
        options = self._identified(settings, query_id)
        values = dict(params or {})
        abandoned = threading.Event()

        def ask() -> RawAnswer:
            self._reading.add(query_id)
            try:
                with Translated(self.url):
                    return ask_in_process(
                        self._address,
                        sql,
                        form=form,
                        params=values,
                        settings=options,
                        abandoned=lambda: abandoned.is_set() or self._closed,
                    )
            finally:
                self._reading.discard(query_id)

        def ask_server(client: Client) -> RawAnswer:
            return RawAnswer(
                client.raw_query(
                    sql, parameters=values, settings={**options, "readonly": 1}, fmt=form
                )
            )

        self._check_open()
        try:
            if not self.in_process:
                return await self._run(ask_server, query_id, abandoned)
            return await self._readers.run(ask)
        except asyncio.CancelledError:
            abandoned.set()
            self._kill_later(query_id, wait=False)  # it may be of a kind that cannot be ended
            raise

    async def write_file(
        self,
        path: Path,
        sql: str,
        *,
        form: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """The result of a SELECT of ours as a file of this machine, which must not be there yet.

        Memory for a few blocks, however large it is. A cancelled await ends the statement.
        """
        query_id = uuid.uuid4().hex
        options = self._identified(settings, query_id)
        values = dict(params or {})

        def write(client: Client) -> None:
            if self.in_process:
                quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
                target = f"INSERT INTO FUNCTION file('{quoted}', '{form}', 'auto', 'none') "
                client.command(target + sql, parameters=values, settings=options)
                return
            stream: Any = client.raw_stream(sql, parameters=values, settings=options, fmt=form)
            with stream, path.open("xb") as file:
                shutil.copyfileobj(stream, file)

        await self._asked(write, query_id)

    async def command(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        query_id: str | None = None,
    ) -> None:
        """Run a statement without a result: DDL, INSERT … SELECT, DELETE.

        It's sent once, never again. A cancelled await leaves it running: see `kill`. In process,
        each of `settings` costs 0.3 ms; a SETTINGS clause in the statement costs nothing.
        """
        name = query_id or uuid.uuid4().hex
        options = self._identified(settings, name)
        if not self.in_process:
            options["wait_end_of_query"] = 1  # else an error may follow after "200 OK"

        def run(client: Client) -> None:
            client.command(sql, parameters=dict(params or {}), settings=options)

        await self._run(run, name)

    async def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Insert rows of a table that bears repeats: the client may send them twice over HTTP."""
        if not rows:
            return

        def run(client: Client) -> None:
            client.insert(table, [list(row) for row in rows], column_names=list(columns))

        await self._run(run, uuid.uuid4().hex)

    async def send(
        self,
        statement: str,
        body: Callable[[], Iterable[bytes]],
        *,
        query_id: str,
        form: str = "JSONEachRow",
    ) -> None:
        """Stream zstd frames to a server as the data of `INSERT INTO {statement} FORMAT {form}`.

        The statement goes ahead of them as a frame of its own: in the address it would be too
        long for many a proxy (8 KB). The body is a stream, which the client cannot send twice by
        itself. Not for the embedded engine: there `file()` reads the bytes.
        """
        options = self._identified({"wait_end_of_query": 1}, query_id)
        head = zstandard.compress(f"INSERT INTO {statement} FORMAT {form}\n".encode())

        def run(client: Client) -> None:
            # A generator: the client tells a stream from bytes by that, and repeats only bytes.
            chunks = (chunk for part in ((head,), body()) for chunk in part)
            client.raw_insert("", insert_block=chunks, settings=options, compression="zstd")

        await self._run(run, query_id)

    async def kill(self, query_id: str, *, wait: bool = True) -> None:
        """End the statement with this id, if it runs, and wait for its end.

        It has its own client: a full pool doesn't hold it up.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._control_worker, self._end, query_id, wait)

    def _end(self, query_id: str, wait: bool = True) -> None:
        column = "Settings['log_comment']" if self.in_process else "query_id"
        sql = f"KILL QUERY WHERE {column} = {{query_id:String}} {'SYNC' if wait else 'ASYNC'}"
        if query_id in self._running:
            self._killed.add(query_id)
        with Translated(self.url):
            self._control.command(sql, parameters={"query_id": query_id})

    async def create_database(self) -> None:
        """Create the database that the URL names, if it isn't there."""

        def run(client: Client) -> None:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{self.database}`", use_database=False)

        await self._run(run, uuid.uuid4().hex)

    async def close(self) -> None:
        """End what still runs, wait for it, and let go of the engine. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*self._endings, return_exceptions=True)  # each logs its own failure
        await asyncio.get_running_loop().run_in_executor(None, self._shut)

    def _shut(self) -> None:
        self._end_all()
        self._workers.shutdown(wait=True, cancel_futures=True)
        # Those that still read have had their time.
        if not self._readers.close(0 if self._reading else CLOSING_S):
            log.warning("a statement of a reader does not end; it is left to the process's end")
        self._control_worker.shutdown(wait=True, cancel_futures=True)
        self._control.close()
        while not self._idle.empty():
            if (client := self._idle.get_nowait()) is not None:
                client.close()

    def _end_all(self) -> None:
        deadline = time.monotonic() + CLOSING_S
        told: set[str] = set()
        pause = KILL_AGAIN_S
        while self._running or (self._reading and time.monotonic() < deadline):
            for query_id in [*self._reading, *self._running]:
                try:
                    self._end(query_id, wait=query_id in self._running)
                except DatabaseError as error:
                    if query_id not in told:
                        log.warning("could not end statement %s while closing: %s", query_id, error)
                    told.add(query_id)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)  # an insert ends by itself alone

    def _identified(self, settings: Mapping[str, Any] | None, query_id: str) -> dict[str, Any]:
        return {**(settings or {}), "log_comment" if self.in_process else "query_id": query_id}

    def _kill_later(self, query_id: str, *, wait: bool = True) -> None:
        # The reader has gone; what it asked for must not hold a client for long.
        if not self._closed:
            task = asyncio.get_running_loop().create_task(
                self._end_abandoned(query_id, wait), name=f"end abandoned statement {query_id}"
            )
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)
            task.add_done_callback(_log_failure)

    async def _end_abandoned(self, query_id: str, wait: bool) -> None:
        pause = KILL_AGAIN_S
        # Once it is closed, `_shut` goes on with it.
        while not self._closed and (query_id in self._running or query_id in self._reading):
            await self.kill(query_id, wait=wait)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)  # one that cannot be ended may run for an hour

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseUnavailableError(f"the connection to {self.url} is closed")

    async def _asked(self, job: Callable[[Client], T], query_id: str) -> T:
        """`_run` for whose result somebody waits: cancelled, it ends the statement."""
        abandoned = threading.Event()
        try:
            return await self._run(job, query_id, abandoned)
        except asyncio.CancelledError:
            abandoned.set()
            self._kill_later(query_id)
            raise

    async def _run(
        self, job: Callable[[Client], T], query_id: str, abandoned: threading.Event | None = None
    ) -> T:
        self._check_open()

        def check_wanted() -> None:
            self._check_open()
            if abandoned and abandoned.is_set():
                raise EngineError(NOBODY_WAITS)

        def run() -> T:
            client = self._idle.get_nowait()  # as many clients as threads: there is one
            self._running.add(query_id)
            whole = False
            try:
                with Translated(self.url):
                    check_wanted()
                    client = client or make_client(self._address)
                    check_wanted()  # meanwhile there was nothing to kill
                    result = job(client)
                    whole = True
                    return result
            finally:
                self._running.discard(query_id)
                if query_id in self._killed:
                    self._killed.discard(query_id)
                    whole = False
                spoilt = client if self.in_process and not whole else None
                self._idle.put(None if spoilt else client)
                if spoilt:
                    # What a statement that was killed still had to say is the beginning of the
                    # next one's answer on that handle of the engine (33 of 40 times; chdb 4.4).
                    spoilt.close()

        return await asyncio.get_running_loop().run_in_executor(self._workers, run)


async def open_database(url: str, *, pool: int = 3) -> Database:
    """Connect to the ClickHouse of a URL (see `Address`), with up to `pool` statements at a time.

    Raises SettingError for a bad URL, DatabaseUnavailableError where nobody answers or another
    process has the embedded engine's folder open, DatabaseError where access is refused.
    """
    address = parse_address(url)
    if pool < 1:
        raise ValueError(f"pool is {pool}, must be at least 1")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, _connect, address, pool)


@asynccontextmanager
async def database(url: str, *, pool: int = 3) -> AsyncIterator[Database]:
    """`open_database` as a context manager that closes it."""
    opened = await open_database(url, pool=pool)
    try:
        yield opened
    finally:
        await opened.close()


def _connect(address: Address, pool: int) -> Database:
    clients: list[Client] = []
    try:
        for _ in range(pool + 1):
            clients.append(make_client(address))  # noqa: PERF401 -- what was opened is closed below
        return Database(address, clients[1:], clients[0])
    except (ClickHouseError, OSError) as error:
        for client in clients:
            client.close()
        if address.in_process:
            raise engine_failure(address, error) from error
        raise translate(error, where=str(address)) from error


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("could not end an abandoned statement: %s", error)
