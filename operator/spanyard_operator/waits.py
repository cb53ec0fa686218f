"""What keeps a pod's container from starting, for how long that may go on, and what the API server's
refusal of a pod means; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_core.kube import KubeError
from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import explain
from spanyard_operator.pod.collector import CONTAINER as COLLECTOR

Object = Mapping[str, Any]
FOR_EVER = float("inf")
"""Until the build's own time is up: nodes may be added, quotas freed."""
_PATIENCE = {"ImagePullFailed": 180.0, "SecretMissing": 60.0, "PodRefused": 30.0,
             "InternalError": 180.0, "CommandNotFound": 0.0, "InvalidSpec": 0.0}  # fmt: skip
"""Seconds. Registries stumble, and a Secret may be applied a moment after the build."""

_PULL = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable", "SignatureValidationFailed",
})  # fmt: skip
_BACK_OFF = re.compile(r"^Back-off pulling image \S+: ErrImagePull: ")
_KEY = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) \S*?/?(?P<name>[^/\s]+)$"
)
_OBJECT = re.compile(r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found", re.IGNORECASE)


@dataclass(frozen=True)
class Wait:
    """What is waited for, as a failure that has not happened yet."""

    failure: Failure
    patience: float
    """Seconds until it is one; FOR_EVER."""


def waits_for(
    pod: Object,
    step: str,
    container: str,
    statuses: Mapping[str, Object],
    events: Sequence[Object] = (),
) -> Wait | None:
    """Why `container` has not started; None when it may any moment."""
    where: Any = {"step": step, "pod": pod["metadata"]["name"], "container": container}
    unscheduled = _unscheduled(pod)
    if unscheduled:
        return Wait(explain("Unschedulable", detail=unscheduled, **where), FOR_EVER)
    for name in (COLLECTOR, container):
        told = _of_container(pod, statuses.get(name, {}), {**where, "container": name})
        if told is not None:
            return told
    missing = _missing_volume(events)
    if missing is not None:
        return _as("SecretMissing", {**where, **missing})
    return None


def _unscheduled(pod: Object) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")[:500]
    return ""


def _of_container(pod: Object, status: Object, where: Any) -> Wait | None:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "")[:500]
    image = _image(pod, where["container"])
    if reason in _PULL:
        # The kubelet goes to and fro between the two reasons; what it says stays one text.
        message = _BACK_OFF.sub("", message)
        return _as("ImagePullFailed", {**where, "where": image, "detail": message or reason})
    if reason == "InvalidImageName":
        failure = explain("ImagePullFailed", detail=message or reason, **{**where, "where": image})
        return Wait(failure, 0.0)
    if reason == "CreateContainerConfigError":
        missing = missing_object(message)
        if missing is not None:
            return _as("SecretMissing", {**where, **missing})
        return _as("PodRefused", {**where, "detail": message})
    if reason in {"CreateContainerError", "RunContainerError"}:
        return _as("PodRefused", {**where, "detail": message})
    if where["container"] == COLLECTOR and reason == "CrashLoopBackOff":
        last = (status.get("lastState") or {}).get("terminated") or {}
        said = str(last.get("message") or "").strip()[-300:]
        detail = f"the collector does not start, exit code {last.get('exitCode')}: {said}"
        return _as("InternalError", {**where, "detail": detail})
    return None


def missing_object(message: str) -> dict[str, str] | None:
    """Facts about a Secret or ConfigMap that a container's message says is not there."""
    if match := _KEY.search(message.strip()):
        return {
            "where": "spec.env",
            "name": f"{match['key']} in the {match['kind']} {match['name']}",
        }
    if match := _OBJECT.search(message):
        kind = "Secret" if match["kind"].lower() == "secret" else "ConfigMap"
        return {"where": "spec.env", "name": f"in the {kind} {match['name']}, which is not there"}
    return None


def _missing_volume(events: Sequence[Object]) -> dict[str, str] | None:
    """A Secret or ConfigMap that a volume needs: only Events tell."""
    for event in sorted(events, key=_when, reverse=True):
        if event.get("reason") != "FailedMount":
            continue
        message = str(event.get("message") or event.get("note") or "")
        match = _OBJECT.search(message)
        if match is None:
            return None
        kind = "Secret" if match["kind"].lower() == "secret" else "ConfigMap"
        git = '"spanyard-git"' in message
        return {
            "where": "spec.source.git.secretRef" if git else "a volume of the pod",
            "name": f"in the {kind} {match['name']}, which is not there",
        }
    return None


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _image(pod: Object, container: str) -> str:
    spec = pod.get("spec") or {}
    for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if one["name"] == container:
            return str(one.get("image", ""))
    return ""


def _as(reason: str, facts: Any) -> Wait:
    return Wait(explain(reason, **facts), _PATIENCE[reason])


# --- refusals ----------------------------------------------------------------------------------


def refused(error: KubeError, pod: str) -> Wait:
    """What it means that the API server did not take the pod.

    A quota may have room later, and whoever watches over Pod Security may be mending the namespace:
    that is waited for. A pod that is no pod will not become one.
    """
    told = str(error)[:500]
    if "exceeded quota" in told:
        return Wait(explain("PodRefused", pod=pod, detail=told), FOR_EVER)
    if error.status in {400, 422}:
        return Wait(explain("InvalidSpec", where=f"the pod {pod}", detail=told), 0.0)
    return Wait(explain("PodRefused", pod=pod, detail=told), _PATIENCE["PodRefused"])
