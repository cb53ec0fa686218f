"""The pods of a build: found, made, ended, removed."""

import logging
from datetime import datetime

from spanyard_core.kube import EVENTS, PODS, VOLUME_CLAIMS, KubeError, Object
from spanyard_core.resources.kinds import Build
from spanyard_operator.context import Context
from spanyard_operator.names import build_pod_name, owned_by
from spanyard_operator.pod.build_pod import cache_claim

log = logging.getLogger("spanyard.operator")

END_S = 1
"""`activeDeadlineSeconds` of a pod that is to end: it was over long ago."""


def pods_of(context: Context, build: Build) -> list[Object]:
    """All that are seen of a build, of any attempt."""
    return [pod for pod in context.cache.children(PODS, build) if owned_by(pod, build.metadata.uid)]


async def pod_of(context: Context, build: Build, attempt: int) -> Object | None:
    """The pod of an attempt; asked of the API server before it is said that there is none."""
    name, namespace = build_pod_name(build.metadata.name, attempt), build.metadata.namespace
    seen = context.cache.get(PODS, name, namespace)
    if seen is None:
        found = await context.kube.get(PODS, name, namespace)
        if found is None:
            return None
        context.cache.put(PODS, found)
        seen = context.cache.get(PODS, name, namespace)
    return seen if seen is not None and owned_by(seen, build.metadata.uid) else None


async def make_pod(context: Context, pod: Object) -> Object | None:
    """Make the pod of an attempt; None when one of that name is there that is not this build's.

    Raises KubeError when it is refused.
    """
    about = pod["metadata"]
    try:
        made = await context.kube.create(PODS, pod, about["namespace"])
    except KubeError as error:
        if not error.exists_already:
            raise
        found = await context.kube.get(PODS, about["name"], about["namespace"])
        uid = about["ownerReferences"][0]["uid"]
        if found is None or not owned_by(found, uid):
            return None
        made = found
    context.cache.put(PODS, made, answer=True)
    return made


async def ensure_cache(context: Context, build: Build) -> None:
    """The volume claim that the project's builds share. Raises KubeError."""
    claim = cache_claim(build)
    if claim is None:
        return
    try:
        await context.kube.create(VOLUME_CLAIMS, claim, build.metadata.namespace)
    except KubeError as error:
        if not error.exists_already:
            raise


async def end_pod(context: Context, pod: Object) -> None:
    """Have the kubelet end it, with its grace period: the collector drains, and pod and exit codes
    stay to be seen. One that no kubelet has begun with is removed. Repeatable."""
    about = pod["metadata"]
    if about.get("deletionTimestamp"):
        return
    if (pod.get("status") or {}).get("startTime"):
        patch = {"metadata": {"uid": about["uid"]}, "spec": {"activeDeadlineSeconds": END_S}}
        await context.kube.merge(PODS, about["name"], patch, about["namespace"])
    else:
        await remove_pod(context, pod)


async def remove_pod(context: Context, pod: Object) -> None:
    """Remove it, with its grace period. Repeatable."""
    about = pod["metadata"]
    if not about.get("deletionTimestamp"):
        await context.kube.delete(PODS, about["name"], about["namespace"], uid=about["uid"])


async def events_of(context: Context, pod: Object) -> list[Object]:
    """The Events about a pod: some troubles are told nowhere else. None without the right to them."""
    about = pod["metadata"]
    try:
        return await context.kube.list(
            EVENTS, about["namespace"], fields=f"involvedObject.uid={about['uid']}"
        )
    except KubeError as error:
        log.warning("why %s does not start cannot be asked: %s", about["name"], error)
        return []


def seconds_since(time: str, now: str) -> float:
    """Between two times of RFC 3339; 0 for what is none."""
    try:
        return (datetime.fromisoformat(now) - datetime.fromisoformat(time)).total_seconds()
    except ValueError:
        return 0.0
