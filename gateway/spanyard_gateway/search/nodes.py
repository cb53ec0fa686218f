"""A query as a tree. Each part knows its characters in the text: `start` up to, not with, `end`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Not:
    """Where the part does not hold."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class All:
    """Where all parts hold; without parts everywhere."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Where one of the parts holds."""

    parts: "tuple[Node, ...]"


Node = Term | Not | All | AnyOf


def terms(node: Node) -> Iterator[Term]:
    """All terms of the tree, from left to right."""
    if isinstance(node, Term):
        yield node
    elif isinstance(node, Not):
        yield from terms(node.part)
    else:
        for part in node.parts:
            yield from terms(part)
