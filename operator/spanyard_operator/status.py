"""Writing a status: only when it changed, and only onto the version that it was made from."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from spanyard_core.kube import Kube, KubeError, Object
from spanyard_core.resources.kinds import (
    Build,
    BuildStatus,
    Deployment,
    DeploymentStatus,
    Project,
    ProjectStatus,
)
from spanyard_core.resources.schema import encode
from spanyard_operator.cache import OWN, Cache

R = TypeVar("R", Project, Build, Deployment)
AnyStatus = ProjectStatus | BuildStatus | DeploymentStatus


async def write_status(kube: Kube, cache: Cache, resource: R, status: AnyStatus) -> bool:
    """Set `.status`; False when nothing changed or the object is gone.

    The change carries the version of `resource`: whoever decided on an old picture, or believes to
    be the leader still, gets `KubeError.conflict` and decides again. The answer goes to the cache.
    """
    old = encode(resource)["status"]
    new = encode(_with(resource, status))["status"]
    if old == new:
        return False
    metadata = resource.metadata
    patch: Object = {
        "metadata": {"resourceVersion": metadata.resource_version, "uid": metadata.uid},
        "status": merge_patch(old, new),
    }
    api = OWN[resource.kind]
    try:
        answer = await kube.merge(
            api, metadata.name, patch, metadata.namespace, subresource="status"
        )
    except KubeError as error:
        if error.conflict:  # a watch may be slow, or broken: the next look is at what there is
            found = await kube.get(api, metadata.name, metadata.namespace)
            if found is not None:
                cache.put(api, found)
        raise
    if answer is None:
        return False
    cache.put(api, answer, answer=True)
    return True


def _with(resource: R, status: AnyStatus) -> R:
    made: R = msgspec.structs.replace(resource, status=status)
    return made


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The RFC 7386 patch from `old` to `new`: what changed, None for what is gone."""
    patch: Object = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif name not in old or before != value:
            patch[name] = value
    return patch
