"""The fake ClickHouse server in a thread, for tests that watch processes and must not await."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tests.fakes.clickhouse_server import ClickHouseServer, running_clickhouse


@contextmanager
def clickhouse_in_a_thread() -> Iterator[ClickHouseServer]:
    """A server while the block runs. Its fields may be set from here."""
    ready, servers = Event(), list[ClickHouseServer]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with running_clickhouse() as server:
            servers.append(server)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            ready.set()

    thread = Thread(target=run, name="ClickHouse server")
    thread.start()
    try:
        ready.wait()
        yield servers[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
