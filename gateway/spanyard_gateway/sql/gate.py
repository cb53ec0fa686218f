"""How many statements of strangers run at a time, and how many may wait.

They have threads of their own (`Database.read_raw`), so they never take the ingester's; who has to
wait does so here, where waiting costs nothing and does not count as the statement's time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from spanyard_core.clickhouse import Database
from spanyard_core.clickhouse.database import READERS
from spanyard_core.errors import DatabaseUnavailableError

WAITING = 64
"""A dashboard sends some twenty at once."""
WAIT_S = 60.0
TOO_MANY = 202
"""ClickHouse's code for it."""


class Gate:
    """Lets `READERS` in at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(READERS)
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place. Raises DatabaseUnavailableError when too many wait, or too long."""
        if self._waiting >= WAITING:
            raise _too_many(f"{WAITING} statements are waiting already")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            raise _too_many(f"{READERS} others ran for {WAIT_S:g} s") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()


def _too_many(why: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"the statement did not run, because {why}; ask again later, or for less at once",
        code=TOO_MANY,
    )


_gates: WeakKeyDictionary[Database, Gate] = WeakKeyDictionary()


def gate(database: Database) -> Gate:
    """The gate before this database."""
    return _gates.setdefault(database, Gate())
