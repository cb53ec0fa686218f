"""Names and labels of all that the operator makes: deterministic, so that every step is repeatable."""

import hashlib

from spanyard_core.resources.kinds import API_VERSION, Build, Deployment, Project

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "spanyard"
COMPONENT = "app.kubernetes.io/component"
PROJECT = "spanyard.dev/project"
BUILD = "spanyard.dev/build"
DEPLOYMENT = "spanyard.dev/deployment"
REVISION = "spanyard.dev/revision"
REVISION_HASH = "spanyard.dev/revision-hash"
RESOURCE_UID = "spanyard.dev/resource-uid"
COLLECTOR = "spanyard.dev/collector"
"""Annotation of pods: how their output is captured."""
SKIP_CLEANUP = "spanyard.dev/skip-cleanup"
"""Annotation of Builds: `"true"` lets one go and leaves its objects in the bucket."""
FINALIZER = "spanyard.dev/bucket"
RUNNER_ACCOUNT = "spanyard-runner"
COLLECTOR_ROLE = "spanyard-collector"
OURS = f"{MANAGED_BY}={MANAGER}"
"""Label selector of everything that the operator made."""


def build_pod_name(build: str, attempt: int) -> str:
    """The pod of one attempt."""
    return f"{build}-build-{attempt}"


def server_name(deployment: str) -> str:
    """Of all children of a Deployment."""
    return f"{deployment}-server"


def server_selector(deployment: str) -> dict[str, str]:
    """Labels that select a Deployment's pods; never changed, because the apps API forbids it."""
    return {COMPONENT: "server", DEPLOYMENT: deployment, MANAGED_BY: MANAGER}


def server_labels(deployment: Deployment) -> dict[str, str]:
    """Labels of a Deployment's children."""
    return {**server_selector(deployment.metadata.name), PROJECT: deployment.spec.project}


def build_labels(build: Build) -> dict[str, str]:
    """Labels of a Build's pods."""
    return {
        COMPONENT: "build",
        BUILD: build.metadata.name,
        PROJECT: build.spec.project,
        MANAGED_BY: MANAGER,
    }


def owner_reference(resource: Project | Build | Deployment) -> dict[str, object]:
    """What ties a child to it: removed with it, and never taken for anybody else's."""
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(child: dict[str, object], uid: str) -> bool:
    """Whether a child is that of the resource with this uid."""
    about = child.get("metadata")
    owners = about.get("ownerReferences") if isinstance(about, dict) else None
    return any(one.get("uid") == uid for one in owners or ())


def event_name(name: str, uid: str, *what: str) -> str:
    """Of a Kubernetes Event: the same thing told twice has one name, so it is there once."""
    digest = hashlib.sha256("\0".join([uid, *what]).encode()).hexdigest()[:16]
    return f"{name[:200]}.{digest}"
