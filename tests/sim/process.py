"""A process of the simulated machine: it can be killed, and then it does nothing more.

Killing closes its coroutines where they stand. Their `finally` blocks do run (Python gives no way
around that), but every seam they touch raises `ProcessKilled`, which is not an Exception, and none
of their callbacks is ever called again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_CURRENT: ContextVar["Process | None"] = ContextVar("process", default=None)


class ProcessKilled(BaseException):
    """Raised out of every seam in a process that was killed."""


def process_of(context: Context) -> "Process | None":
    """The process that a callback with this context belongs to; None for the world itself."""
    return context.get(_CURRENT)


def current_process() -> "Process | None":
    """The process whose code is running; None for the world itself."""
    return _CURRENT.get()


class Process:
    """One incarnation of a program."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self._context = copy_context()
        self._context.run(_CURRENT.set, self)
        self._tasks: list[asyncio.Task[Any]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._calls: dict[asyncio.Future[Any], None] = {}  # a set would have no order
        self._at_end: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.alive else ' (dead)'}>"

    def check(self) -> None:
        """Seams call this first."""
        if not self.alive:
            raise ProcessKilled(self.name)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task of this process."""
        if len(self._tasks) > 200:
            self._tasks = [t for t in self._tasks if not t.done()]
        self._tasks.append(task)

    def adopt_timer(self, timer: asyncio.TimerHandle) -> None:
        """Remember a timer of this process."""
        if len(self._timers) > 200:
            now = asyncio.get_running_loop().time()
            self._timers = [t for t in self._timers if not t.cancelled() and t.when() >= now]
        self._timers.append(timer)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the process is killed or has exited (locks are given back)."""
        self._at_end.append(callback)

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str = "") -> asyncio.Task[T]:
        """Run `coroutine` as a task of this process."""
        return asyncio.get_running_loop().create_task(
            coroutine, name=name or self.name, context=self._context.copy()
        )

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have the process run `coroutine` for somebody outside, as over a connection.

        Raises ConnectionResetError when the process is or gets killed.
        """
        if not self.alive:
            coroutine.close()
            raise ConnectionRefusedError(f"{self.name} is not there")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            try:
                result = await coroutine
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._calls[answer] = None
        self.start(serve(), name=f"{self.name} serves a call")
        try:
            return await answer
        finally:
            self._calls.pop(answer, None)

    def kill(self) -> None:
        """Stop for ever, wherever it stands. May be called by the process itself."""
        if not self.alive:
            return
        self.exit()
        for timer in self._timers:
            timer.cancel()
        for handle in asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]  # a deque
            if process_of(handle._context) is self:
                handle.cancel()
        for task in self._tasks:
            abandon(task, self._context)
        self._tasks.clear()
        self._timers.clear()

    def exit(self) -> None:
        """The program has ended by itself: its connections break, its locks are free."""
        self.alive = False
        for callback in self._at_end:
            callback()
        self._at_end.clear()
        for answer in list(self._calls):
            if not answer.done():
                answer.set_exception(ConnectionResetError(f"{self.name} is gone"))


def abandon(task: asyncio.Task[Any], context: Context | None = None) -> None:
    """End a task where it stands, without giving it another turn."""
    if task.done():
        with contextlib.suppress(BaseException):
            task.exception()  # nobody will look at it any more
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # on purpose: it was killed
    coroutine = task.get_coro()
    # ValueError: the running one, which ProcessKilled unwinds; RuntimeError: it awaits in its end.
    with contextlib.suppress(BaseException):
        (context or copy_context()).copy().run(coroutine.close)
