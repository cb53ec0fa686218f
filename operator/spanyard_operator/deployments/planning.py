"""What one look at a Deployment finds before anything is changed: what is wanted, and what is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    CONFIG_MAPS,
    FIELD_MANAGER,
    NAMESPACES,
    SECRETS,
    KubeError,
    Object,
)
from spanyard_core.resources.kinds import Deployment
from spanyard_core.resources.metadata import MAX_NAME
from spanyard_operator.context import Context
from spanyard_operator.deployments.environment import Keys, referenced
from spanyard_operator.deployments.wishes import Wanted, wanted
from spanyard_operator.names import owned_by, server_name
from spanyard_operator.outcomes import stalled, waiting
from spanyard_operator.pod.capture import CaptureChoice, choose_capture

_APIS = {"Secret": SECRETS, "ConfigMap": CONFIG_MAPS}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """See the module."""

    deployment: Deployment
    wanted: Wanted
    apps: Object | None
    """The child, if there is one and it is ours."""
    replicas: int
    """How many there should be."""
    foreign: bool
    """Somebody else says how many."""
    capture: CaptureChoice


async def plan(context: Context, deployment: Deployment) -> Plan:
    """Raises WaitingError, StalledError, KubeError, KubeUnavailableError."""
    about, spec = deployment.metadata, deployment.spec
    if len(about.namespace) > MAX_NAME:
        detail = f"the namespace has {len(about.namespace)} characters, {MAX_NAME} are possible"
        raise stalled("InvalidSpec", where="metadata.namespace", detail=detail)
    apps = own_child(context, deployment)
    if apps is None and context.cache.project(about.namespace, spec.project) is None:
        raise waiting("ProjectMissing", name=spec.project)
    replicas = 0 if spec.suspend else spec.replicas
    foreign = apps is not None and not spec.suspend and scaled_by_others(apps)
    if foreign and apps is not None:
        replicas = int(apps["spec"].get("replicas") or 0)
    builds = context.cache.builds(about.namespace, spec.project)
    if spec.build_ref is not None:  # one of another project is told as such, not as missing
        named = context.cache.build(about.namespace, spec.build_ref.name)
        if named is not None and named.spec.project != spec.project:
            builds.append(named)
    keys = await _keys(context, deployment)
    capture = await _capture(context, deployment)
    return Plan(
        deployment=deployment,
        wanted=wanted(deployment, builds, keys, replicas=replicas, salt=context.salt),
        apps=apps,
        replicas=replicas,
        foreign=foreign,
        capture=capture,
    )


def own_child(context: Context, deployment: Deployment) -> Object | None:
    """The apps Deployment, as last seen."""
    about = deployment.metadata
    found = context.cache.get(APPS_DEPLOYMENTS, server_name(about.name), about.namespace)
    return found if found is not None and owned_by(found, about.uid) else None


def scaled_by_others(apps: Mapping[str, Any]) -> bool:
    """Whether an autoscaler, or a person, has set the replicas of the child itself.

    Then they are left alone. `spec.suspend` takes them back: an autoscaler rests at 0.
    """
    return any(
        entry.get("manager") != FIELD_MANAGER
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in apps["metadata"].get("managedFields") or ()
    )


async def _keys(context: Context, deployment: Deployment) -> Keys:
    """Read anew each time and kept nowhere: they are secrets."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for kind, name in referenced(deployment.spec.env):
        one = await context.kube.get(_APIS[kind], name, deployment.metadata.namespace)
        if one is not None:
            found[kind, name] = one.get("data") or {}
    return found


async def _capture(context: Context, deployment: Deployment) -> CaptureChoice:
    default, name = context.settings.capture, deployment.metadata.namespace
    # Of single namespaces there is no watch: what the cache has of them may be minutes old.
    namespace = None if context.settings.namespaces else context.cache.get(NAMESPACES, name)
    try:
        namespace = namespace or await context.kube.get(NAMESPACES, name)
    except KubeError as error:
        if error.status != 403:
            raise
        # An operator of some namespaces may not see them, and `auto` guesses. But for a moment after
        # its start an API server says so to everybody: what was known before holds then, or the pods
        # of a namespace that forbids hostPath would be replaced by such as it refuses.
        if default == "auto":
            default = deployment.status.collector.mode
    return choose_capture(namespace, deployment.spec.collector.capture, default)
