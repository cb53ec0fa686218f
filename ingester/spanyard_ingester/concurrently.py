"""Bounded concurrency: the same call on many things, some at a time, none left running."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(
    function: Callable[[T], Awaitable[R]], items: Sequence[T], *, limit: int
) -> list[R]:
    """`function` of every item, in the items' order, at most `limit` at a time.

    The first error cancels the others, waits for them, and is raised.
    """
    if len(items) == 1:  # the common case of a quiet system: no task needed
        return [await function(items[0])]
    results: dict[int, R] = {}
    places = iter(range(len(items)))

    async def work() -> None:
        for at in places:
            results[at] = await function(items[at])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(items))):
                group.create_task(work(), name="bounded worker")
    except BaseExceptionGroup as errors:
        # All but the first are consequences or the same outage.
        raise errors.exceptions[0] from None
    return [results[at] for at in range(len(items))]


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
