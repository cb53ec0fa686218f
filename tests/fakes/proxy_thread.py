"""The proxy that loses answers in a thread, for tests that watch processes and must not await."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tests.fakes.losing_proxy import LosingProxy, losing_proxy


@contextmanager
def proxy_in_a_thread(port: int) -> Iterator[LosingProxy]:
    """A proxy before `port` of the loopback interface while the block runs."""
    loop, ready, stop = asyncio.new_event_loop(), Event(), asyncio.Event()
    made: list[LosingProxy] = []

    async def serve() -> None:
        async with losing_proxy(port) as proxy:
            made.append(proxy)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            ready.set()

    thread = Thread(target=run, name="proxy")
    thread.start()
    try:
        ready.wait()
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
