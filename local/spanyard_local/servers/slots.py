"""How many connections all proxies of this process may hold: never so many that others starve.

A connection takes two descriptors, and the same process has collectors, storage and a database,
which must be able to open a file at any time.
"""

import contextlib
import logging
import resource

log = logging.getLogger("spanyard.local")

MOST = 1_000
LEAST = 16
WANTED_DESCRIPTORS = 8_192
"""The soft limit is raised so far where the hard one lets it: it is 256 on macOS, 1,024 on Linux."""
RESERVED = 512
"""Descriptors for all the rest: ten of each pod's collector and shim, and the engine's."""


class Slots:
    """Counts; shared by all proxies."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._taken = 0
        self._full = False
        self.refused = 0
        """Connections that found no room."""

    @property
    def limit(self) -> int:
        """Connections at a time. The first look raises this process's limit of descriptors."""
        if self._limit is None:
            self._limit = max(LEAST, min(MOST, (_descriptors() - RESERVED) // 2))
        return self._limit

    def take(self) -> bool:
        """Whether there was room for one more; then `give` it back."""
        if self._taken >= self.limit:
            if not self._full:
                log.warning("%d connections are open at servers; more are refused", self._taken)
            self._full = True
            self.refused += 1
            return False
        self._full = False
        self._taken += 1
        return True

    def give(self) -> None:
        """One has ended."""
        self._taken -= 1


def _descriptors() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS refuses more than its kern.maxfilesperproc whatever the hard limit says.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


SHARED = Slots()
