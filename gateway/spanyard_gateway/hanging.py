"""Unfinished spans of which nothing more is to be expected: they hang, or their process has ended.

A span hangs when for `hung_after` nothing was heard of it nor of any span below it: who waits for a
child that works does not hang. It is lost when the process that began it has ended, as the end
records of its pod's writers tell: then nobody is left to end it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SETTLED_NS = 30 * 10**9
"""A process counts as ended only so long after its end record: what it wrote last is in objects of
its own, which may be loaded a few seconds later."""
_RUN = re.compile(r"[^/]+/([^/@]+)/(\d+)@.*")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and since when it is counted."""

    now_ns: int
    limit_ns: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of an unfinished span."""

    hung: bool
    lost: bool


FINE = Mark(hung=False, lost=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """When a span was heard of last (ns)."""

    trace: str
    id: str
    parent: str
    at: int


@dataclass(frozen=True, slots=True)
class Life:
    """What a writer told of itself; `end` is None while it goes on."""

    writer: str
    signal: str
    begin: int
    end: int | None


def pod_of(writer: str) -> str:
    """What writers of one pod have in common: `{pod uid}/…`."""
    return writer.partition("/")[0]


def last_heard(words: Iterable[Heard]) -> dict[tuple[str, str], int]:
    """When each span, or one below it, was heard of last."""
    parents = {}
    last: dict[tuple[str, str], int] = {}
    for word in words:
        parents[word.trace, word.id] = (word.trace, word.parent)
        last[word.trace, word.id] = word.at
    # Latest first, so that each is told once: in another order a chain of 20,000 spans took as many
    # steps for each of them. Spans that are each other's ancestors end it too.
    for key, at in sorted(last.items(), key=lambda told: -told[1]):
        above = parents[key]
        while above in last and last[above] < at:
            last[above] = at
            above = parents[above]
    return last


def is_gone(lives: Sequence[Life], began: int, now_ns: int) -> bool:
    """Whether the process that began a span then (ns) has ended; `lives` are those of its pod.

    Either all that the pod's spans came by has ended, or its only container has: which of several
    containers a span is of, nobody tells.
    """
    settled = now_ns - SETTLED_NS

    def over(life: Life) -> bool:
        return life.end is not None and life.end < settled

    spans = [life for life in lives if life.signal in {"spans", "traces"}]
    if spans and all(over(life) for life in spans):
        return True
    runs: dict[str, dict[int, list[Life]]] = {}
    for life in lives:
        if life.signal == "logs" and (found := _RUN.fullmatch(life.writer)):
            runs.setdefault(found[1], {}).setdefault(int(found[2]), []).append(life)
    # Init containers have ended before anything began.
    main = [
        numbered
        for numbered in runs.values()
        if not all(
            life.end is not None and life.end < began for r in numbered.values() for life in r
        )
    ]
    if len(main) != 1:
        return False
    [numbered] = main
    before = [n for n, run in numbered.items() if min(life.begin for life in run) <= began]
    its = max(before, default=min(numbered))
    later = [life.begin for n, run in numbered.items() if n > its for life in run]
    return all(over(life) for life in numbered[its]) or any(at < settled for at in later)
