"""From the text of a query to its tree.

    query = part { ["AND"] part } { "OR" part { ["AND"] part } }
    part  = { "-" | "NOT" } ( "(" query ")" | term )

Bounded, so that no text costs more than a moment: `MOST_CHARACTERS`, `MOST_TERMS`, `DEEPEST`.
"""

from collections.abc import Iterator

from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.search.lexer import Token, tokens
from spanyard_gateway.search.nodes import All, AnyOf, Node, Not

MOST_CHARACTERS = 2_000
MOST_TERMS = 50
DEEPEST = 20
"""Parentheses and negations inside one another."""


def parse(text: str) -> Node:
    """The tree of a query; of nothing but spaces `All(())`. Raises SearchError, nothing else."""
    if len(text) > MOST_CHARACTERS:
        raise SearchError(
            f"longer than {MOST_CHARACTERS:,} characters", text, MOST_CHARACTERS, len(text)
        )
    for i, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise SearchError("a character that no text has", text, i, i + 1)
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: Iterator[Token] = tokens(text)
        self._next = next(self._tokens, None)
        self._terms = 0

    def whole(self) -> Node:
        if self._next is None:
            return All(())
        found = self._any(0)
        if self._next is not None:  # only a parenthesis ends it before its end
            raise self._wrong("this `)` closes nothing", self._next)
        return found

    def _take(self) -> Token:
        token = self._next
        assert token is not None
        self._next = next(self._tokens, None)
        return token

    def _wrong(self, what: str, token: Token | None) -> SearchError:
        end = len(self._text)
        start = token.start if token else max(0, len(self._text.rstrip()) - 1)
        return SearchError(what, self._text, start, token.end if token else end)

    def _any(self, depth: int) -> Node:
        parts = [self._all(depth)]
        while self._next is not None and self._next.kind == "OR":
            self._take()
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self, depth: int) -> Node:
        parts = [self._part(depth)]
        while self._next is not None and self._next.kind not in {"OR", ")"}:
            if self._next.kind == "AND":
                self._take()
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _part(self, depth: int) -> Node:
        if self._next is None:
            raise self._wrong(
                "something to look for is expected here: a word, a phrase in quotes, field:value "
                "or a parenthesis",
                None,
            )
        token = self._take()
        if depth >= DEEPEST and token.kind in {"-", "NOT", "("}:
            raise self._wrong(f"more than {DEEPEST} levels inside one another", token)
        if token.kind in {"-", "NOT"}:
            return Not(self._part(depth + 1))
        if token.kind == "(":
            if self._next is not None and self._next.kind == ")":
                raise self._wrong("there is nothing between the parentheses", token)
            found = self._any(depth + 1)
            if self._next is None:
                raise self._wrong("no closing parenthesis: put a `)` where the group ends", token)
            self._take()
            return found
        if token.term is None:
            word = self._text[token.start : token.end]
            raise self._wrong(
                f"`{word}` has nothing to join here; to find the word itself write "
                f'"{word}" in quotes'
                if token.kind != ")"
                else "this `)` closes nothing, or something to look for is missing before it",
                token,
            )
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise self._wrong(f"more than {MOST_TERMS} terms", token)
        return token.term
