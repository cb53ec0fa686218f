"""Root tasks: a component's eternal tasks in one guarded group.

The first root task that ends, by an error or by returning, ends all of them: a component never
limps on with half of itself dead. `asyncio.TaskGroup` alone ignores a task that returns.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any

from spanyard_core.errors import SpanyardError


class RootTaskEndedError(SpanyardError):
    """A task that should run for ever returned."""


async def run_root_tasks(
    tasks: Mapping[str, Coroutine[Any, Any, None]], *, until: Awaitable[None] | None = None
) -> None:
    """Run `tasks` (name in words → coroutine) until one fails or `until` is done.

    Raises the task's own error when it was the only one, else an ExceptionGroup. When `until`
    completes, the tasks are cancelled and awaited, and this returns.
    """
    stopping = False

    async def guarded(name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        await coroutine
        if not stopping:
            raise RootTaskEndedError(f"the {name} ended; it should run for ever")

    try:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(guarded(name, coroutine), name=name)
                for name, coroutine in tasks.items()
            ]
            if until is not None:
                await until
                stopping = True
                for task in running:
                    task.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from None
        raise
    finally:
        for coroutine in tasks.values():  # one that was cancelled before its first step
            coroutine.close()
