"""An entry of a timeline and its place: the order in which the story is told, page after page.

Entries come from two sides, from what keeps resources (`declared`) and from what is stored
(`queries.timeline`). Both give them places of the same form, so that one cursor holds for both.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from spanyard_core.clock import rfc3339
from spanyard_gateway.items import TimelineItem, TimelineKind
from spanyard_gateway.params import time_ns

KINDS: tuple[TimelineKind, ...] = (
    "commit",
    "build",
    "build:log",
    "revision",
    "event",
    "server:log",
    "span",
    "score",
)
"""In the order of cause and effect: so they stand when their times are the same."""


class Place(NamedTuple):
    """Where an entry stands: by time, then by kind, then by what tells entries of a kind apart."""

    at: int
    """ns since the epoch."""
    rank: int
    """Of its kind in KINDS."""
    a: str = ""
    b: str = ""
    c: str = ""
    n: int = 0


PLACE_TYPES: tuple[type, ...] = (int, int, str, str, str, int)
"""Of a `Place` in a cursor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    place: Place
    item: TimelineItem


def entry(time: str, kind: TimelineKind, name: str, title: str, **more: object) -> Entry | None:
    """One that happened at `time` (RFC 3339); None where nobody told when. `name` is its own."""
    try:
        at = time_ns(time, 0)
    except ValueError:
        return None
    item = TimelineItem(id=name, time=rfc3339(at), kind=kind, title=title, **more)  # type: ignore[arg-type]  # fields of the item
    return Entry(Place(at, KINDS.index(kind), name), item)


def first(
    entries: Iterable[Entry],
    wanted: int,
    *,
    kinds: Iterable[TimelineKind],
    start: int | None,
    end: int | None,
    behind: Place | None,
    descending: bool,
) -> list[Entry]:
    """The first `wanted` in order, of these kinds, from `start` and before `end`, behind a place."""
    among = set(kinds)

    def asked_for(one: Entry) -> bool:
        place = one.place
        if one.item.kind not in among:
            return False
        if (start is not None and place.at < start) or (end is not None and place.at >= end):
            return False
        return behind is None or (place < behind if descending else place > behind)

    found = sorted(filter(asked_for, entries), key=lambda one: one.place, reverse=descending)
    return found[:wanted]
