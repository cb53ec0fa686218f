"""Statements of strangers in the embedded engine: a session of its own each, which only reads.

A session begins with its limits and ends with `readonly = 1`, after which the engine itself
refuses every change, also of settings and in a SETTINGS clause, and every table function that
leaves the database. It costs 0.5 ms (chDB 4.4). What `readonly` lets through there all the same
(INTO OUTFILE, the function `file`, KILL QUERY, several statements in one text) is not this
module's to know: check the text first.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spanyard_core.clickhouse.address import Address

NOBODY_WAITS = "Code: 394. DB::Exception: nobody waits for the answer any more"
"""Instead of the engine's word, of a statement that was abandoned before it began."""
_CODE = re.compile(r"Code: (\d+)\.")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer in the format that was asked for, and what it took."""

    data: bytes
    rows: int = 0
    """In the answer."""
    rows_read: int = 0
    bytes_read: int = 0
    elapsed_ns: int = 0


class EngineError(Exception):
    """What the engine said, with its code; `failures.translate` knows both."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        found = _CODE.search(text)
        self.code = int(found[1]) if found else None


def escaped(value: str | None) -> str:
    """A parameter's value as the engine reads it: like a field of TabSeparated."""
    if value is None:
        return "\\N"
    return "".join(_ESCAPES.get(character, character) for character in value)


def session_statement(settings: Mapping[str, str | float]) -> str:
    """The SET that closes a session: `settings` first, `readonly` last."""
    return f"SET {settings_clause({**settings, 'readonly': 1})}"


def settings_clause(settings: Mapping[str, Any]) -> str:
    """What stands behind SETTINGS or SET. Raises ValueError for what is no name."""
    parts = []
    for name, value in settings.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a setting")
        text = str(value).replace("\\", "\\\\").replace("'", "\\'")
        parts.append(f"{name} = '{text}'")
    return ", ".join(parts)


def ask_in_process(
    address: Address,
    sql: str,
    *,
    form: str,
    params: Mapping[str, str | None],
    settings: Mapping[str, str | float],
    abandoned: Callable[[], bool] = lambda: False,
) -> RawAnswer:
    """Run one statement in a session of its own. Blocks; raises EngineError.

    The engine must be open in this process already: the session doesn't keep it. Nothing runs if
    it is `abandoned` by then, when there was nothing to kill yet.
    """
    import chdb  # a client of a server needs no engine

    # Two packages bring chdb/__init__.py, one with types and one without; the last one installed wins.
    engine: Any = chdb
    try:
        session = engine.connect(os.path.realpath(address.path))
    except RuntimeError as error:
        raise EngineError(str(error)) from error
    try:
        session.query(f"USE `{address.database}`")
        session.query(session_statement(settings))
        values = {name: escaped(value) for name, value in params.items()}
        if abandoned():
            raise EngineError(NOBODY_WAITS)
        result = session.query(sql, form, params=values)
        return RawAnswer(
            bytes(result.bytes() or b""),
            # "Storage" is what the statement read; without it, what came out.
            rows=int(result.rows_read()),
            rows_read=int(result.storage_rows_read()),
            bytes_read=int(result.storage_bytes_read()),
            elapsed_ns=int(result.elapsed() * 1e9),
        )
    except RuntimeError as error:
        raise EngineError(str(error)) from error
    finally:
        session.close()
