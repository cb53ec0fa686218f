"""An attempt of a build begins: what it needs is made, then its pod, then the status says so."""

import msgspec

from spanyard_core.build_log import begin_build_log
from spanyard_core.errors import StorageError
from spanyard_core.kube import BUILDS, NAMESPACES, KubeError
from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import Because, find
from spanyard_core.resources.durations import seconds_or
from spanyard_core.resources.kinds import (
    Build,
    BuildStatus,
    CollectorStatus,
    Condition,
    resource_id,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.schema import decode
from spanyard_operator import waits
from spanyard_operator.accounts import Accounts
from spanyard_operator.builds.pods import ensure_cache, make_pod, pod_of, seconds_since
from spanyard_operator.context import Context
from spanyard_operator.names import COLLECTOR, FINALIZER
from spanyard_operator.pod.build_pod import build_pod
from spanyard_operator.pod.capture import GUARANTEES, choose_capture
from spanyard_operator.status import write_status
from spanyard_operator.workqueue import Again

REFUSED, ENDING, LOG = "PodAccepted", "Ending", "LogComplete"
"""Conditions beside the three of kstatus: since when a pod is refused; that an attempt is being ended,
and why; that the log stays open. They are there only while there is something to say."""
TRANSIENT = (REFUSED, ENDING, LOG)
AGAIN_S = 5.0
"""Before a pod that was refused, or a bucket that did not answer, is tried again."""
SOON_S = 1.0


class Attempts:
    """Begins attempts; one per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._accounts = Accounts(context)

    async def start(self, seen: Build) -> Again | None:
        """Begin the next attempt of a build that is queued, or whose pod was lost. Repeatable."""
        context = self._context
        build = await _as_it_is_now(context, seen)
        if build is None:
            return Again(SOON_S)  # it changed under our eyes: decide again
        attempt = build.status.attempt + 1
        pod = await pod_of(context, build, attempt)
        if pod is None:
            try:
                again = await self._make(build, attempt)
            except StorageError as error:
                await _tell(context, build, f"waits for storage, which does not answer: {error}")
                return Again(AGAIN_S)
            if again is not None:
                return again
            pod = await pod_of(context, build, attempt)
            if pod is None:
                return Again(SOON_S)
        mode = (pod["metadata"].get("annotations") or {}).get(COLLECTOR, "")
        collector = CollectorStatus(mode=mode, guarantee=GUARANTEES.get(mode, ""))
        status = life.begun(build, now=context.now(), collector=collector)
        status.conditions = without(status.conditions, *TRANSIENT)
        if await write_status(context.kube, context.cache, build, status):
            told = f"attempt {attempt} runs in pod {pod['metadata']['name']}"
            await context.events.tell(build, "Building", told)
        return Again(SOON_S)

    async def _make(self, build: Build, attempt: int) -> Again | None:
        context, metadata = self._context, build.metadata
        # A lost attempt's parts belong to the log; the log of a run that has ended does not.
        if build.status.phase == "Queued":
            await begin_build_log(context.storage, resource_id(build), first=attempt == 1)
        # Of single namespaces there is no watch: what the cache has of them may be minutes old.
        watched = not context.settings.namespaces
        namespace = context.cache.get(NAMESPACES, metadata.namespace) if watched else None
        if namespace is None:
            namespace = await context.kube.get(NAMESPACES, metadata.namespace)
        chosen = choose_capture(namespace, default=context.settings.capture)
        pod = build_pod(build, attempt, context.settings, chosen.mode, live_key=context.live_key)
        name = pod["metadata"]["name"]
        try:
            await self._accounts.ensure(
                metadata.namespace, build.spec.service_account_name, api=chosen.mode == "api"
            )
            await ensure_cache(context, build)
            made = await make_pod(context, pod)
        except KubeError as error:
            return await _refused(context, build, name, error)
        if made is None:
            # Of a build that had this name and is being removed, or somebody else's.
            await _tell(context, build, f"waits for the pod {name}, which is not its own, to go")
            return Again(AGAIN_S)
        return None


async def _as_it_is_now(context: Context, seen: Build) -> Build | None:
    """The build, if it is still what was decided about: a watch may be behind."""
    metadata = seen.metadata
    found = await context.kube.get(BUILDS, metadata.name, metadata.namespace)
    if found is None:
        about = {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid}
        context.cache.drop(BUILDS, {"metadata": about})
        return None
    if found["metadata"].get("deletionTimestamp"):
        context.cache.put(BUILDS, found)
        return None
    if found["metadata"]["resourceVersion"] != metadata.resource_version:
        context.cache.put(BUILDS, found)
        return None
    if FINALIZER not in metadata.finalizers:
        # From now on something is stored that has to be removed with it.
        patch = {
            "metadata": {
                "resourceVersion": metadata.resource_version,
                "finalizers": [*metadata.finalizers, FINALIZER],
            }
        }
        found = await context.kube.merge(BUILDS, metadata.name, patch, metadata.namespace)
        if found is None:
            return None
        context.cache.put(BUILDS, found, answer=True)
    # Not what the cache has by now: that may be a build which somebody else has just started, and
    # its next attempt would be one too many. What is decided here is about this version alone.
    now = decode(found)
    return now if isinstance(now, Build) else None


async def _refused(context: Context, build: Build, pod: str, error: KubeError) -> Again | None:
    """The API server does not take the pod; for how long that is waited for is in `waits`."""
    now = context.now()
    told = waits.refused(error, pod)
    before = find(build.status.conditions, REFUSED)
    since = before.last_transition_time if before is not None else now
    longest = min(told.patience, seconds_or(build.spec.timeout, None) or waits.FOR_EVER)
    if seconds_since(since, now) >= longest:
        status = life.failed(
            build, build.status, told.failure, now=now, log_complete=build.status.attempt == 0
        )
        status.conditions = without(status.conditions, REFUSED)
        if await write_status(context.kube, context.cache, build, status):
            await context.events.tell(build, told.failure.reason, told.failure.message, once=since)
        return None
    because = Because(told.failure.reason, told.failure.message)
    status = life.waits_for(build, because, now=now)
    refused = Condition(
        type=REFUSED,
        status="False",
        reason=because.reason,
        message=because.message,
        observed_generation=build.metadata.generation,
        last_transition_time=since,
    )
    status.conditions = [*without(status.conditions, REFUSED), refused]
    if await write_status(context.kube, context.cache, build, status):
        await context.events.tell(build, because.reason, because.message, once=since)
    return Again(min(AGAIN_S, max(longest - seconds_since(since, now), SOON_S)))


async def _tell(context: Context, build: Build, message: str) -> None:
    status = life.waits_for(build, Because("Queued", message), now=context.now())
    await write_status(context.kube, context.cache, build, status)


async def reject(context: Context, build: Build, reason: str, *, where: str, detail: str) -> None:
    """It can never run as it is: told at once, nothing is made."""
    failure = explain(reason, where=where, detail=detail)
    status = life.failed(build, build.status, failure, now=context.now(), log_complete=True)
    if await write_status(context.kube, context.cache, build, status):
        await context.events.tell(build, failure.reason, failure.message)


def without(conditions: list[Condition], *types: str) -> list[Condition]:
    """The conditions of other types."""
    return [one for one in conditions if one.type not in types]


def queued_status(build: Build, *, now: str, waits_for: str = "") -> BuildStatus:
    """See `life.queued`; what was said of the run before goes."""
    status = life.queued(build, now=now, waits_for=waits_for)
    if life.wants_retry(build):
        kept = without(status.conditions, *TRANSIENT)
        status = msgspec.structs.replace(status, conditions=kept)
    return status
