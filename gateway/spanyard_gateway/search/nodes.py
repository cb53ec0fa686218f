"""A query as a tree. Each part knows its characters in the text: `start` up to, not with, `end`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

Sign = Literal["", ">", ">=", "<", "<="]


@dataclass(frozen=True, slots=True)
class Value:
    """One word, phrase or value."""

    text: str
    start: int
    end: int
    quoted: bool = False
    prefix: bool = False
    """A `*` stood behind it, which is not part of `text`."""
    sign: Sign = ""


@dataclass(frozen=True, slots=True)
class Term:
    """`field:value,value`; without a field a word or phrase. Several values: any of them."""

    field: str
    """As it was written; empty for a word or phrase."""
    values: tuple[Value, ...]
    start: int
    end: int
    attribute: bool = False
    """`@key` or `attr.key`: `field` is the attribute's key."""
    field_end: int = 0


P = TypeVar("P")
"""What the parts are: here as they were written, in `bound` with their fields known."""


@dataclass(frozen=True, slots=True)
class Not(Generic[P]):
    """Where the part does not hold."""

    part: P


@dataclass(frozen=True, slots=True)
class All(Generic[P]):
    """Where all parts hold; without parts everywhere."""

    parts: tuple[P, ...]


@dataclass(frozen=True, slots=True)
class AnyOf(Generic[P]):
    """Where one of the parts holds."""

    parts: tuple[P, ...]


Node: TypeAlias = Term | Not["Node"] | All["Node"] | AnyOf["Node"]


def terms(node: Node) -> Iterator[Term]:
    """All terms of the tree, from left to right."""
    if isinstance(node, Term):
        yield node
    elif isinstance(node, Not):
        yield from terms(node.part)
    else:
        for part in node.parts:
            yield from terms(part)
