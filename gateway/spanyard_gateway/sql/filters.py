"""The setting `additional_table_filters`: conditions that Grafana's ad hoc filters add to tables.

Its value is `{'table': 'condition', …}`, and the conditions are SQL that the engine will parse: so
each is judged like a statement, and passed on in the engine's spelling.
"""

import json
from collections.abc import Awaitable, Callable

from spanyard_gateway.sql.statement import Statement
from spanyard_gateway.sql.text import Kind, SqlRefusedError, Token, string_value, tokens

_SHAPE = "additional_table_filters has to be {'table': 'condition', …}"


async def checked_filters(value: str, judge: Callable[[str], Awaitable[Statement]]) -> str:
    """The value with each condition judged and spelled anew. Raises SqlRefusedError."""
    parts = []
    for table, condition in _pairs(value):
        statement = await judge(f"SELECT 1 WHERE ({condition}\n)")
        prefix = "SELECT 1 WHERE "
        if statement.settings or statement.form or not statement.text.startswith(prefix):
            raise SqlRefusedError(
                f"the condition for {table[:80]!r} is not one condition; {_SHAPE}"
            )
        parts.append(f"{_quoted(table)}:{_quoted(statement.text.removeprefix(prefix))}")
    return "{" + ",".join(parts) + "}"


def _pairs(value: str) -> list[tuple[str, str]]:
    found = tokens(value)
    if len(found) < 2 or not (found[0].is_sign("{") and found[-1].is_sign("}")):
        raise SqlRefusedError(_SHAPE)
    inner = found[1:-1]
    if inner and not inner[-1].is_sign(","):
        inner = [*inner, Token(Kind.SIGN, ",", 0, 0)]
    pairs = []
    for at in range(0, len(inner), 4):
        group = inner[at : at + 4]
        if (
            len(group) != 4
            or group[0].kind is not Kind.STRING
            or not group[1].is_sign(":")
            or group[2].kind is not Kind.STRING
            or not group[3].is_sign(",")
        ):
            raise SqlRefusedError(_SHAPE)
        pairs.append((string_value(group[0]), string_value(group[2])))
    return pairs


def _quoted(text: str) -> str:
    return (
        "'"
        + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'")
        + "'"
    )
