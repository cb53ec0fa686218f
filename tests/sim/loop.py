"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing is ready.

A history of an hour runs in a fraction of a second, and the same seed gives the same history: no
socket, no thread, no machine clock, tasks with a hash that is a number and not an address (sets of
tasks inside asyncio are iterated in hash order).
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple

from tests.sim.process import ProcessKilled, abandon, process_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BUSY_STEPS = 20_000
"""Passes of the loop within one virtual second, after which a task is spinning: nothing here is
that busy, and a machine would be."""


STEP_SECONDS = 1e-6


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: the history can never go on."""


class LivelockError(Exception):
    """Tasks keep each other busy for nothing."""


class SimTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have one order in every run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **kwargs: Any) -> None:
        self._number: int = next(kwargs["loop"].task_numbers)
        super().__init__(coroutine, **kwargs)
        process = process_of(kwargs.get("context") or copy_context())
        if process is not None:
            process.adopt(self)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None
) -> SimTask:
    return SimTask(coroutine, loop=loop, context=context)


class _NoSelector:
    """Stands where the real loop waits for sockets: nothing to wait for, so time passes at once."""

    def __init__(self, loop: "SimLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        self._loop.advance(timeout)
        return []


class SimLoop(asyncio.BaseEventLoop):
    """asyncio under virtual time. Callbacks of killed processes are never run."""

    _ready: deque[asyncio.Handle]  # of BaseEventLoop
    _scheduled: list[asyncio.TimerHandle]  # of BaseEventLoop: a heap by time

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._second, self._steps = 0.0, 0
        self._selector = _NoSelector(self)
        self._clock_resolution = 1e-9
        self.task_numbers = itertools.count(1)
        self.errors: list[str] = []
        """What went wrong where nobody looked: exceptions of tasks that nobody awaited."""
        self.set_task_factory(_make_task)
        self.set_exception_handler(self._note_error)

    def time(self) -> float:
        return self._now

    def advance(self, timeout: float | None) -> None:
        """Let `timeout` seconds pass; None means that nothing is left to wait for."""
        if timeout is None:
            raise DeadlockError(f"nothing left to do at {self._now:.6f} s")
        if timeout > 0:
            # The timer's own moment, not a sum: sums of floats would land beside it.
            self._now = max(self._now, self._scheduled[0].when())
        else:
            # A pass takes time in the real world too; without it, a timer that lies a rounding
            # error ahead would be waited for for ever.
            self._now += STEP_SECONDS
        self._steps += 1
        if self._now >= self._second + 1:
            self._second, self._steps = self._now, 0
        if self._steps > BUSY_STEPS:
            busy = ", ".join(sorted({repr(handle) for handle in self._ready}))
            raise LivelockError(f"somebody spins since {self._second:.3f} s: {busy[:2000]}")

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        context = context if context is not None else copy_context()
        handle = super().call_soon(callback, *args, context=context)
        process = process_of(context)
        if process is not None and not process.alive:
            handle.cancel()
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        context = context if context is not None else copy_context()
        timer = super().call_at(when, callback, *args, context=context)
        process = process_of(context)
        if process is not None:
            if process.alive:
                process.adopt_timer(timer)
            else:
                timer.cancel()
        return timer

    def run_in_executor(  # type: ignore[override]  # the real one is typed for its executor
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run at once and tell later: what a thread does is one step of the history."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        pass

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        # The real loop makes a task of an abandoned generator's end whenever memory is collected:
        # at another moment in every run. Seams hand out iterators that need no end.
        pass

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, ProcessKilled):
            task = context.get("task") or context.get("future")
            self.errors.append(f"{context.get('message')}: {error!r} in {task!r}")


def run(main: Awaitable[T]) -> T:
    """Run `main` under virtual time from 0 s; raises what it raises, or DeadlockError."""
    loop = SimLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        abandon_all(loop)
        loop.close()


def abandon_all(loop: SimLoop) -> None:
    """End what is still running, before the loop is closed."""
    for task in asyncio.all_tasks(loop):
        abandon(task)
