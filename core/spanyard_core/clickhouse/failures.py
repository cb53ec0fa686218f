"""The one boundary where errors of the ClickHouse client become errors of Spanyard."""

import re

from clickhouse_connect.driver import exceptions

from spanyard_core.clickhouse.reading import EngineError
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError

UNAVAILABLE_CODES = frozenset(
    {
        74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR: the engine's own disk
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR: the disk is full
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY: a replica that may not write now
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        236,  # ABORTED: the server is shutting down
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        319,  # UNKNOWN_STATUS_OF_INSERT: read back
        394,  # QUERY_WAS_CANCELLED
        439,  # CANNOT_SCHEDULE_TASK
        473,  # DEADLOCK_AVOIDED
        745,  # SERVER_OVERLOADED
        999,  # KEEPER_EXCEPTION
    }
)
"""Codes that say nothing about the statement: the same one may go through later."""

_TRAILER = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)")
_PROXY = re.compile(r"received HTTP status (429|5\d\d)")
"""Without a code of ClickHouse's: something between us and it."""
_LONGEST = 4_000
"""Characters kept of the engine's text: it may quote a whole line of the data."""


def translate(error: Exception, *, where: str) -> DatabaseError:
    """The error of Spanyard for one of the client; chain it (`raise … from error`)."""
    code = getattr(error, "code", None)
    text = _TRAILER.sub("", str(error)).strip()
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    if code is not None:
        kind = DatabaseUnavailableError if code in UNAVAILABLE_CODES else DatabaseError
        return kind(text, code=code)
    away = (exceptions.OperationalError, exceptions.InterfaceError, OSError)
    if isinstance(error, away) or _PROXY.search(text):
        return DatabaseUnavailableError(f"ClickHouse at {where} does not answer: {text}")
    return DatabaseError(f"ClickHouse at {where}: {text}")


class Translated:
    """Turns errors of the client, and the engine's own, into ours; all others pass through."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (exceptions.ClickHouseError, EngineError, OSError)):
            raise translate(error, where=self._url) from error
