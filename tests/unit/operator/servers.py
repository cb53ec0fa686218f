"""Objects of a server in a cluster, as the API has them, for tables of tests."""

from typing import Any

from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    BuildSource,
    BuildSpec,
    BuildStatus,
    Deployment,
    DeploymentSpec,
    GitSource,
    Metadata,
)

Object = dict[str, Any]
DIGEST = "sha256:" + "a" * 64


def server(**spec: Any) -> Deployment:
    """A Deployment of an artifact, unless the spec names an image."""
    given: dict[str, Any] = {"project": "support"}
    if "image" not in spec:
        given |= {"follow": True, "command": "node server.js"}
    return Deployment(
        metadata=Metadata(name="web", namespace="team", uid="uid-web", generation=3),
        spec=DeploymentSpec(**(given | spec)),
    )


def finished(name: str, digest: str = DIGEST, *, queued: str = "2026-11-21T10:00:00Z") -> Build:
    """A build that succeeded."""
    artifact = ArtifactStatus(key=f"builds/team.{name}/artifact.tar.zst", digest=digest, size=7)
    return Build(
        metadata=Metadata(name=name, namespace="team", uid=f"uid-{name}"),
        spec=BuildSpec(project="support", source=BuildSource(git=GitSource(url="https://x/y"))),
        status=BuildStatus(phase="Succeeded", queued_at=queued, artifact=artifact),
    )


def pod(
    name: str = "web-server-1-a",
    *,
    owner: str = "rs-1",
    state: Object | None = None,
    last: Object | None = None,
    ready: bool = False,
    started: bool = False,
    restarts: int = 0,
    before: list[Object] | None = None,
    **status: Any,
) -> Object:
    """One pod; `before` are the statuses of init containers."""
    container: Object = {
        "name": "server",
        "image": "node:22-slim",
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": state or {},
    }
    if last:
        container["lastState"] = last
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "ownerReferences": [{"uid": owner, "controller": True}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
            "initContainerStatuses": before or [],
            **status,
        },
    }


def apps(
    number: int, hash_: str, *, generation: int = 1, observed: int = 1, **status: Any
) -> Object:
    """The apps Deployment."""
    labels = {"spanyard.dev/revision": str(number), "spanyard.dev/revision-hash": hash_}
    return {
        "metadata": {
            "name": "web-server",
            "uid": "apps-1",
            "generation": generation,
            "labels": labels,
        },
        "spec": {},
        "status": {"observedGeneration": observed, **status},
    }


def replica_set(
    number: int,
    hash_: str,
    *,
    order: int,
    asked: int,
    ready: int = 0,
    running: int | None = None,
    **status: Any,
) -> Object:
    """A ReplicaSet, `rs-{order}`."""
    return {
        "metadata": {
            "name": f"web-server-{order}",
            "uid": f"rs-{order}",
            "labels": {
                "spanyard.dev/revision": str(number),
                "spanyard.dev/revision-hash": hash_,
                "pod-template-hash": f"rs{order}",
            },
            "annotations": {"deployment.kubernetes.io/revision": str(order)},
            "ownerReferences": [{"uid": "apps-1", "controller": True}],
            "creationTimestamp": f"2026-11-21T10:00:0{order}Z",
        },
        "spec": {"replicas": asked},
        "status": {
            "replicas": asked if running is None else running,
            "readyReplicas": ready,
            **status,
        },
    }
