"""Work that is done whole once it was begun, also when who asked for it has gone.

A client that hangs up cancels its request. A change of several files must not be cut in half by
that, nor what is in memory be another thing than what is on the disk.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_begun: set["asyncio.Task[Any]"] = set()
"""The loop itself holds tasks by weak references."""


def undisturbed(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorates a coroutine function: its caller can be cancelled, it goes on."""

    @functools.wraps(work)
    async def begin(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.create_task(work(*args, **kwargs), name=work.__name__)
        _begun.add(task)
        task.add_done_callback(_begun.discard)
        return await asyncio.shield(task)

    return begin


async def settled() -> None:
    """Until all that was begun in this loop is done: who closes the loop would cut it in half."""
    loop = asyncio.get_running_loop()
    while mine := [task for task in _begun if task.get_loop() is loop]:
        await asyncio.wait(mine)
