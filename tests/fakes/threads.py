"""A server of a test in a thread, for tests that watch processes and must not await."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_a_thread(server: AbstractAsyncContextManager[T], name: str) -> Iterator[T]:
    """What `server` gives while the block runs, in a loop of its own."""
    loop, ready, stop = asyncio.new_event_loop(), Event(), asyncio.Event()
    made: list[T] = []

    async def serve() -> None:
        async with server as given:
            made.append(given)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            ready.set()

    thread = Thread(target=run, name=name)
    thread.start()
    try:
        ready.wait()
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
