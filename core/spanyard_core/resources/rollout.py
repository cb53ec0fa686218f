"""How a new revision takes over: it must be ready beside the old one before the old one stops.

A state machine without I/O. A runner tells what it sees (`Group`) and what is wanted (`Wish`),
`decide` says what to do next, `describe` what status tells of it. A bad revision never replaces a
healthy one: it is tried again until `progressDeadline`, then given up until the spec or the build
changes, and the old one goes on serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.durations import text
from spanyard_core.resources.kinds import (
    CollectorStatus,
    ConditionStatus,
    Deployment,
    DeploymentStatus,
    Failure,
    Revision,
)
from spanyard_core.resources.reasons import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the spec and the builds ask for now."""

    hash: str = ""
    """Of the revision to run; empty: there is none, and `wait` or `failure` says why."""
    replicas: int = 1
    suspend: bool = False
    deadline: float = 600.0
    """Seconds that a revision has to become ready."""
    tries: int = 0
    """Failed starts after which it is given up before the deadline; 0: any number."""
    generation: int = 0
    wait: str = ""
    """Without a hash: what it waits for."""
    failure: Failure | None = None
    """Why there is nothing to run, or why it was refused. Told also while no replica is to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The replicas of one revision as they are now."""

    number: int
    hash: str
    since: float
    """Monotonic seconds at which it was started."""
    wanted: int
    running: int = 0
    ready: int = 0
    restarts: int = 0
    failure: Failure | None = None
    """The last one, while not all replicas are ready."""
    hopeless: bool = False
    """Starting it again changes nothing: no such command, a broken artifact."""
    trouble: str = ""
    """What is seen of a replica that runs and is not ready."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A revision that will not be tried again as long as this is what is asked for."""

    hash: str
    generation: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Start:
    """Start the wanted revision beside what serves."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Send traffic to the candidate, then stop what served."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Let a group have another number of replicas."""

    which: Literal["serving", "candidate"]
    replicas: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a group for good: it is no longer what is wanted."""

    which: Literal["serving", "candidate"]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop the candidate and do not try it again."""

    failure: Failure


Step = Start | Promote | Scale | Stop | GiveUp


def decide(
    wish: Wish,
    serving: Group | None,
    candidate: Group | None,
    given_up: GivenUp | None,
    now: float,
) -> Step | None:
    """The next step, or None when there is nothing to do but wait. Ask again after each."""
    if _is_stopped(wish):
        return Stop("candidate") if candidate else Stop("serving") if serving else None
    if candidate and candidate.hash != wish.hash:
        return Stop("candidate")
    if not wish.hash:
        return None  # what serves goes on
    if serving and serving.hash == wish.hash:
        return _scaled("serving", serving, wish)
    if candidate is None:
        return None if is_given_up(wish, given_up) else Start()
    if candidate.ready >= candidate.wanted and candidate.wanted == wish.replicas:
        return Promote()
    late = now - candidate.since >= wish.deadline
    failed = candidate.restarts + (candidate.running < candidate.wanted)
    tired = 0 < wish.tries <= failed
    if candidate.failure and (candidate.hopeless or late or tired):
        return GiveUp(candidate.failure)
    if late:
        return GiveUp(_too_slow(candidate, wish))
    return _scaled("candidate", candidate, wish)


def _scaled(which: Literal["serving", "candidate"], group: Group, wish: Wish) -> Step | None:
    return Scale(which, wish.replicas) if group.wanted != wish.replicas else None


def _is_stopped(wish: Wish) -> bool:
    return wish.suspend or wish.replicas == 0


def is_given_up(wish: Wish, given_up: GivenUp | None) -> bool:
    """Whether this very wish was tried in vain."""
    return (
        given_up is not None
        and given_up.hash == wish.hash
        and given_up.generation == wish.generation
    )


def _too_slow(candidate: Group, wish: Wish) -> Failure:
    detail = f"{candidate.ready} of {candidate.wanted} replicas were ready"
    if candidate.trouble:
        detail += f"; {candidate.trouble}"
    return explain("DeadlineExceeded", limit=text(wish.deadline), detail=detail)


def next_look(wish: Wish, candidate: Group | None, now: float) -> float | None:
    """Seconds after which `decide` may say something else though nothing happened."""
    return max(0.0, candidate.since + wish.deadline - now) if candidate else None


# --- what status tells ------------------------------------------------------------------------


def describe(
    deployment: Deployment,
    wish: Wish,
    serving: Group | None,
    candidate: Group | None,
    given_up: GivenUp | None,
    *,
    revisions: Sequence[Revision],
    endpoint: str,
    collector: CollectorStatus,
    now: str,
) -> DeploymentStatus:
    """The whole status, written here alone. Equal input gives an equal status."""
    bad = given_up if is_given_up(wish, given_up) else None
    status, ready = _ready(wish, serving, candidate, bad)
    reconciling = _reconciling(wish, serving, candidate)
    stalled = _stalled(wish, serving, bad)
    if stalled:
        reconciling = None
    head = stalled or reconciling or ready
    shown = serving or candidate
    made = conditions(
        deployment.status.conditions,
        generation=deployment.metadata.generation,
        now=now,
        ready=status,
        because=ready,
        reconciling=reconciling,
        stalled=stalled,
    )
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        conditions=made,
        reason=head.reason,
        message=head.message,
        endpoint=endpoint,
        revision=serving.number if serving else 0,
        build=next((r.build for r in revisions if serving and r.number == serving.number), ""),
        replicas=shown.running if shown else 0,
        ready_replicas=serving.ready if serving else 0,
        restarts=serving.restarts if serving else 0,
        selector=f"spanyard.dev/deployment={deployment.metadata.name}",
        revisions=list(revisions),
        failure=_failure(wish, serving, candidate, bad),
        collector=collector,
    )


def _ready(
    wish: Wish, serving: Group | None, candidate: Group | None, bad: GivenUp | None
) -> tuple[ConditionStatus, Because]:
    if wish.suspend:
        return "False", Because("Suspended", "no replica runs, as spec.suspend says")
    if wish.replicas == 0 and wish.failure is None:
        return "True", Because("ScaledToZero", "no replica runs, as spec.replicas says")
    if serving:
        if serving.ready >= serving.wanted:
            return "True", Because("Serving", f"{_name(serving)} serves; {_count(serving)}")
        if serving.failure:
            why = serving.failure
            return "False", Because(why.reason, f"{_name(serving)}: {why.message}")
        return "False", _not_all_ready(serving)
    failure = bad.failure if bad else candidate.failure if candidate else wish.failure
    if failure:
        return "False", Because(failure.reason, failure.message)
    return "False", _coming(wish, candidate)


def _not_all_ready(serving: Group) -> Because:
    what = f"{_name(serving)}: {_count(serving)}"
    if serving.trouble:
        return Because("Unhealthy", f"{what}; {serving.trouble}")
    return Because("Starting", what)


def _coming(wish: Wish, candidate: Group | None) -> Because:
    if candidate:
        return Because("Starting", f"{_name(candidate)} starts; {_count(candidate)}")
    if wish.hash:
        return Because("Starting", "a revision is about to start")
    return Because("WaitingForBuild", f"waits for a successful build: {wish.wait}")


def _name(group: Group) -> str:
    return f"revision {group.number}"


def _count(group: Group) -> str:
    return f"{group.ready} of {group.wanted} replicas are ready"


def _reconciling(wish: Wish, serving: Group | None, candidate: Group | None) -> Because | None:
    if _is_stopped(wish):
        reason = "Suspended" if wish.suspend else "ScaledToZero"
        return Because(reason, "replicas are being stopped") if serving or candidate else None
    if candidate:
        last = candidate.failure
        again = f"; it is tried again, for it {last.message}" if last else ""
        if serving:
            story = f"{_name(candidate)} starts while {_name(serving)} goes on serving"
            if candidate.number == serving.number:  # in a cluster, what is no part of a revision
                story = f"the pods of {_name(serving)} are being replaced"
            return Because("RollingOut", f"{story}; {_count(candidate)}{again}")
        return Because("Starting", f"{_name(candidate)} starts; {_count(candidate)}{again}")
    if serving and serving.ready < serving.wanted:
        return _not_all_ready(serving)
    return _coming(wish, None) if wish.wait or (wish.hash and not serving) else None


def _stalled(wish: Wish, serving: Group | None, bad: GivenUp | None) -> Because | None:
    failure = bad.failure if bad and not _is_stopped(wish) else wish.failure
    if failure is None:
        return None
    goes_on = f"; {_name(serving)} goes on serving" if serving else ""
    return Because(failure.reason, failure.message + goes_on)


def _failure(
    wish: Wish, serving: Group | None, candidate: Group | None, bad: GivenUp | None
) -> Failure | None:
    if _is_stopped(wish):
        return wish.failure
    if bad:
        return bad.failure
    if candidate and candidate.failure:
        return candidate.failure
    if wish.failure:
        return wish.failure
    return serving.failure if serving and serving.ready < serving.wanted else None
