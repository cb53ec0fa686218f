"""Events about a resource and its pods, as answers tell them: bounded, oldest first."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from spanyard_core.kube import EVENTS, PODS, Kube, Object
from spanyard_core.resources.api import ResourceEvent
from spanyard_core.resources.kinds import GROUP, Build, Resource

MAX_EVENTS = 100
MAX_PODS = 8
"""The newest: a Deployment that crashes has many."""


async def events_of(kube: Kube, resource: Resource) -> list[ResourceEvent]:
    """The newest of them, oldest first. Raises KubeError, KubeUnavailableError."""
    place = resource.metadata.namespace
    pods = await _pods(kube, resource)
    asked = [_about(resource.kind, resource.metadata.name, resource.metadata.uid)]
    asked += [_about("Pod", name, uid) for name, uid in pods.items()]
    answers = await asyncio.gather(*(kube.list(EVENTS, place, fields=each) for each in asked))
    found = [read_event(event) for event in answers[0]]
    for name, events in zip(pods, answers[1:], strict=True):
        found += [read_event(event, f"pod {name}: ") for event in events]
    found.sort(key=lambda event: event.time)
    return found[-MAX_EVENTS:]


async def _pods(kube: Kube, resource: Resource) -> dict[str, str]:
    """Names and uids of the pods whose events belong here; of one that is gone no uid is known."""
    if resource.kind == "Project":
        return {}
    name = resource.metadata.name
    label = f"{GROUP}/{resource.kind.lower()}={name}"
    pods = await kube.list(PODS, resource.metadata.namespace, labels=label)
    pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    found = {str(p["metadata"]["name"]): str(p["metadata"]["uid"]) for p in pods[-MAX_PODS:]}
    if isinstance(resource, Build):  # events outlive the pod, whose name is known
        last = resource.status.attempt
        for attempt in range(max(1, last - MAX_PODS + 1), last + 1):
            found.setdefault(f"{name}-build-{attempt}", "")
    return found


def _about(kind: str, name: str, uid: str) -> str:
    wanted = {"kind": kind, "name": name, "uid": uid}
    return ",".join(f"involvedObject.{key}={value}" for key, value in wanted.items() if value)


def read_event(event: Object, start: str = "") -> ResourceEvent:
    """A core/v1 Event; `start` stands before its message."""
    series = event.get("series") or {}
    times: Iterable[Any] = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        _created(event),
    )
    return ResourceEvent(
        time=_seconds(str(next((time for time in times if time), ""))),
        type="Warning" if event.get("type") == "Warning" else "Normal",
        reason=str(event.get("reason", "")),
        message=start + str(event.get("message", "")),
        count=int(series.get("count") or event.get("count") or 1),
    )


def _created(event: Mapping[str, Any]) -> str:
    return str((event.get("metadata") or {}).get("creationTimestamp", ""))


def _seconds(time: str) -> str:
    """Without the fraction that some have: so that they sort as texts."""
    return time[:19] + "Z" if len(time) >= 20 else time
