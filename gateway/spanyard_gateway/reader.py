"""ClickHouse as the gateway asks it: reading only, within bounds of time, memory and size.

The connection may be made later than the gateway, because what the bucket answers (build logs) must
not wait for ClickHouse; until then every question is refused as unavailable. What runs into a
bound is told with the way out, not as an error of ours.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from spanyard_core.clickhouse import Database
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_gateway.settings import GatewaySettings

MAX_RESULT_BYTES = 256_000_000
"""Of one answer in memory: a page of 1,000 lines of 1 MiB each would be four times as much."""
GRACE_S = 2.0
"""The engine ends a query by itself; this much later it is given up without its word."""
LINES = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_validate_utf8": 1,
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_array_of_rows": 0,
}
"""For answers as JSON lines: numbers are numbers, and all of it is UTF-8 whatever was stored."""
T = TypeVar("T")
_TOO_SLOW = {159, 160}
_TOO_MUCH_MEMORY = {241}
_TOO_LARGE = {396}


class QueryLimitError(DatabaseError):
    """A query came to one of the gateway's bounds; the text says which and what to do."""


class Reader:
    """Asks the database of the moment, if there is one."""

    def __init__(self, settings: GatewaySettings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._options = {
            "max_execution_time": settings.query_timeout,
            "max_memory_usage": settings.query_memory,
            "max_result_bytes": MAX_RESULT_BYTES,
            # A page is the first hundred rows in the order of the table. With buffers each thread
            # reads ahead in its own part of the table, mostly what nobody asked for: 57 ms instead
            # of 17 for the newest of 1 million traces, 345 instead of 26 with a filter.
            "read_in_order_use_buffering": 0,
            "readonly": 2,
        }

    def connect(self, database: Database) -> None:
        """From now on ask this one."""
        self._database = database

    @property
    def database(self) -> Database:
        """The one that is asked now. Raises DatabaseUnavailableError when there is none yet."""
        if self._database is None:
            raise DatabaseUnavailableError(
                f"not connected to ClickHouse at {_without_password(self._settings.clickhouse)} "
                "yet; it is tried every few seconds"
            )
        return self._database

    async def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The result of a SELECT. A cancelled await ends the query.

        Raises QueryLimitError, DatabaseUnavailableError, DatabaseError.
        """
        return await self._within_bounds(self.database.rows(sql, params, self._options))

    async def lines(self, sql: str, params: Mapping[str, Any] | None = None) -> bytes:
        """The same as JSON lines, for many rows. Raises as `rows` does."""
        settings = self._options | LINES
        return await self._within_bounds(self.database.text(sql, params=params, settings=settings))

    async def _within_bounds(self, answer: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._settings.query_timeout + GRACE_S):
                return await answer
        except TimeoutError:
            raise DatabaseUnavailableError(
                f"ClickHouse did not answer within {self._settings.query_timeout:g} s; it is busy, "
                "or on its way down"
            ) from None
        except DatabaseError as error:
            raise self._told(error) from error

    def _told(self, error: DatabaseError) -> DatabaseError:
        narrower = "Ask for less: a shorter time (from, to), fewer rows (limit), a narrower filter"
        if error.code in _TOO_SLOW:
            return QueryLimitError(
                f"the query took longer than {self._settings.query_timeout:g} s and was ended. "
                f"{narrower}; or raise --query-timeout",
                code=error.code,
            )
        if error.code in _TOO_MUCH_MEMORY:
            return QueryLimitError(
                f"the query needs more memory than its {self._settings.query_memory:,} bytes, or "
                f"than ClickHouse has left. {narrower}; or raise --query-memory",
                code=error.code,
            )
        if error.code in _TOO_LARGE:
            return QueryLimitError(
                f"the answer would be larger than {MAX_RESULT_BYTES // 10**6} MB. {narrower}",
                code=error.code,
            )
        return error


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
