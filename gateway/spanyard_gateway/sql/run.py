"""`read_only`: the engine spells a statement, it is judged, and that spelling runs, bounded."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from spanyard_core.clickhouse import Database
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_gateway.sql.filters import checked_filters
from spanyard_gateway.sql.formats import known_format
from spanyard_gateway.sql.gate import gate
from spanyard_gateway.sql.limits import SqlLimits, engine_settings
from spanyard_gateway.sql.statement import Statement, judged
from spanyard_gateway.sql.text import SqlRefusedError

GRACE_S = 3.0
"""The engine ends a statement by itself; this much later it is ended from outside."""

_READONLY = 164
"""Elsewhere that is a replica that may not write just now; here a statement that wants to."""
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONG = 10_000
"""Characters that take some milliseconds to judge: not on the loop."""
_SCOPE = re.compile(
    r":?\s*In scope SELECT formatQuerySingleLine\((?:.*\)(?=\. \([A-Z_]+\)$)|.*$)", re.DOTALL
)
"""What an error says about our own question around the sender's."""


@dataclass(frozen=True, slots=True)
class SqlResult:
    """An answer, whole, in the format that the statement or its sender asked for."""

    data: bytes
    content_type: str
    form: str
    rows: int = 0
    rows_read: int = 0
    bytes_read: int = 0
    elapsed_ns: int = 0


_functions: WeakKeyDictionary[Database, frozenset[str]] = WeakKeyDictionary()


async def read_only(
    database: Database,
    query: str,
    *,
    params: Mapping[str, str | None] | None = None,
    format: str = "JSON",  # noqa: A002 -- what the engine and everybody calls it
    limits: SqlLimits | None = None,
    settings: Mapping[str, str] | None = None,
) -> SqlResult:
    """Run one statement that only reads, in a session that can do nothing else.

    `params` fill `{name:Type}` in the query, None as NULL. `format` counts when the query has no FORMAT of its
    own. `settings` are the sender's; those in the query win. A cancelled await ends the statement.

    Raises SqlRefusedError for what may not run, DatabaseError for what the engine refuses or
    ends (its `code` is ClickHouse's), DatabaseUnavailableError when it is away or overloaded.
    """
    limits = limits or SqlLimits()
    params = params or {}
    _check_texts(query, params, limits)
    async with gate(database).place():
        try:
            async with asyncio.timeout(limits.seconds + GRACE_S):
                given = dict(settings or {})
                return await _read(database, query, params, format, limits, given)
        except TimeoutError:
            raise DatabaseUnavailableError(
                f"the statement got no answer within {limits.seconds:g} s: ClickHouse is busy; "
                "try again, or ask for less",
                code=159,
            ) from None


def _check_texts(query: str, params: Mapping[str, str | None], limits: SqlLimits) -> None:
    try:
        size = len(query.encode())
        for value in params.values():
            (value or "").encode()
    except UnicodeEncodeError:
        raise SqlRefusedError(
            "the statement or a parameter holds half a surrogate pair, which is no text"
        ) from None
    if size > limits.statement_bytes:
        raise SqlRefusedError(
            f"the statement has {size:,} bytes; at most {limits.statement_bytes:,} are read"
        )
    for name in params:
        if not _PARAMETER.fullmatch(name):
            raise SqlRefusedError(
                f"the parameter {name[:80]!r} has no name that a query can use; take letters, "
                "digits and _"
            )


async def _read(
    database: Database,
    query: str,
    params: Mapping[str, str | None],
    form: str,
    limits: SqlLimits,
    given: dict[str, str],
) -> SqlResult:
    statement = await _judged(database, query, limits)
    wanted = {**given, **statement.settings}
    if "additional_table_filters" in wanted:
        wanted["additional_table_filters"] = await checked_filters(
            wanted["additional_table_filters"], lambda text: _judged(database, text, limits)
        )
    settings = engine_settings(limits, wanted)
    name, media = known_format(statement.form or form)
    # clickhouse-connect takes parameters that a query doesn't have for values to paste into it.
    used = {key: value for key, value in params.items() if f"{{{key}:" in statement.text}
    try:
        answer = await database.read_raw(statement.text, form=name, params=used, settings=settings)
    except DatabaseUnavailableError as error:
        if error.code != _READONLY:
            raise
        raise SqlRefusedError(
            "the engine takes this for more than reading, or for reading something outside the "
            f"database: {error}; ask tables and views that SHOW TABLES names"
        ) from error
    return SqlResult(
        answer.data,
        media,
        name,
        rows=answer.rows,
        rows_read=answer.rows_read,
        bytes_read=answer.bytes_read,
        elapsed_ns=answer.elapsed_ns,
    )


async def _judged(database: Database, query: str, limits: SqlLimits) -> Statement:
    text, known = await canonical(database, query, limits), await _known(database)
    if len(text) < _LONG:
        return judged(text, known)
    return await asyncio.to_thread(judged, text, known)


async def canonical(database: Database, query: str, limits: SqlLimits) -> str:
    """The engine's own spelling of the query. Raises DatabaseError where it can't be parsed."""
    try:
        answer = await database.read_raw(
            "SELECT formatQuerySingleLine({query:String})",
            form="RawBLOB",
            params={"query": query},
            settings={
                "max_execution_time": limits.seconds,
                "max_memory_usage": limits.memory_bytes,
            },
        )
    except DatabaseError as error:
        kind = type(error)
        text = _SCOPE.sub("", str(error))
        raise kind(text, code=error.code) from None
    if len(answer.data) > 2 * limits.statement_bytes:
        raise SqlRefusedError("the statement is too long once it is written out in full")
    try:
        return answer.data.decode("utf-8")
    except UnicodeDecodeError:
        raise SqlRefusedError(
            "the statement holds bytes that are no UTF-8, perhaps by an escape; write such bytes "
            "with unhex('…')"
        ) from None


async def _known(database: Database) -> frozenset[str]:
    known = _functions.get(database)
    if known is None:
        rows = await database.rows("SELECT lower(name) AS name FROM system.functions")
        known = _functions[database] = frozenset(str(row["name"]) for row in rows)
    return known
