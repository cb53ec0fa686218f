"""The engine's own spelling of a statement, cut into tokens.

Statements are not judged as they come: the engine's parser writes them anew
(`formatQuerySingleLine`), and that spelling is both judged and run. It has one statement, no
comments, no heredocs, one way to quote, keywords in capitals; so these few patterns read it, and
whatever they cannot read is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from spanyard_core.errors import SpanyardError


class SqlRefusedError(SpanyardError):
    """A statement that may not run here. The text says what, where, and what to do instead."""


class Kind(Enum):
    WORD = auto()
    """An identifier or a keyword, unquoted."""
    QUOTED = auto()
    """An identifier in backquotes."""
    STRING = auto()
    NUMBER = auto()
    SIGN = auto()


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str
    """As spelled; an identifier without its backquotes."""
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        return self.kind is Kind.WORD or self.kind is Kind.QUOTED

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords."""
        return self.kind is Kind.WORD and self.text in words

    def is_sign(self, sign: str) -> bool:
        return self.kind is Kind.SIGN and self.text == sign


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<WORD>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<QUOTED>`(?:[^`\\]|\\.)*`)"
    r"|(?P<STRING>'(?:[^'\\]|\\.)*')"
    r"|(?P<NUMBER>[0-9][A-Za-z0-9_.]*)"
    # A comment would hide from us what the engine reads, or the other way round.
    r"|(?P<SIGN>(?!--|/\*)[-+*/%=<>!,.:^?@|&~()\[\]{}])",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def tokens(canonical: str) -> list[Token]:
    """The tokens of the engine's spelling. Raises SqlRefusedError for what cannot be read."""
    found = []
    at = 0
    while at < len(canonical):
        match = _TOKEN.match(canonical, at)
        if match is None or match.lastgroup is None:
            raise SqlRefusedError(
                f"the statement cannot be read safely from {canonical[at : at + 40]!r} on; write "
                "it without comments, heredocs and unusual characters outside quotes"
            )
        if match.lastgroup != "space":
            kind = Kind[match.lastgroup]
            text = match[0]
            if kind is Kind.QUOTED:
                text = _ESCAPED.sub(r"\1", text[1:-1])
            found.append(Token(kind, text, match.start(), match.end()))
        at = match.end()
    return found


_STRING_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "a": "\a",
                   "v": "\v", "e": "\x1b"}  # fmt: skip


def string_value(token: Token) -> str:
    """What a string token stands for."""
    return _ESCAPED.sub(lambda match: _STRING_ESCAPES.get(match[1], match[1]), token.text[1:-1])


def depths(found: Sequence[Token]) -> list[int]:
    """How many brackets are open around each token."""
    depth = 0
    result = []
    for token in found:
        if token.kind is Kind.SIGN and token.text in ")]}":
            depth -= 1
        result.append(depth)
        if token.kind is Kind.SIGN and token.text in "([{":
            depth += 1
    return result
