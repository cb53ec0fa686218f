"""The list of revisions as a cluster moves it on: numbers from labels, states from what is seen; pure."""

from collections.abc import Iterable, Sequence

import msgspec

from spanyard_core.resources.deployments import (
    Content,
    begin,
    limited,
    marked,
    revision_hash,
)
from spanyard_core.resources.kinds import Revision
from spanyard_operator.deployments.observed import Seen


def adopted(revisions: Sequence[Revision], seen: Seen) -> list[Revision]:
    """The list with what ReplicaSets tell of and a status has lost: numbers are given once.

    Older ones than the list knows have left it on purpose.
    """
    highest = max((r.number for r in revisions), default=0)
    found = {r.number: r for r in seen.known if r.number > highest}
    return sorted([*revisions, *found.values()], key=lambda r: r.number)


def wished(
    revisions: Sequence[Revision], what: Content, seen: Seen, *, now: str
) -> tuple[Revision, list[Revision]]:
    """The revision that is to run, and the list with it. `revisions` are `adopted`.

    What the child says already keeps its number: an operator that was killed before it wrote the
    status must not number anew.
    """
    if seen.number and seen.hash == revision_hash(what):
        known = next((r for r in revisions if r.number == seen.number), None)
        if known is not None:
            told = _named(known, what)
            return told, [told if r.number == told.number else r for r in revisions]
        made = Revision(
            number=seen.number,
            hash=seen.hash,
            state="Starting",
            build=what.build,
            image=what.image,
            started_at=now,
        )
        return made, sorted([*revisions, made], key=lambda r: r.number)
    return begin(revisions, what, now=now)


def _named(revision: Revision, what: Content) -> Revision:
    """Labels do not say which build it is."""
    if revision.build == what.build and revision.image == what.image:
        return revision
    return msgspec.structs.replace(revision, build=what.build, image=what.image)


def settled(
    revisions: Sequence[Revision], seen: Seen, *, failed: str, limit: int, now: str
) -> list[Revision]:
    """The list as of what is seen now. `failed`: the reason, when the newest one was given up."""
    made = list(revisions)
    state = {r.number: r.state for r in made}.get(seen.number)
    if seen.complete:
        made = marked(made, seen.number, "Serving", now=now)
    elif failed:
        made = marked(made, seen.number, "Failed", failed, now=now)
    elif seen.candidate is not None and seen.candidate.number == seen.number:
        # Of a revision that serves, pods may be replaced: it has not stopped serving for it.
        same = seen.serving is not None and seen.serving.number == seen.number
        if state != "Starting" and not same:
            made = marked(made, seen.number, "Starting", now=now)
    elif seen.serving is None and seen.candidate is None and state in {"Serving", "Starting"}:
        made = marked(made, seen.number, "Replaced", now=now)  # stopped: nothing runs
    return limited(_with_templates(_superseded(made, seen, now), seen), limit)


def _with_templates(revisions: Iterable[Revision], seen: Seen) -> list[Revision]:
    """With the hashes of their ReplicaSets; a new release of Spanyard may give a revision another.

    What still starts gets them when it has come to something: that saves a write of the status.
    """
    made = []
    for one in revisions:
        found = {h for r in seen.known if r.number == one.number for h in r.templates}
        if one.state != "Starting" and not found <= set(one.templates):
            both = sorted({*one.templates, *found})
            made.append(msgspec.structs.replace(one, templates=both))
        else:
            made.append(one)
    return made


def _superseded(revisions: Iterable[Revision], seen: Seen, now: str) -> list[Revision]:
    """What started and is no longer asked for."""
    made = list(revisions)
    for one in revisions:
        if one.state == "Starting" and one.number != seen.number:
            made = marked(made, one.number, "Replaced", now=now)
    return made
