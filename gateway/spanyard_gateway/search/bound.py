"""A query bound to a signal: each term checked, its values read, ready to become SQL or a test.

What a term asks of its field becomes a `Leaf`; a term with several values becomes `AnyOf` of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spanyard_gateway.params import duration_ns, span_id, trace_id
from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.search.fields import (
    ALIASES,
    FIELDS,
    WORDS,
    Field,
    Signal,
    attribute,
)
from spanyard_gateway.search.nearest import nearest
from spanyard_gateway.search.nodes import All, AnyOf, Node, Not, Term, Value
from spanyard_gateway.search.parser import parse
from spanyard_gateway.search.words import words_of

Compared = Literal["=", ">", ">=", "<", "<="]
MOST_DIGITS = 18
"""Before and after the point: what all sides read as the same number."""
_NUMBER = re.compile(rf"-?\d{{1,{MOST_DIGITS}}}(\.\d{{1,{MOST_DIGITS}}})?", re.ASCII)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Words:
    """These words next to one another, in any case; the last may go on with `prefix`."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """This text anywhere within, in any case."""

    text: str


@dataclass(frozen=True, slots=True)
class Equals:
    """Exactly one of these."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begins:
    """With this at its beginning."""

    text: str


@dataclass(frozen=True, slots=True)
class Present:
    """There, and not empty."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A number, compared."""

    sign: Compared
    number: int | float


@dataclass(frozen=True, slots=True)
class Holds:
    """A flag that is, or is not, set."""

    wanted: bool


Test = Words | Part | Equals | Begins | Present | Compare | Holds


@dataclass(frozen=True, slots=True)
class Leaf:
    """One condition. Of an attribute `key` is its name."""

    field: Field
    test: Test
    key: str = ""


Bound: TypeAlias = Leaf | Not["Bound"] | All["Bound"] | AnyOf["Bound"]


def bound(text: str, signal: Signal) -> Bound:
    """The query for a signal. Raises SearchError, at the place where it is wrong."""
    return _bind(parse(text), text, signal)


def _bind(node: Node, text: str, signal: Signal) -> Bound:
    if isinstance(node, Term):
        return _Binding(text, signal, node).bound()
    if isinstance(node, Not):
        return Not(_bind(node.part, text, signal))
    parts = tuple(_bind(part, text, signal) for part in node.parts)
    return All(parts) if isinstance(node, All) else AnyOf(parts)


class _Binding:
    """One term of a query."""

    def __init__(self, text: str, signal: Signal, term: Term) -> None:
        self._text, self._signal, self._term = text, signal, term
        self._key = term.field if term.attribute else ""
        self._field = attribute(term.field, signal) if term.attribute else self._known()

    def bound(self) -> Bound:
        leaves = list(self._joined(self._test(value) for value in self._term.values))
        return leaves[0] if len(leaves) == 1 else AnyOf(tuple(leaves))

    def _joined(self, tests: Iterable[Test]) -> Iterable[Leaf]:
        """One leaf for all values that are compared for equality."""
        equal: list[str] = []
        for test in tests:
            if isinstance(test, Equals):
                equal += test.texts
            else:
                yield Leaf(self._field, test, self._key)
        if equal:
            yield Leaf(self._field, Equals(tuple(dict.fromkeys(equal))), self._key)

    def _known(self) -> Field:
        term = self._term
        fields = FIELDS[self._signal]
        name = ALIASES.get(term.field, term.field)
        found = fields.get(name) or fields.get(name.lower())
        if found is not None:
            return found
        owners = [signal for signal in FIELDS if name in FIELDS[signal]]
        like = nearest(name, [known for known in fields if known])
        hint = (
            f"{name!r} is a field of {' and '.join(owners)}, not of {self._signal}."
            if owners
            else f"{self._signal} have no field {term.field[:60]!r}."
        )
        if like and not owners:
            hint += f" Did you mean {like}?"
        raise SearchError(
            f"{hint} Fields here: {', '.join(known for known in fields if known)}; @key is an "
            "attribute. To find it as text put it in quotes: "
            f'"{self._text[term.start : term.end][:80]}"',
            self._text,
            term.start,
            term.field_end or term.end,
        )

    def _wrong(self, what: str, value: Value) -> SearchError:
        return SearchError(what, self._text, value.start, value.end)

    def _test(self, value: Value) -> Test:
        field = self._field
        if value.prefix and not value.text and not value.sign and field.kind != "flag":
            if field.name == WORDS:
                raise self._wrong("`*` alone finds everything; put a word before it", value)
            return Compare(">", 0) if field.kind in {"number", "duration"} else Present()
        if "*" in value.text and not value.quoted and field.kind in {"words", "part", "label"}:
            raise self._wrong(
                "`*` stands at the end alone, for what a word or value begins with; text: finds any "
                f'part of a text. To find it as it is put it in quotes: "{value.text[:80]}"',
                value,
            )
        if field.kind in {"words", "part"} and value.sign:
            raise self._wrong(
                f"{field.name} is text, which has no size: leave out `{value.sign}`", value
            )
        match field.kind:
            case "words":
                words = words_of(value.text)
                # Without a letter or digit there is nothing that the index knows.
                return Words(words, value.prefix) if words else Part(value.text)
            case "part":
                return Part(value.text)
            case "level":
                return self._level(value)
            case "choice":
                return Equals((self._choice(value),))
            case "number" | "duration":
                return self._compare(value)
            case "flag":
                return self._flag(value)
            case _:
                return self._label(value)

    def _label(self, value: Value) -> Test:
        if value.sign:
            if not self._key:
                raise self._wrong(
                    f"{self._field.name} is a name, which has no size: leave out `{value.sign}`",
                    value,
                )
            return self._compare(value)
        if value.prefix:
            return Begins(value.text)
        if self._field.name == "trace":
            return Equals((trace_id(value.text),))
        if self._field.name in {"span", "parent"}:
            return Equals((span_id(value.text),))
        return Equals((value.text,))

    def _choice(self, value: Value) -> str:
        word = value.text.lower()
        choices = self._field.choices
        if value.prefix or word not in choices:
            like = nearest(word, choices)
            raise self._wrong(
                f"{self._field.name} is one of {', '.join(choices)}"
                + (f"; did you mean {like}?" if like and like != word else ""),
                value,
            )
        return word

    def _level(self, value: Value) -> Test:
        at = self._field.choices.index(self._choice_of_level(value))
        levels = self._field.choices
        match value.sign:
            case ">":
                return Equals(levels[at + 1 :])
            case ">=":
                return Equals(levels[at:])
            case "<":
                return Equals(levels[:at])
            case "<=":
                return Equals(levels[: at + 1])
            case _:
                return Equals((levels[at],))

    def _choice_of_level(self, value: Value) -> str:
        synonyms = {"warning": "warn", "err": "error", "critical": "fatal"}
        word = synonyms.get(value.text.lower(), value.text)
        return self._choice(Value(word, value.start, value.end, prefix=value.prefix))

    def _compare(self, value: Value) -> Compare:
        sign: Compared = value.sign or "="
        if self._field.kind == "duration":
            try:
                return Compare(sign, duration_ns(value.text))
            except ValueError as error:
                raise self._wrong(f"{value.text[:40]!r} {error}", value) from error
        if value.prefix or not _NUMBER.fullmatch(value.text):
            raise self._wrong(
                f"{self._field.name} is compared with a number here, as in "
                f"{self._field.name}:>=1000, not with {value.text[:40]!r}",
                value,
            )
        return Compare(sign, float(value.text) if "." in value.text else int(value.text))

    def _flag(self, value: Value) -> Holds:
        word = value.text.lower()
        if value.sign or value.prefix or word not in _TRUTHS:
            raise self._wrong(f"{self._field.name} is true or false", value)
        return Holds(_TRUTHS[word])
