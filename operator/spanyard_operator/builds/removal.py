"""A deleted build goes: its pods, its objects in the bucket, then the object itself.

A bucket that is away keeps it for `cleanup_limit` and no longer: a namespace must not hang because a
bucket is gone.
"""

import asyncio
import logging

from spanyard_core.build_objects import remove_build_objects
from spanyard_core.errors import StorageError
from spanyard_core.kube import BUILDS, PODS
from spanyard_core.resources.kinds import Build, resource_id
from spanyard_core.resources.reasons import REASONS
from spanyard_operator.builds.pods import pods_of, remove_pod, seconds_since
from spanyard_operator.context import Context
from spanyard_operator.names import FINALIZER, SKIP_CLEANUP
from spanyard_operator.projects import waiting_projects
from spanyard_operator.workqueue import Again

log = logging.getLogger("spanyard.operator")

LOOK_S = 1.0
LEAST_S = 5.0
"""One try at the bucket gets so long, also when the limit was over before anybody looked."""


async def remove_build(context: Context, build: Build) -> Again | None:
    """One look at a build that is being deleted."""
    metadata = build.metadata
    if FINALIZER not in metadata.finalizers:
        return None  # it goes, or somebody else keeps it
    if metadata.annotations.get(SKIP_CLEANUP) == "true":
        await _release(context, build)
        return None
    left = context.settings.cleanup_limit - seconds_since(
        metadata.deletion_timestamp or "", context.now()
    )
    pods = pods_of(context, build)
    if pods and left > 0:
        # What they still store would be left behind.
        for pod in pods:
            await remove_pod(context, pod)
            if await context.kube.get(PODS, pod["metadata"]["name"], metadata.namespace) is None:
                context.cache.drop(PODS, pod)
        return Again(min(LOOK_S, left))
    try:
        async with asyncio.timeout(max(left, LEAST_S)):
            await remove_build_objects(context.storage, resource_id(build))
    except (StorageError, TimeoutError) as error:
        if left > 0:
            log.warning("what %s stored is not removed yet: %s", resource_id(build), error)
            return Again(min(LOOK_S * 5, left))
        detail = str(error) or f"storage did not answer within {LEAST_S:g} s"
        log.error("what %s stored stays: %s", resource_id(build), detail)
        told = REASONS["CleanupFailed"].told(detail=detail)
        await context.events.tell(build, "CleanupFailed", told)
    await _release(context, build)
    return None


async def _release(context: Context, build: Build) -> None:
    metadata = build.metadata
    patch = {
        "metadata": {
            "resourceVersion": metadata.resource_version,
            "finalizers": [name for name in metadata.finalizers if name != FINALIZER],
        }
    }
    answer = await context.kube.merge(BUILDS, metadata.name, patch, metadata.namespace)
    if answer is not None:
        context.cache.put(BUILDS, answer, answer=True)
    for project in waiting_projects(context.cache):  # its place is free
        context.queue.add(project)
