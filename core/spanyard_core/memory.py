"""Memory: tells the C library to give back what it would keep, and Python what to leave alone.

glibc raises the size from which an allocation gets pages of its own (and gives them back when
freed) to the largest block it ever freed, and then keeps objects of a megabyte in its heap, with
holes between them. Fixed limits, few arenas for the threads, and one trim after the imports took
3 MB off the idle collector and 2 MB off the busy one, at no measurable cost. Elsewhere (musl,
macOS) this does nothing.

What the start leaves (modules, settings: 75,000 objects of `spanyard up`) makes each full collection
take 60 ms of CPU, in which nobody is served. Frozen, it is not looked through again.
"""

import asyncio
import ctypes
import gc
import sys

from spanyard_core.clock import Clock

SETTLED_S = 15.0
"""After the start of a server: by then it has imported what it imports when first asked."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Parameters of mallopt(3)."""

PAGES_OF_THEIR_OWN = 256 * 1024
"""Above what a block of lines takes, below what an object does."""


def _libc() -> "ctypes.CDLL | None":
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def limit_heap() -> None:
    """Set the limits; before threads are started."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, PAGES_OF_THEIR_OWN)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * PAGES_OF_THEIR_OWN)
        libc.mallopt(_M_ARENA_MAX, 2)


def settle() -> None:
    """All is imported and set up: give back what that left, and never look through it again."""
    gc.collect()
    gc.freeze()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


async def settle_later(clock: Clock) -> None:
    """A root task: `settle` once, `SETTLED_S` from now."""
    await clock.sleep(SETTLED_S)
    settle()
    await asyncio.Event().wait()
