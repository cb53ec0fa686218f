"""After a build's end: its log becomes one object, and its pods go after a while."""

import logging

import msgspec

from spanyard_core.build_log import finish_build_log
from spanyard_core.kube import Object
from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import find
from spanyard_core.resources.kinds import Build, Condition, resource_id
from spanyard_core.resources.reasons import REASONS
from spanyard_operator.builds.pods import end_pod, pod_of, pods_of, remove_pod, seconds_since
from spanyard_operator.builds.start import LOG
from spanyard_operator.classify import classify
from spanyard_operator.context import Context
from spanyard_operator.status import write_status
from spanyard_operator.workqueue import Again

log = logging.getLogger("spanyard.operator")

SOON_S = 2.0
LONGEST_S = 900.0
"""From a build's end until its collector is given up: a bucket may be away for a while, but a pod
that never ends must not keep a log open for ever."""


async def look_after(context: Context, build: Build) -> Again | None:
    """What is left to do for a build that has ended."""
    if build.status.observed_generation != build.metadata.generation:
        await write_status(context.kube, context.cache, build, life.seen_again(build))
        return Again(0.0)
    again = await _finish_log(context, build)
    if again is not None:
        return again
    pods = pods_of(context, build)
    if not pods:
        return None
    left = context.settings.keep_pods - seconds_since(build.status.finished_at, context.now())
    if left > 0:
        return Again(left)
    for pod in pods:
        await remove_pod(context, pod)
    return None


async def _finish_log(context: Context, build: Build) -> Again | None:
    status = build.status
    if status.log_complete or not status.attempt or find(status.conditions, LOG) is not None:
        return None
    pod = await pod_of(context, build, status.attempt)
    passed = seconds_since(status.finished_at, context.now())
    if pod is not None and not _ended(build, pod, context.now()) and passed < LONGEST_S:
        if passed > context.settings.termination_reserve + SOON_S * 5:
            await end_pod(context, pod)  # it should have ended by itself
        return Again(SOON_S)
    tail = _open_tail(build, pod, context.now())
    done = await finish_build_log(context.storage, resource_id(build), open_tail=tail)
    if done.damaged:
        tail = f"{len(done.damaged)} parts of it cannot be read"
        log.error("parts of the log of %s cannot be read: %s", resource_id(build), done.damaged)
    await _write(context, build, tail)
    return Again(SOON_S / 20)


def _ended(build: Build, pod: Object, now: str) -> bool:
    return classify(build, pod, now=now).ended


def _open_tail(build: Build, pod: Object | None, now: str) -> str:
    """What is not known about the end of the log; empty when it is whole."""
    if pod is None:
        return "the pod is gone and its collector did not say that all is stored: the end may miss"
    verdict = classify(build, pod, now=now)
    if verdict.unsent:
        return f"the collector could not send all: {verdict.unsent[:300]}"
    if not verdict.ended:
        return "the collector did not end: what it held then is not in here"
    return ""


async def _write(context: Context, build: Build, tail: str) -> None:
    """Say that the log is there; with an open tail say that, once and for all."""
    now = context.now()
    if not tail:
        status = msgspec.structs.replace(build.status, log_complete=True)
        await write_status(context.kube, context.cache, build, status)
        return
    told = REASONS["LogIncomplete"].told(detail=tail)
    noted = Condition(
        type=LOG,
        status="False",
        reason="LogIncomplete",
        message=told,
        observed_generation=build.metadata.generation,
        last_transition_time=now,
    )
    status = msgspec.structs.replace(build.status, conditions=[*build.status.conditions, noted])
    if await write_status(context.kube, context.cache, build, status):
        await context.events.tell(build, "LogIncomplete", told, once=str(status.attempt))
