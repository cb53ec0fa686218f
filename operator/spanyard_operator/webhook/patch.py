"""What is added to a pod that asks to be observed; pure, and it only adds.

Asked twice (other webhooks may change the pod in between), it adds nothing the second time.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import check_label, check_project
from spanyard_operator import names
from spanyard_operator.pod.capture import Capture
from spanyard_operator.pod.collector import (
    CONTAINER,
    OTLP_PORT,
    PORT,
    CollectorOptions,
    PodOwner,
    collector_container,
    collector_volumes,
    spans_mount,
    telemetry_env,
)

COLLECT = "spanyard.dev/collect"
"""Annotation: `"true"` asks for the collector."""
PROJECT = "spanyard.dev/project"
"""Annotation: name of the project that the records belong to."""
SERVICE = "spanyard.dev/service"
"""Annotation: name of the service; by default the label `app.kubernetes.io/name` or `app`."""
EXCLUDE = "spanyard.dev/exclude-containers"
"""Annotation: containers that are not read, with commas between."""
CAPTURE = "spanyard.dev/capture"
"""Annotation: `hostPath` or `api`; by default what the namespace allows."""
DEFAULT_GRACE = 30

Object = dict[str, Any]
Operation = dict[str, Any]
"""Of RFC 6902."""


class NotCollectedError(Exception):
    """The pod cannot be observed; the text tells its owner why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pod's annotations say."""

    owner: PodOwner
    capture: str
    exclude: tuple[str, ...]


def asks(pod: Mapping[str, Any]) -> bool:
    """Whether the collector is to be added, and has not been."""
    wanted = _annotations(pod).get(COLLECT) == "true"
    return wanted and all(one.get("name") != CONTAINER for one in _containers(pod))


def asked(pod: Mapping[str, Any], namespace: str) -> Asked:
    """Raises NotCollectedError."""
    given = _annotations(pod)
    project = given.get(PROJECT, "")
    if not project:
        raise NotCollectedError(f"no collector: the annotation {PROJECT} names no project")
    try:
        check_project(f"{namespace}.{project}")
    except BadRecordError as error:
        raise NotCollectedError(f"no collector: {PROJECT}: {error}") from None
    spec = pod.get("spec") or {}
    if spec.get("hostNetwork"):
        raise NotCollectedError("no collector: the pod has the node's network, and so its ports")
    capture = given.get(CAPTURE, "auto")
    if capture not in {"auto", "hostPath", "api"}:
        raise NotCollectedError(f"no collector: {CAPTURE} is neither hostPath nor api")
    exclude = tuple(part.strip() for part in given.get(EXCLUDE, "").split(",") if part.strip())
    return Asked(PodOwner(namespace, project, deployment=_service(pod)), capture, exclude)


def warnings(pod: Mapping[str, Any]) -> list[str]:
    """What will not work as its owner may expect."""
    taken = {
        port.get("containerPort")
        for one in _containers(pod)
        for port in one.get("ports") or ()
        if port.get("containerPort") in {OTLP_PORT, PORT}
    }
    return [f"a container of the pod has port {port}, which the collector needs" for port in taken]


def additions(
    pod: Mapping[str, Any], wish: Asked, options: CollectorOptions, capture: Capture
) -> list[Operation]:
    """The patch."""
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    grace = int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))
    limited = any(
        "ephemeral-storage" in ((one.get("resources") or {}).get("limits") or {})
        for one in _containers(pod)
    )
    collector = collector_container(
        options, wish.owner, capture, grace=grace, exclude=wish.exclude, disk_limited=limited
    )
    operations: list[Operation] = []
    added = {names.PROJECT: wish.owner.project}
    operations += _entries("/metadata/labels", metadata.get("labels"), added)
    operations += _entries(
        "/metadata/annotations", metadata.get("annotations"), {names.COLLECTOR: capture}
    )
    known = {volume.get("name") for volume in spec.get("volumes") or ()}
    volumes = [v for v in collector_volumes(options, capture) if v["name"] not in known]
    operations += _items("/spec/volumes", spec.get("volumes"), volumes)
    env = telemetry_env(wish.owner)
    for field in ("containers", "initContainers"):
        for at, one in enumerate(spec.get(field) or ()):
            operations += _heard(f"/spec/{field}/{at}", one, env)
    # Last: it moves the others, whose places the operations above name.
    if spec.get("initContainers"):
        operations.append({"op": "add", "path": "/spec/initContainers/0", "value": collector})
    else:
        operations.append({"op": "add", "path": "/spec/initContainers", "value": [collector]})
    return operations


def _heard(path: str, container: Mapping[str, Any], env: Iterable[Object]) -> list[Operation]:
    taken = {variable.get("name") for variable in container.get("env") or ()}
    fresh = [variable for variable in env if variable["name"] not in taken]
    mounts = container.get("volumeMounts")
    mount = spans_mount()
    mounted = {one.get("mountPath") for one in mounts or ()}
    return [
        *_items(f"{path}/env", container.get("env"), fresh),
        *_items(
            f"{path}/volumeMounts", mounts, [mount] if mount["mountPath"] not in mounted else []
        ),
    ]


def _entries(
    path: str, there: Mapping[str, Any] | None, wanted: Mapping[str, str]
) -> list[Operation]:
    fresh = {name: value for name, value in wanted.items() if name not in (there or {})}
    if not there:
        return [{"op": "add", "path": path, "value": fresh}] if fresh else []
    return [
        {"op": "add", "path": f"{path}/{_escaped(name)}", "value": value}
        for name, value in fresh.items()
    ]


def _items(path: str, there: list[Any] | None, wanted: list[Object]) -> list[Operation]:
    if not wanted:
        return []
    if not there:
        return [{"op": "add", "path": path, "value": wanted}]
    return [{"op": "add", "path": f"{path}/-", "value": item} for item in wanted]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _annotations(pod: Mapping[str, Any]) -> Mapping[str, str]:
    return (pod.get("metadata") or {}).get("annotations") or {}


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _service(pod: Mapping[str, Any]) -> str:
    """A name for what runs in the pod; a DNS label, or nothing."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    maker = re.sub(r"(-[0-9a-f]{8,10})?-$", "", metadata.get("generateName") or "")
    for name in (
        _annotations(pod).get(SERVICE, ""),
        labels.get("app.kubernetes.io/name", ""),
        labels.get("app", ""),
        maker,
    ):
        try:
            return check_label(name, "service")
        except BadRecordError:
            continue
    return ""
