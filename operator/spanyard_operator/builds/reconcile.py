"""A build, looked at: what its pod says becomes its status, and what its spec says its pod's end."""

import logging
from dataclasses import replace
from typing import Any

import msgspec

from spanyard_core.build_log import read_tail
from spanyard_core.errors import StorageError
from spanyard_core.kube import Object
from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import Because, find
from spanyard_core.resources.durations import seconds_or
from spanyard_core.resources.kinds import (
    FINISHED,
    Build,
    BuildStatus,
    Condition,
    Failure,
    resource_id,
)
from spanyard_core.resources.metadata import MAX_NAME
from spanyard_core.resources.reasons import REASONS, clipped, explain
from spanyard_operator.builds.afterwards import look_after
from spanyard_operator.builds.pods import end_pod, events_of, pod_of, seconds_since
from spanyard_operator.builds.removal import remove_build
from spanyard_operator.builds.start import ENDING, SOON_S, Attempts, queued_status, reject, without
from spanyard_operator.classify import Verdict, classify
from spanyard_operator.context import Context
from spanyard_operator.pod.build_pod import CONTAINERS, GRACE_S
from spanyard_operator.projects import waiting_projects
from spanyard_operator.status import write_status
from spanyard_operator.workqueue import Again, Key

log = logging.getLogger("spanyard.operator")

MOST_ATTEMPTS = 5
"""Of one run, all but the first after a pod that was lost: five nodes in a row have not all failed
by chance."""
DRAIN_S = 30.0
"""Beyond its grace period a pod is waited for so long before its failure is told; nodes are slow."""
CUT_OFF_S = 30.0
"""After the end of a deleted pod's grace period: a kubelet that lives has ended it by then."""
LONG_S = 600.0
"""Between two looks at a build that runs, whatever happens."""
LOOK_S = 15.0
"""Between two looks at a pod that has not begun: Events come without the pod changing."""


async def reconcile_build(
    context: Context, attempts: Attempts, namespace: str, name: str
) -> Again | None:
    """One look at one build. Raises KubeError, KubeUnavailableError, StorageError: it comes again."""
    build = context.cache.build(namespace, name)
    if build is None:
        return None
    if build.metadata.deletion_timestamp:
        return await remove_build(context, build)
    if life.wants_retry(build) or (build.status.phase == "Queued" and not build.status.queued_at):
        if await _rejected(context, build):
            return None
        status = queued_status(build, now=context.now())
        await write_status(context.kube, context.cache, build, status)
        return Again(0.0)
    if build.status.phase in FINISHED:
        return await look_after(context, build)
    if build.status.phase == "Queued":
        return await _queued(context, attempts, build)
    return await _building(context, attempts, build)


# --- before it begins ------------------------------------------------------------------------


async def _rejected(context: Context, build: Build) -> bool:
    namespace, source = build.metadata.namespace, build.spec.source
    if len(namespace) > MAX_NAME:
        detail = f"the namespace has {len(namespace)} characters, at most {MAX_NAME} are possible"
        await reject(context, build, "InvalidSpec", where="metadata.namespace", detail=detail)
        return True
    where = ""
    if source.directory is not None:
        where = "spec.source.directory"
    elif source.artifact is not None and source.artifact.path:
        where = "spec.source.artifact.path"
    if where:
        detail = "a pod does not see the folders of your machine"
        await reject(context, build, "NotOnThisPlatform", where=where, detail=detail)
    return bool(where)


async def _queued(context: Context, attempts: Attempts, build: Build) -> Again | None:
    """Its project says when it begins; here is what does not wait for that."""
    metadata = build.metadata
    if await pod_of(context, build, build.status.attempt + 1) is not None:
        return await attempts.start(build)  # an operator ended between the pod and the word
    if build.spec.cancel:
        failure = explain("Cancelled")
        status = life.failed(
            build,
            build.status,
            failure,
            now=context.now(),
            log_complete=build.status.attempt == 0,
        )
        if await write_status(context.kube, context.cache, build, status):
            await context.events.tell(build, "Cancelled", failure.message, once=metadata.uid)
    elif context.cache.project(metadata.namespace, build.spec.project) is None:
        told = REASONS["ProjectMissing"].told(name=build.spec.project)
        status = life.waits_for(build, Because("ProjectMissing", told), now=context.now())
        if await write_status(context.kube, context.cache, build, status):
            await context.events.tell(build, "ProjectMissing", told)
    else:
        _turn_of_project(context, build)
    return None


def _turn_of_project(context: Context, build: Build) -> None:
    context.queue.add(Key("Project", build.metadata.namespace, build.spec.project))


# --- while it runs ---------------------------------------------------------------------------


async def _building(context: Context, attempts: Attempts, build: Build) -> Again | None:
    now = context.now()
    pod = await pod_of(context, build, build.status.attempt)
    verdict = await _verdict(context, build, pod, now)
    if verdict.outcome == "succeeded":
        return await _succeeded(context, build, verdict)
    failure = _to_end(build, verdict, now)
    if failure is not None:
        return await _stop(context, build, pod, verdict, failure)
    if verdict.outcome == "lost":
        return await _lost(context, attempts, build, verdict)
    waits = verdict.failure if verdict.outcome == "waiting" else None
    status = life.observed(
        build, build.status, now=now, step=verdict.step, steps=verdict.steps, waits=waits
    )
    status = _sourced(status, verdict)
    if await write_status(context.kube, context.cache, build, status) and waits is not None:
        await context.events.tell(build, waits.reason, waits.message, once=str(status.attempt))
    looks = [_time_left(build, now), verdict.look_again or LONG_S]
    if pod is not None and pod["metadata"].get("deletionTimestamp"):
        looks.append(CUT_OFF_S)
    if not verdict.steps:
        looks.append(LOOK_S)
    return Again(max(0.5, min(looks)))


async def _verdict(context: Context, build: Build, pod: Object | None, now: str) -> Verdict:
    verdict = classify(build, pod, now=now)
    if pod is not None and verdict.outcome in {"running", "waiting"} and _is_left(pod, now):
        detail = "it was to be removed, and its node does not say that it has ended"
        lost = explain("NodeLost", pod=pod["metadata"]["name"], detail=detail, step=verdict.step)
        return replace(verdict, outcome="lost", failure=lost)
    starting = verdict.outcome == "running" and not verdict.steps
    if pod is not None and starting and seconds_since(build.status.started_at, now) > LOOK_S / 2:
        return classify(build, pod, await events_of(context, pod), now=now)
    return verdict


def _is_left(pod: Object, now: str) -> bool:
    """Its grace period was over long ago: the node is cut off, and nobody knows for how long."""
    over = pod["metadata"].get("deletionTimestamp")
    return bool(over) and seconds_since(over, now) > CUT_OFF_S


def _time_left(build: Build, now: str) -> float:
    limit = seconds_or(build.spec.timeout, None) or LONG_S
    return limit - seconds_since(build.status.started_at, now)


def _to_end(build: Build, verdict: Verdict, now: str) -> Failure | None:
    """Why it is to end, or has ended, without an artifact; None when it goes on.

    What was decided first stays: an attempt that was ended for its time ends by a signal.
    """
    decided = find(build.status.conditions, ENDING)
    if decided is not None:
        failure = explain(decided.reason, step=verdict.step, limit=build.spec.timeout)
        failure.message = decided.message
        return failure
    if build.spec.cancel:
        return explain("Cancelled", step=verdict.step)
    if verdict.outcome == "failed":
        return verdict.failure
    if _time_left(build, now) <= 0:
        failure = explain("Timeout", step=verdict.step or "fetch", limit=build.spec.timeout)
        if verdict.outcome == "waiting" and verdict.failure is not None:
            failure.message += f"; it waited: {verdict.failure.message}"
        return failure
    return None


def _sourced(status: BuildStatus, verdict: Verdict) -> BuildStatus:
    if verdict.source.commit or verdict.source.digest:
        return life.fetched(status, verdict.source)
    return status


# --- its end ---------------------------------------------------------------------------------


async def _succeeded(context: Context, build: Build, verdict: Verdict) -> Again | None:
    now = context.now()
    status = life.observed(build, build.status, now=now, step="", steps=verdict.steps)
    status = _sourced(status, verdict)
    status = life.succeeded(build, status, verdict.artifact, now=now, log_complete=False)
    await _over(context, build, status, f"{status.message} after {status.duration}")
    return Again(SOON_S)  # its log


async def _stop(
    context: Context, build: Build, pod: Object | None, verdict: Verdict, failure: Failure
) -> Again | None:
    """End what runs, let the collector store the rest, then tell: with the last lines.

    Why it ends is written before anything is ended, so whoever comes after a killed operator does
    not take the end for the build's own.
    """
    now = context.now()
    if pod is not None and not verdict.ended:
        since = _ending_since(build, verdict)
        if not since:
            await _note_ending(context, build, verdict, failure, now)
            return Again(SOON_S / 10)
        if find(build.status.conditions, ENDING) is not None and not _is_ending(pod):
            await end_pod(context, pod)
        patience = GRACE_S + context.settings.termination_reserve + DRAIN_S
        if seconds_since(since, now) < patience:
            return Again(2.0)
    failure = await _with_lines(context, build, pod, verdict, failure, now)
    status = life.observed(build, build.status, now=now, step=verdict.step, steps=verdict.steps)
    status = _sourced(status, verdict)
    status = life.failed(build, status, failure, now=now, log_complete=False)
    await _over(context, build, status, failure.message)
    return Again(SOON_S)


def _ending_since(build: Build, verdict: Verdict) -> str:
    decided = find(build.status.conditions, ENDING)
    if decided is not None:
        return decided.last_transition_time
    # A step that failed ends the pod by itself.
    if verdict.outcome == "failed" and verdict.steps:
        return verdict.steps[-1].finished_at
    return ""


async def _note_ending(
    context: Context, build: Build, verdict: Verdict, failure: Failure, now: str
) -> None:
    status = life.observed(build, build.status, now=now, step=verdict.step, steps=verdict.steps)
    noted = Condition(
        type=ENDING,
        status="True",
        reason=failure.reason,
        message=failure.message,
        observed_generation=build.metadata.generation,
        last_transition_time=now,
    )
    status.conditions = [*without(status.conditions, ENDING), noted]
    await write_status(context.kube, context.cache, build, status)


def _is_ending(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return True
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


async def _lost(
    context: Context, attempts: Attempts, build: Build, verdict: Verdict
) -> Again | None:
    """Ended by no doing of its own: once more, unless that goes on and on."""
    assert verdict.failure is not None
    failure = life.too_many_attempts(build, limit=MOST_ATTEMPTS)
    if failure is not None:
        failure = explain(
            "TooManyAttempts", attempt=build.status.attempt, detail=verdict.failure.message
        )
        return await _stop(context, build, None, verdict, failure)
    await context.events.tell(
        build, verdict.failure.reason, verdict.failure.message, once=str(build.status.attempt)
    )
    return await attempts.start(build)


async def _over(context: Context, build: Build, status: BuildStatus, told: str) -> None:
    status.conditions = without(status.conditions, ENDING)
    if await write_status(context.kube, context.cache, build, status):
        await context.events.tell(build, status.reason, told, once=str(status.attempt))
    for project in waiting_projects(context.cache):  # there is room again
        context.queue.add(project)


async def _with_lines(
    context: Context,
    build: Build,
    pod: Object | None,
    verdict: Verdict,
    failure: Failure,
    now: str,
) -> Failure:
    """With the last lines of the step. Storage that is away costs them, nothing else."""
    step: Any = verdict.step
    if failure.last_lines or step not in CONTAINERS:
        return failure
    try:
        uid = pod["metadata"]["uid"] if pod is not None else ""
        lines = await read_tail(context.storage, resource_id(build), CONTAINERS[step], pod=uid)
    except StorageError as error:
        log.warning("the last lines of %s are not told: %s", resource_id(build), error)
        return failure
    if verdict.outcome == "failed" and failure == verdict.failure:
        return classify(build, pod, now=now, lines=lines).failure or failure
    return msgspec.structs.replace(failure, last_lines=clipped(lines))
