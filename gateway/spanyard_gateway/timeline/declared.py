"""What the statuses of a deployment and its builds, and its Events, tell of when; pure.

A status keeps no history but its revisions and a build's steps: of conditions the last change is
known, of an Event that came again the last time and how often. More is not made up.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from spanyard_core.resources.api import ResourceEvent
from spanyard_core.resources.conditions import READY, find
from spanyard_core.resources.kinds import Build, Deployment, Revision, resource_id
from spanyard_gateway.params import time_ns
from spanyard_gateway.timeline.entries import Entry, Place, entry

MAX_BUILDS = 50
"""The newest: a project keeps ten successful and ten failed ones by default."""
_TOLD_BY_REVISIONS = frozenset({"Starting", "RollingOut", "Serving", "RevisionReplaced"})
_REVISION = re.compile(r"\brevision (\d+)\b")


def builds_of(deployment: Deployment, builds: Sequence[Build]) -> list[Build]:
    """Of the project's builds those that this deployment ran, is to run, or follows."""
    spec, status = deployment.spec, deployment.status
    named = {revision.build for revision in status.revisions} | {status.build}
    if spec.build_ref is not None:
        named.add(spec.build_ref.name)
    found = [b for b in builds if spec.follow or b.metadata.name in named]
    found.sort(key=lambda b: (b.metadata.name in named, _asked_for(b)), reverse=True)
    return found[:MAX_BUILDS]


def _asked_for(build: Build) -> str:
    return build.status.queued_at or build.metadata.creation_timestamp


def entries(
    deployment: Deployment, builds: Sequence[Build], events: Sequence[ResourceEvent]
) -> list[Entry]:
    """All that is told, in no order."""
    of_builds = (one for build in builds for one in _build(build))
    ends = {build.metadata.name: build.status.finished_at for build in builds}
    of_revisions = (
        one
        for r in deployment.status.revisions
        for one in _revision(deployment, r, ends.get(r.build, ""))
    )
    known = {revision.number for revision in deployment.status.revisions}
    of_events = (_event(event) for event in events if not _told_already(event, known))
    found = (*of_builds, *of_revisions, *of_events, _health(deployment))
    return list(_told_apart(one for one in found if one is not None))


def _told_apart(found: Iterable[Entry]) -> Iterator[Entry]:
    """Events may say the same of two pods at once: each has its own place and id."""
    seen: Counter[Place] = Counter()
    for one in found:
        again = seen[one.place]
        seen[one.place] += 1
        id_ = f"{one.item.id}/{again}" if again else one.item.id
        yield Entry(one.place._replace(n=again), msgspec.structs.replace(one.item, id=id_))


# --- builds ----------------------------------------------------------------------------------


def _build(build: Build) -> Iterator[Entry | None]:
    status, name = build.status, resource_id(build)
    own = f"{name}/{status.attempt}"
    yield _commit(build, own)
    yield entry(status.queued_at, "build", f"{own}/queued", "queued", build_id=name)
    if status.attempt > 1:
        again = f"attempt {status.attempt} starts"
        yield entry(status.started_at, "build", f"{own}/started", again, build_id=name)
    for step in status.steps:
        good = step.exit_code in {None, 0}
        yield entry(
            step.started_at,
            "build",
            f"{own}/step/{step.name}",
            step.name,
            build_id=name,
            status="running" if not step.finished_at else "ok" if good else "error",
            detail="" if good else f"exit code {step.exit_code}",
            duration_ns=_between(step.started_at, step.finished_at),
        )
    failure = status.failure
    yield entry(
        status.finished_at,
        "build",
        f"{own}/end",
        status.phase.lower() if failure is None else f"{status.phase.lower()}: {failure.reason}",
        build_id=name,
        status="ok" if status.phase == "Succeeded" else "error",
        detail="" if failure is None else "\n".join([failure.message, *failure.last_lines]),
        duration_ns=_between(status.started_at, status.finished_at),
    )


def _commit(build: Build, own: str) -> Entry | None:
    """The source, at the time it was fetched: here it begins to matter, and a clock of ours says so;
    when it was committed stands beside it."""
    fetch = next((step for step in build.status.steps if step.name == "fetch"), None)
    if fetch is None:
        return None
    source, fetched = build.spec.source, build.status.source
    if source.git is not None:
        title = fetched.commit or source.git.revision
        detail = f"{source.git.revision} of {source.git.url}"
    elif source.directory is not None:
        path = source.directory.path
        title = fetched.commit or path
        detail = (
            f"{path}, a folder of this machine" if fetched.commit else "a folder of this machine"
        )
    else:
        archive = source.archive.digest if source.archive is not None else ""
        told = source.artifact
        title = archive or (told.digest or told.path if told is not None else "")
        detail = "an archive" if archive else "built before"
    return entry(
        fetch.started_at,
        "commit",
        f"{own}/commit",
        title,
        detail=detail,
        subject=fetched.subject,
        author=fetched.author,
        committed_at=fetched.committed_at,
        build_id=resource_id(build),
    )


# --- revisions and health --------------------------------------------------------------------


def _revision(deployment: Deployment, revision: Revision, built_at: str) -> Iterator[Entry | None]:
    number = str(revision.number)
    build = f"{deployment.metadata.namespace}.{revision.build}" if revision.build else ""
    runs = f"runs {revision.build or revision.image}" if revision.build or revision.image else ""

    def one(time: str, what: str, title: str, **more: object) -> Entry | None:
        # Within a second names tell the order, which is why they begin with a number.
        name, title = f"revision {number}/{what}", f"revision {number} {title}"
        return entry(time, "revision", name, title, revision=number, build_id=build, **more)

    started = _not_before(built_at, revision.started_at)
    yield one(started, "1-start", "starts", status="Starting", detail=runs)
    yield one(
        _not_before(built_at, revision.ready_at),
        "2-ready",
        "serves",
        status="Serving",
        detail=_instead_of(deployment, revision.ready_at, revision.number),
        duration_ns=_between(revision.started_at, revision.ready_at),
    )
    if revision.state == "Failed":
        yield one(
            revision.ended_at,
            "3-end",
            f"failed: {revision.reason}" if revision.reason else "failed",
            status="Failed",
            duration_ns=_between(revision.started_at, revision.ended_at),
        )
    else:
        yield one(
            revision.ended_at,
            "3-end",
            "ends",
            status="Replaced",
            detail=_replaced_by(deployment, revision),
            duration_ns=_between(revision.ready_at, revision.ended_at),
        )


def _not_before(cause: str, time: str) -> str:
    """Times of revisions are cut to seconds: none comes before its build's end in the same second."""
    return cause if len(time) == len("2026-11-21T14:45:00Z") and cause[:19] == time[:19] else time


def _instead_of(deployment: Deployment, time: str, number: int) -> str:
    before = [
        r.number for r in deployment.status.revisions if r.ended_at == time and r.number < number
    ]
    return f"instead of revision {max(before)}" if time and before else ""


def _replaced_by(deployment: Deployment, revision: Revision) -> str:
    after = [
        r.number
        for r in deployment.status.revisions
        if r.ready_at == revision.ended_at and r.number > revision.number
    ]
    return f"revision {min(after)} took its place" if revision.ended_at and after else "stopped"


def _told_already(event: ResourceEvent, known: set[int]) -> bool:
    named = _REVISION.search(event.message)
    return event.reason in _TOLD_BY_REVISIONS and named is not None and int(named.group(1)) in known


def _event(event: ResourceEvent) -> Entry | None:
    digest = hashlib.sha256(event.message.encode("utf-8", "replace")).hexdigest()[:8]
    return entry(
        event.time,
        "event",
        f"event/{event.time}/{event.reason}/{digest}",
        event.reason,
        detail=event.message,
        status=event.type,
        count=event.count,
    )


def _health(deployment: Deployment) -> Entry | None:
    """The last change of `Ready`."""
    ready = find(deployment.status.conditions, READY)
    if ready is None:
        return None
    well = ready.status == "True"
    return entry(
        ready.last_transition_time,
        "event",
        f"ready/{ready.last_transition_time}",
        "ready" if well else f"not ready: {ready.reason}",
        detail=ready.message,
        status="Normal" if well else "Warning",
    )


def _between(start: str, end: str) -> int | None:
    try:
        return max(0, time_ns(end, 0) - time_ns(start, 0))
    except ValueError:  # one of them is not there
        return None
