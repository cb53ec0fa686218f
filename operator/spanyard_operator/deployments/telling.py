"""From what is wished and seen to the status, and to the Events between two of them; pure.

A status is written when something changed that a person cares about: another count, state or
reason. The words of the same trouble (the name of the next pod, later last lines) are no change.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from spanyard_core.resources.conditions import RECONCILING, find
from spanyard_core.resources.durations import text
from spanyard_core.resources.kinds import (
    CollectorStatus,
    Condition,
    Deployment,
    DeploymentStatus,
    Failure,
    Revision,
)
from spanyard_core.resources.reasons import REASONS, explain
from spanyard_core.resources.rollout import GivenUp, Wish, describe
from spanyard_operator.deployments.observed import Seen


def given_up(wish: Wish, seen: Seen) -> GivenUp | None:
    """The revision that the apps controller no longer expects to get ready."""
    candidate = seen.candidate
    if not seen.late or candidate is None or not wish.hash:
        return None
    failure = candidate.failure
    if failure is None:
        detail = f"{candidate.ready} of {candidate.wanted} replicas were ready"
        if candidate.trouble:
            detail += f"; {candidate.trouble}"
        failure = explain("DeadlineExceeded", limit=text(wish.deadline), detail=detail)
    return GivenUp(wish.hash, wish.generation, failure)


def status_of(
    deployment: Deployment,
    wish: Wish,
    seen: Seen,
    *,
    revisions: Sequence[Revision],
    endpoint: str,
    collector: CollectorStatus,
    now: str,
) -> DeploymentStatus:
    """The whole status; `deployment` carries the one before."""
    made = describe(
        deployment,
        wish,
        seen.serving,
        seen.candidate,
        given_up(wish, seen),
        revisions=revisions,
        endpoint=endpoint,
        collector=collector,
        now=now,
    )
    # An autoscaler counts all pods that its selector finds, whatever revision they are of.
    return msgspec.structs.replace(made, replicas=seen.replicas, ready_replicas=seen.ready)


def is_news(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    """Whether the new one is worth a write."""
    old, new = _plain(before, after.failure), _plain(after, before.failure)
    if _going_on(before) and _going_on(before) == _going_on(after):
        # How many pods there are besides the ready ones: at the end it is written anyway.
        old = msgspec.structs.replace(old, replicas=new.replicas)
    return old != new


def _going_on(status: DeploymentStatus) -> str:
    found = find(status.conditions, RECONCILING)
    return found.reason if found is not None else ""


def is_progress(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    """Whether nothing but counts differ: there will be more of it in a moment."""
    return _uncounted(before) == _uncounted(after)


def _uncounted(status: DeploymentStatus) -> DeploymentStatus:
    return msgspec.structs.replace(
        status,
        replicas=0,
        ready_replicas=0,
        message="",
        conditions=[_wordless(condition) for condition in status.conditions],
    )


def _plain(status: DeploymentStatus, other: Failure | None) -> DeploymentStatus:
    """Without the words, where both tell of the same trouble."""
    mine = status.failure
    if mine is None or other is None or _kind(mine) != _kind(other):
        return status
    return msgspec.structs.replace(
        status,
        message="",
        failure=None,
        conditions=[_wordless(condition) for condition in status.conditions],
    )


def _kind(failure: Failure) -> tuple[str, str, int | None]:
    return failure.reason, failure.container, failure.exit_code


def _wordless(condition: Condition) -> Condition:
    return msgspec.structs.replace(condition, message="")


Event = tuple[Literal["Normal", "Warning"], str, str]
"""Type, reason, message."""


def events(before: DeploymentStatus, after: DeploymentStatus) -> Iterator[Event]:
    """What happened between the two. A first start that goes well is told by the status alone."""
    old = {r.number: r for r in before.revisions}
    served = f"revision {before.revision}" if before.revision else ""
    for revision in after.revisions:
        state = old[revision.number].state if revision.number in old else ""
        if state == revision.state:
            continue
        name = f"revision {revision.number}"
        if revision.state == "Starting" and before.revision not in {0, revision.number}:
            yield _event("RollingOut", name=name, serving=served)
        elif revision.state == "Serving" and before.revision not in {0, revision.number}:
            yield _event("RevisionReplaced", name=name, serving=served)
        elif revision.state == "Failed":
            yield from _refused(name, after)
    if after.revision == before.revision and after.restarts > before.restarts and after.revision:
        yield from _restarted(after)
    yield from _stalled(before, after)


def _refused(name: str, after: DeploymentStatus) -> Iterator[Event]:
    failure = after.failure
    if failure is None:
        return
    if after.revision:
        serving = f"revision {after.revision}"
        yield _event("RevisionRefused", name=name, serving=serving, detail=failure.message)
    else:
        yield "Warning", failure.reason, f"{name}: {failure.message}"


def _restarted(after: DeploymentStatus) -> Iterator[Event]:
    failure = after.failure
    if failure is not None:
        yield _event("Restarted", name=failure.pod, code=failure.exit_code)


def _stalled(before: DeploymentStatus, after: DeploymentStatus) -> Iterator[Event]:
    """A trouble of the wish itself; that of a revision is told with the revision."""
    failure = after.failure
    if failure is None or any(r.state == "Failed" and r.reason for r in after.revisions[-1:]):
        return
    stalled = any(c.type == "Stalled" and c.status == "True" for c in after.conditions)
    same = before.failure is not None and _kind(before.failure) == _kind(failure)
    if stalled and not same:
        yield "Warning", failure.reason, failure.message


def _event(
    reason: str, *, name: str, serving: str = "", detail: str = "", code: int | None = None
) -> Event:
    row = REASONS[reason]
    said = row.told(name=name, pod=name, serving=serving, detail=detail, exit_code=code)
    return row.event, reason, said
