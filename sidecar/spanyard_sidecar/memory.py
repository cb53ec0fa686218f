"""Memory: tells the C library to give back what it would keep.

glibc raises the size from which an allocation gets pages of its own (and gives them back when
freed) to the largest block it ever freed, and then keeps objects of a megabyte in its heap, with
holes between them. Fixed limits, few arenas for the threads, and one trim after the imports took
3 MB off the idle collector and 2 MB off the busy one, at no measurable cost. Elsewhere (musl,
macOS) this does nothing.
"""

import ctypes
import gc
import sys

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
