"""A build's life as pure functions: states, concurrency, retention. The laptop's runner and the
operator do what they say; neither has rules of its own.

    Queued ──► Building ──► Succeeded | Failed | Cancelled
      ▲            │ runner killed: another attempt
      └── retry ───┘

Times are RFC 3339 in UTC and come from the caller.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.durations import seconds_or, text
from spanyard_core.resources.kinds import (
    FINISHED,
    ArtifactStatus,
    Build,
    BuildRetention,
    BuildStatus,
    CollectorStatus,
    ConcurrencyPolicy,
    Failure,
    Phase,
    StepStatus,
)
from spanyard_core.resources.reasons import REASONS, explain
from spanyard_core.resources.source_status import SourceStatus

Step = Literal["fetch", "install", "build", "publish"]
STEPS: tuple[Step, ...] = ("fetch", "install", "build", "publish")


# --- states ----------------------------------------------------------------------------------


def steps_of(build: Build) -> list[Step]:
    """The steps that this build has; without a command there is no step for it."""
    given = {"install": build.spec.install, "build": build.spec.build}
    return [step for step in STEPS if step not in given or given[step].strip()]


def wants_retry(build: Build) -> bool:
    """Whether a build that has ended is to run once more."""
    return build.status.phase in FINISHED and build.spec.retry > build.status.observed_retry


def queued(build: Build, *, now: str, waits_for: str = "") -> BuildStatus:
    """It waits: new, or once more by `spec.retry`. `waits_for` names the build that runs."""
    old = build.status
    again = wants_retry(build)
    status = msgspec.structs.replace(
        old,
        phase="Queued",
        queued_at=now if again or not old.queued_at else old.queued_at,
        observed_retry=build.spec.retry if again or not old.attempt else old.observed_retry,
        step="",
    )
    if again:
        status = _blank(status)
    because = Because("Queued", REASONS["Queued"].told(name=waits_for))
    if not waits_for:
        because = Because("Queued", "starts as soon as there is room")
    return _as(build, status, because, now)


def begun(build: Build, *, now: str, collector: CollectorStatus | None = None) -> BuildStatus:
    """Another attempt starts: the first, one after a retry, or one after an interruption."""
    old = build.status
    interrupted = old.phase == "Building"
    status = msgspec.structs.replace(
        _blank(old),
        phase="Building",
        attempt=old.attempt + 1,
        queued_at=old.queued_at or now,
        started_at=now,
        collector=collector or old.collector,
    )
    because = Because("Building", "starts")
    if interrupted:
        detail = f"its runner ended during {old.step}" if old.step else "its runner ended"
        told = REASONS["Interrupted"].told(attempt=status.attempt, detail=detail)
        because = Because("Interrupted", told)
    return _as(build, status, because, now)


def too_many_attempts(build: Build, *, limit: int) -> Failure | None:
    """For runners that start attempts without anybody's doing: the failure instead of the next one.

    Every retry by the user gives `limit` attempts more.
    """
    if build.status.attempt < limit * (build.status.observed_retry + 1):
        return None
    return explain(
        "TooManyAttempts", attempt=build.status.attempt, detail="each ended without a result"
    )


def step_begun(build: Build, status: BuildStatus, step: Step, *, now: str) -> BuildStatus:
    """`step` runs."""
    steps = [*status.steps, StepStatus(name=step, started_at=now)]
    status = msgspec.structs.replace(status, step=step, steps=steps)
    return _as(build, status, Because("Building", REASONS["Building"].told(step=step)), now)


def step_ended(status: BuildStatus, *, now: str, exit_code: int | None) -> BuildStatus:
    """The step that ran has ended."""
    *before, last = status.steps
    last = msgspec.structs.replace(last, finished_at=now, exit_code=exit_code)
    return msgspec.structs.replace(status, steps=[*before, last])


def observed(
    build: Build,
    status: BuildStatus,
    *,
    now: str,
    step: str,
    steps: Sequence[StepStatus],
    waits: Failure | None = None,
) -> BuildStatus:
    """Where a build is, for a runner that sees it from outside; `waits` keeps `step` from going on.

    Equal facts give an equal status: nothing is written when nothing happened.
    """
    status = msgspec.structs.replace(status, step=step, steps=list(steps))
    because = Because("Building", REASONS["Building"].told(step=step) if step else "starts")
    if waits is not None:
        because = Because(waits.reason, waits.message)
    elif status.reason == "Interrupted" and not steps:
        because = Because("Interrupted", status.message)  # until the new attempt does something
    return _as(build, status, because, now)


def waits_for(build: Build, because: Because, *, now: str) -> BuildStatus:
    """It has not begun and something else must happen first; `because` says what."""
    return _as(build, build.status, because, now)


def fetched(status: BuildStatus, source: SourceStatus) -> BuildStatus:
    """What was fetched is known."""
    return msgspec.structs.replace(status, source=source)


def succeeded(
    build: Build, status: BuildStatus, artifact: ArtifactStatus, *, now: str, log_complete: bool
) -> BuildStatus:
    """The artifact is stored."""
    status = _ended(status, "Succeeded", now, log_complete)
    status.artifact = artifact
    return _as(build, status, Because("Succeeded", REASONS["Succeeded"].message), now)


def failed(
    build: Build, status: BuildStatus, failure: Failure, *, now: str, log_complete: bool
) -> BuildStatus:
    """It has ended without an artifact; `Cancelled` and `Superseded` make it Cancelled."""
    phase: Phase = "Cancelled" if failure.reason in {"Cancelled", "Superseded"} else "Failed"
    status = _ended(status, phase, now, log_complete)
    status.failure = failure
    return _as(build, status, Because(failure.reason, failure.message), now)


def seen_again(build: Build) -> BuildStatus:
    """A spec that changed after the end, in a way that starts nothing: said to have been seen, or
    tools would wait for it for ever."""
    generation = build.metadata.generation
    return msgspec.structs.replace(
        build.status,
        observed_generation=generation,
        conditions=[
            msgspec.structs.replace(one, observed_generation=generation)
            for one in build.status.conditions
        ],
    )


def _blank(status: BuildStatus) -> BuildStatus:
    return msgspec.structs.replace(
        status,
        step="",
        steps=[],
        started_at="",
        finished_at="",
        duration="",
        failure=None,
        source=SourceStatus(),
        artifact=ArtifactStatus(),
        log_complete=False,
    )


def _ended(status: BuildStatus, phase: Phase, now: str, log_complete: bool) -> BuildStatus:
    return msgspec.structs.replace(
        status,
        phase=phase,
        step="",
        finished_at=now,
        duration=_took(status.started_at, now),
        log_complete=log_complete,
    )


def _took(start: str, end: str) -> str:
    """For a column: whole seconds, below one milliseconds."""
    try:
        passed = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except ValueError:  # it never began
        return ""
    return text(max(0.0, round(passed) if passed >= 1 else passed))


def _as(build: Build, status: BuildStatus, because: Because, now: str) -> BuildStatus:
    ended = status.phase in FINISHED
    good = status.phase == "Succeeded"
    return msgspec.structs.replace(
        status,
        observed_generation=build.metadata.generation,
        reason=because.reason,
        message=because.message,
        conditions=conditions(
            status.conditions,
            generation=build.metadata.generation,
            now=now,
            ready="True" if good else "False",
            because=because,
            reconciling=None if ended else because,
            stalled=because if ended and not good else None,
        ),
    )


# --- concurrency -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of the builds of one project that wait. Names."""

    start: Sequence[str] = ()
    wait: Mapping[str, str] = field(default_factory=dict)
    """Who waits → whom it waits for; empty: for room."""
    supersede: Mapping[str, str] = field(default_factory=dict)
    """Who is left out → the newer one."""


def admit(
    builds: Iterable[Build], policy: ConcurrencyPolicy, *, room: int | None = None
) -> Admission:
    """Decide over the queued builds of one project; `room` limits how many may start now.

    The one that was queued first starts first. Builds to be cancelled take no part.
    """
    all_ = sorted(builds, key=_turn)
    running = [build.metadata.name for build in all_ if build.status.phase == "Building"]
    waiting = [
        build.metadata.name
        for build in all_
        if build.status.phase == "Queued" and not build.spec.cancel
    ]
    supersede: dict[str, str] = {}
    if policy == "SerialLatestOnly":
        supersede = dict.fromkeys(waiting[:-1], waiting[-1] if waiting else "")
        waiting = waiting[-1:]
    most = len(waiting) if policy == "Parallel" else max(0, 1 - len(running))
    if room is not None:
        most = min(most, max(0, room))
    start = waiting[:most]
    ahead = "" if policy == "Parallel" else next(iter([*running, *start]), "")
    return Admission(start, dict.fromkeys(waiting[most:], ahead), supersede)


def _turn(build: Build) -> tuple[str, str]:
    queued_at = build.status.queued_at or build.metadata.creation_timestamp
    return queued_at, build.metadata.name


# --- retention -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expired:
    """A build that goes, with log and artifact."""

    build: Build
    why: str


def expired(
    builds: Iterable[Build],
    retention: BuildRetention,
    *,
    now: datetime,
    in_use: Collection[str] = (),
) -> list[Expired]:
    """Builds of one project that retention removes. Names in `in_use` are kept, and count.

    Cancelled ones are counted with the failed ones. A build to be retried is not over.
    """
    over = [build for build in builds if build.status.phase in FINISHED and not wants_retry(build)]
    good = [build for build in over if build.status.phase == "Succeeded"]
    bad = [build for build in over if build.status.phase != "Succeeded"]
    rules = (
        (good, retention.succeeded_limit, retention.ttl_after_succeeded, "successful"),
        (bad, retention.failed_limit, retention.ttl_after_failed, "failed"),
    )
    gone: list[Expired] = []
    for group, limit, ttl, what in rules:
        group.sort(key=lambda build: (build.status.finished_at, build.metadata.name), reverse=True)
        longest = seconds_or(ttl, None)
        for rank, build in enumerate(group):
            if build.metadata.name in in_use:
                continue
            if rank >= limit:
                gone.append(Expired(build, f"the project keeps {limit} {what} builds"))
            elif longest is not None and _age(build, now) > longest:
                gone.append(Expired(build, f"the project keeps {what} builds for {ttl}"))
    return gone


def _age(build: Build, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(build.status.finished_at)).total_seconds()
    except ValueError:  # somebody else wrote it; it is never too old then
        return 0.0
