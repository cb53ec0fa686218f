"""The text of a query as tokens with their places.

A token ends at a space or a parenthesis. Quotes keep both, with `\\"` and `\\\\` inside for a quote
and a backslash.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.search.nodes import Sign, Term, Value

MOST_VALUES = 50
_SPACE = re.compile(r"\s+")
_FIELD = re.compile(r"(?:@|attr\.)?[A-Za-z_][\w./-]*(?=:)")
_QUOTED_KEY = re.compile(r'(?:@|attr\.)(?=")')
_BARE = re.compile(r'[^\s()"]+')
_VALUE = re.compile(r'[^\s()",]+')
_SIGNS: tuple[Sign, ...] = (">=", "<=", ">", "<")
_ESCAPED = {'"', "\\"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `term` is there when `kind` is that."""

    kind: Literal["(", ")", "-", "AND", "OR", "NOT", "term"]
    start: int
    end: int
    term: Term | None = None


def tokens(text: str) -> Iterator[Token]:
    """Raises SearchError at what is no token."""
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at >= len(text):
            return
        character = text[at]
        if character in "()":
            token = Token("(" if character == "(" else ")", at, at + 1)
        elif character == "-":
            token = _minus(text, at)
        else:
            token = _word(text, at)
        yield token
        at = token.end


def _minus(text: str, at: int) -> Token:
    if at + 1 >= len(text) or text[at + 1].isspace() or text[at + 1] in "-)":
        written = _BARE.match(text, at)
        end = written.end() if written else at + 1
        raise SearchError(
            "`-` says what must not be there, and stands right before it: -health. "
            f'To find it as text put it in quotes: "{text[at:end]}"',
            text,
            at,
            end,
        )
    return Token("-", at, at + 1)


def _word(text: str, at: int) -> Token:
    for word in ("AND", "OR", "NOT"):
        end = at + len(word)
        if text.startswith(word, at) and (end == len(text) or text[end] in " \t\r\n()"):
            return Token(word, at, end)
    term = _term(text, at)
    return Token("term", term.start, term.end, term)


def _term(text: str, at: int) -> Term:
    if quoted := _QUOTED_KEY.match(text, at):
        name, end = _quoted(text, quoted.end())
        if not text.startswith(":", end):
            raise SearchError(
                'after an attribute comes `:` and its value: @"a key":value', text, at, end
            )
        return _with_values(text, at, name, end, attribute=True)
    field = _FIELD.match(text, at)
    if field and not text.startswith("://", field.end()):
        name = field[0]
        for lead in ("@", "attr."):
            if name.startswith(lead):
                key = name.removeprefix(lead)
                if not key:
                    raise SearchError(
                        f"after `{lead}` comes the name of an attribute, as in {lead}user.id:u-17",
                        text,
                        at,
                        field.end() + 1,
                    )
                return _with_values(text, at, key, field.end(), attribute=True)
        return _with_values(text, at, name, field.end(), attribute=False)
    if text[at] == '"':
        name, end = _quoted(text, at)
        prefix = text.startswith("*", end)
        value = Value(name, at, end + prefix, quoted=True, prefix=prefix)
        return Term("", (value,), at, value.end)
    bare = _BARE.match(text, at)
    assert bare is not None  # a space, a parenthesis and a quote are dealt with
    if bare[0].startswith("@"):
        raise SearchError(
            "after an attribute comes `:` and its value, as in @user.id:u-17; "
            f'to find it as text put it in quotes: "{bare[0][:80]}"',
            text,
            at,
            bare.end(),
        )
    return Term("", (_plain(bare[0], at),), at, bare.end())


def _with_values(text: str, start: int, field: str, colon: int, *, attribute: bool) -> Term:
    at = colon + 1
    values: list[Value] = []
    while True:
        value = _value(text, at, start)
        values.append(value)
        at = value.end
        if not text.startswith(",", at):
            break
        at += 1
    if len(values) > MOST_VALUES:
        raise SearchError(f"{MOST_VALUES} values are most", text, start, at)
    return Term(field, tuple(values), start, at, attribute, colon)


def _value(text: str, at: int, start: int) -> Value:
    sign: Sign = next((sign for sign in _SIGNS if text.startswith(sign, at)), "")
    begin = at + len(sign)
    if text.startswith('"', begin):
        name, end = _quoted(text, begin)
        prefix = text.startswith("*", end)
        return Value(name, at, end + prefix, quoted=True, prefix=prefix, sign=sign)
    bare = _VALUE.match(text, begin)
    if bare is None:
        raise SearchError(
            f"a value is missing after `{text[start:begin]}`; text with spaces or commas stands in "
            "quotes",
            text,
            start,
            max(begin, start + 1),
        )
    plain = _plain(bare[0], begin)
    return Value(plain.text, at, plain.end, prefix=plain.prefix, sign=sign)


def _plain(text: str, at: int) -> Value:
    prefix = text.endswith("*")
    return Value(text[:-1] if prefix else text, at, at + len(text), prefix=prefix)


def _quoted(text: str, at: int) -> tuple[str, int]:
    """What stands between the quotes, and where it goes on behind them."""
    found: list[str] = []
    i = at + 1
    while i < len(text):
        if text[i] == '"':
            if i == at + 1:
                raise SearchError("there is nothing between the quotes", text, at, i + 1)
            return "".join(found), i + 1
        if text[i] == "\\" and text[i + 1 : i + 2] in _ESCAPED:
            i += 1
        found.append(text[i])
        i += 1
    raise SearchError('no closing quote: put a `"` where the phrase ends', text, at, len(text))
