"""Whether a statement may run: exactly one that only reads, and only from the database.

Judges the engine's own spelling (`text`). Everything here is a list of what is allowed: first
words, functions, system tables. The engine's `readonly` stands behind it; this stands before what
`readonly` lets through in process, and before functions that no setting guards.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from spanyard_gateway.sql.names import small_words, words
from spanyard_gateway.sql.text import Kind, SqlRefusedError, Token, depths, string_value, tokens

_SHOW = (
    "CREATE", "COLUMNS", "DATABASES", "ENGINES", "EXTENDED", "FULL", "FUNCTIONS", "INDEXES",
    "PROCESSLIST", "SETTINGS", "TABLES", "MERGES", "DICTIONARIES", "CHANGED", "TEMPORARY",
)  # fmt: skip
_EXPLAIN = (
    "AST", "SYNTAX", "QUERY", "TREE", "PLAN", "PIPELINE", "ESTIMATE", "ANALYZE", "INDEXES",
)  # fmt: skip
_COMBINATORS = (
    "if", "array", "map", "distinct", "ornull", "ordefault", "state", "merge", "simplestate",
    "foreach", "resample", "argmin", "argmax", "null", "tuple",
)  # fmt: skip


_LONGEST_NAME = 100
"""Of a function with its combinators."""


def _is_allowed(name: str, engine_functions: Collection[str]) -> bool:
    name = name.lower()
    if name in small_words("functions") or name in small_words("table_functions"):
        return True
    if name in engine_functions or len(name) > _LONGEST_NAME:
        return False
    # sumIf, countDistinctIf, …: the engine lists only what stands before the combinator.
    return any(
        name.endswith(end) and _is_allowed(name.removesuffix(end), engine_functions)
        for end in _COMBINATORS
    )


@dataclass(frozen=True)
class Statement:
    """A statement that may run."""

    text: str
    """In the engine's spelling, without FORMAT and SETTINGS of its end."""
    form: str | None
    """The format that it asks for itself."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The SETTINGS that stood at its end."""


def judged(canonical: str, engine_functions: Collection[str]) -> Statement:
    """The statement, taken apart. `engine_functions`: all that the engine has, in small letters.

    Raises SqlRefusedError.
    """
    found = tokens(canonical)
    _check_kind(found)
    _check_output(found)
    _check_parameters(found)
    _check_names(found, engine_functions)
    _check_system(found)
    _check_exists(found)
    return _without_end(canonical, found)


def _check_kind(found: Sequence[Token]) -> None:
    rest = [token for token in found if not token.is_sign("(")]
    first = rest[0] if rest else None
    if first is None:
        raise SqlRefusedError("there is no statement; send one SELECT")
    if first.is_word("SELECT", "WITH", "DESCRIBE", "EXISTS"):
        return
    if first.is_word("SHOW") and len(rest) > 1 and rest[1].is_word(*_SHOW):
        return
    if first.is_word("EXPLAIN") and _explains_select(rest[1:]):
        return
    raise SqlRefusedError(
        f"{canonical_words(rest)} may not run here; one SELECT, SHOW, DESCRIBE, EXISTS or EXPLAIN "
        "of a SELECT may"
    )


def canonical_words(found: Sequence[Token]) -> str:
    """The first two keywords, for messages."""
    words = []
    for token in found[:2]:
        if token.kind is not Kind.WORD or not token.text.isupper():
            break
        words.append(token.text)
    return " ".join(words)[:60] or "this statement"


def _explains_select(rest: Sequence[Token]) -> bool:
    for token in rest:
        if token.is_word("SELECT", "WITH"):
            return True
        option = token.kind in {Kind.NUMBER, Kind.STRING} or token.is_sign("=")
        lower = token.kind is Kind.WORD and not token.text.isupper()
        if not (option or lower or token.is_sign(",") or token.is_word(*_EXPLAIN)):
            return False
    return False


def _check_output(found: Sequence[Token]) -> None:
    for token, after in pairwise(found):
        if token.is_word("INTO") and after.is_word("OUTFILE"):
            raise SqlRefusedError("INTO OUTFILE may not run here; write the answer to a file there")
        if token.is_word("PARALLEL") and after.is_word("WITH"):
            raise SqlRefusedError("PARALLEL WITH may not run here; send one statement")


def _check_parameters(found: Sequence[Token]) -> None:
    for before, token in pairwise(found):
        if before.is_sign(":") and token.is_word("Identifier"):
            raise SqlRefusedError(
                "a parameter of type Identifier may not be used here: names have to stand in the "
                "statement, where they can be checked"
            )


def _check_names(found: Sequence[Token], engine_functions: Collection[str]) -> None:
    before = Token(Kind.SIGN, ";", 0, 0)
    in_type = False
    for index, token in enumerate(found):
        in_type = _in_type(found, index, in_type)
        called = index + 1 < len(found) and found[index + 1].is_sign("(")
        if token.is_name and called:
            # `AS t(a, b)` names columns; the types of parameters take brackets too.
            plain = token.is_word(*words("keywords")) or before.is_word("AS") or in_type
            if not plain and not _is_allowed(token.text, engine_functions):
                raise SqlRefusedError(_unknown(token.text, engine_functions))
        elif token.is_name and not before.is_sign(".") and not in_type:
            # arrayMap(file, …) and APPLY file name a function without calling it.
            name = token.text.lower()
            if name in engine_functions and not _is_allowed(name, engine_functions):
                raise SqlRefusedError(
                    f"the name {token.text[:80]!r} is that of a function that may not be used "
                    f"here; if you mean a column, write it with its table: t.{token.text[:80]}"
                )
        before = token


def _unknown(name: str, engine_functions: Collection[str]) -> str:
    if name.lower() in engine_functions:
        return (
            f"the function {name[:80]!r} may not be used here: it may read or change something "
            "outside the database, or is not known to be harmless"
        )
    return (
        f"there is no function {name[:80]!r} that may be used here; system.functions lists what "
        "the engine has, and what reads outside the database may not be used"
    )


def _in_type(found: Sequence[Token], index: int, before: bool) -> bool:
    """Whether the token belongs to a parameter, `{name:Type}`."""
    if found[index].is_sign("{"):
        follows = found[index + 1 : index + 3]
        return len(follows) == 2 and follows[0].is_name and follows[1].is_sign(":")
    return before and not found[index].is_sign("}")


def _check_system(found: Sequence[Token]) -> None:
    for token, dot, table in zip(found, found[1:], found[2:], strict=False):
        if not (token.is_name and token.text.lower() == "system" and dot.is_sign(".")):
            continue
        if table.is_name and table.text not in words("system_tables"):
            raise SqlRefusedError(
                f"system.{table.text[:80]} may not be read here; system.tables, system.columns, "
                "system.parts and other tables about the data may"
            )


def _check_exists(found: Sequence[Token]) -> None:
    """In process, EXISTS also finds files: the engine's default database lies over the disk. What
    would read one is ended by `readonly`; this only answers, and is not."""
    if not next(token for token in found if not token.is_sign("(")).is_word("EXISTS"):
        return
    for token in found:
        if token.kind is Kind.QUOTED and ("/" in token.text or "." in token.text):
            raise SqlRefusedError(
                f"EXISTS may not be asked of {token.text[:80]!r} here: that could be a file; tables "
                "have names of letters, digits and _"
            )


def _without_end(canonical: str, found: Sequence[Token]) -> Statement:
    """Takes FORMAT and SETTINGS from the end, in whatever order."""
    form: str | None = None
    settings: dict[str, str] = {}
    end = len(found)
    level = depths(found)
    while True:
        if (
            form is None
            and end >= 2
            and found[end - 2].is_word("FORMAT")
            and level[end - 2] == 0
            and found[end - 1].is_name
            and not _names_something(found, end - 2)
        ):
            form = found[end - 1].text
            end -= 2
            continue
        start = _settings_start(found[:end], level)
        if start is None:
            break
        for name, value in _changes(found[start + 1 : end]).items():
            settings.setdefault(name, value)
        end = start
    text = canonical[: found[end].start].rstrip() if end < len(found) else canonical
    _check_no_inner_settings(found[:end])
    return Statement(text, form, settings)


def _names_something(found: Sequence[Token], index: int) -> bool:
    # `SELECT 1 AS FORMAT x` is no statement, but `… FROM t AS FORMAT` ends with a name.
    return index == 0 or found[index - 1].is_word("AS")


def _settings_start(found: Sequence[Token], level: Sequence[int]) -> int | None:
    for index in range(len(found) - 1, 0, -1):
        if level[index] == 0 and found[index].is_word("SETTINGS"):
            follows = found[index + 1 : index + 3]
            if len(follows) == 2 and follows[0].is_name and follows[1].is_sign("="):
                return index
            return None
    return None


def _changes(found: Sequence[Token]) -> dict[str, str]:
    changes: dict[str, str] = {}
    at = 0
    while at < len(found):
        if at + 2 >= len(found) or not found[at].is_name or not found[at + 1].is_sign("="):
            raise SqlRefusedError("the SETTINGS at the end cannot be read; write name = value, …")
        name, value = found[at].text, found[at + 2]
        at += 3
        if value.is_sign("{"):
            first = at - 1
            while at < len(found) and not found[at].is_sign("}"):
                at += 1
            at += 1
            changes[name] = _map_text(found[first:at])
        elif value.is_sign("-") and at < len(found):
            changes[name] = f"-{found[at].text}"
            at += 1
        elif value.kind is Kind.STRING:
            changes[name] = string_value(value)
        elif value.kind in {Kind.NUMBER, Kind.WORD}:
            changes[name] = value.text
        else:
            raise SqlRefusedError(f"the setting {name[:80]!r} has a value that cannot be read")
        if at < len(found):
            if not found[at].is_sign(","):
                raise SqlRefusedError(
                    "the SETTINGS at the end cannot be read; write name = value, …"
                )
            at += 1
    return changes


def _map_text(found: Sequence[Token]) -> str:
    if any(
        not (t.kind is Kind.STRING or (t.kind is Kind.SIGN and t.text in "{}:,")) for t in found
    ):
        raise SqlRefusedError("a setting that is a map has to be {'name': 'value', …}")
    return "".join(token.text for token in found)


def _check_no_inner_settings(found: Sequence[Token]) -> None:
    for token, name, sign in zip(found, found[1:], found[2:], strict=False):
        if token.is_word("SETTINGS") and name.is_name and sign.is_sign("="):
            raise SqlRefusedError(
                "SETTINGS may stand only at the end of the whole statement; move them there"
            )
