"""Threads for statements of strangers, which may not let themselves be ended.

The engine looks at time and at KILL between blocks of rows; a function that takes an hour over one
row (two large arrays compared, each with each) takes that hour. Such a thread must hold up
neither the other statements nor the end of the process: so these are daemons, which the
interpreter does not wait for, as it would for a ThreadPoolExecutor's.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Readers:
    """So many threads, started when they are first needed."""

    def __init__(self, count: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []

    async def run(self, job: Callable[[], T]) -> T:
        """Run it in one of the threads. A job that waits when it is cancelled never runs."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"{self._name}-{n}", daemon=True)
                for n in range(self._count)
            ]
            for thread in self._threads:
                thread.start()
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while (waiting := self._jobs.get()) is not None:
            future, job = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:  # the awaiting task's to handle, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)

    def close(self, patience: float) -> bool:
        """Take nothing more and wait so many seconds. Gives whether all threads have ended."""
        with suppress(queue.Empty):
            while True:  # never waiting: the threads take from it too
                if (waiting := self._jobs.get_nowait()) is not None:
                    waiting[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
