"""The children of a Deployment: apps/v1 Deployment, Service, Ingress, HTTPRoute; pure.

Each is the whole of what we say of it by server-side apply: a field that is left out here is not
ours, and stays with whoever set it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from spanyard_core.kube import APPS_DEPLOYMENTS, HTTP_ROUTES, INGRESSES, SERVICES, Api
from spanyard_core.resources.kinds import Deployment, Revision
from spanyard_operator.deployments.probes import whole_seconds
from spanyard_operator.names import (
    REVISION,
    REVISION_HASH,
    owner_reference,
    server_labels,
    server_name,
    server_selector,
)
from spanyard_operator.pod.parts import Object

SERVICE_PORT = 80
PORT_NAME = "http"
EXPOSED = "spanyard.dev/exposed"
"""Annotation of the apps Deployment: which ways in were made, to be removed when they are not asked
for any more."""


def revision_labels(revision: Revision) -> dict[str, str]:
    """By which ReplicaSets and pods are told apart, and found again after a restart."""
    return {REVISION: str(revision.number), REVISION_HASH: revision.hash}


def endpoint(deployment: Deployment) -> str:
    """The URL by which the cluster reaches the server."""
    metadata = deployment.metadata
    return f"http://{server_name(metadata.name)}.{metadata.namespace}.svc"


def ways_in(deployment: Deployment) -> list[str]:
    """The fields of `spec.expose` that are set."""
    expose = deployment.spec.expose
    found = {"ingress": expose.ingress, "httpRoute": expose.http_route}
    return [name for name, asked in found.items() if asked is not None]


def apps_deployment(
    deployment: Deployment,
    template: Mapping[str, Any],
    revision: Revision,
    *,
    replicas: int | None,
) -> Object:
    """`replicas` None: they are somebody else's, an autoscaler's; nothing is said of them.

    The revision stands in its own labels too: who keeps a slim picture of it has no template.
    """
    spec = deployment.spec
    made: Object = {
        "selector": {"matchLabels": server_selector(deployment.metadata.name)},
        # A revision that does not get ready takes nothing from the one that serves.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "progressDeadlineSeconds": whole_seconds(spec.progress_deadline),
        "revisionHistoryLimit": spec.revision_history_limit,
        "template": dict(template),
    }
    if replicas is not None:
        made["replicas"] = replicas
    exposed = ways_in(deployment)
    said = {
        "labels": revision_labels(revision),
        "annotations": {EXPOSED: ",".join(exposed)} if exposed else {},
    }
    return _child(APPS_DEPLOYMENTS, deployment, said, spec=made)


def service(deployment: Deployment) -> Object:
    """Always there: the address stays when everything behind it is another."""
    port = {
        "name": PORT_NAME,
        "port": SERVICE_PORT,
        "targetPort": deployment.spec.port,
        "protocol": "TCP",
    }
    spec = {
        "type": "ClusterIP",
        "selector": server_selector(deployment.metadata.name),
        "ports": [port],
    }
    return _child(SERVICES, deployment, spec=spec)


def ingress(deployment: Deployment) -> Object | None:
    """What `spec.expose.ingress` asks for: paths without a backend lead to the Service."""
    asked = deployment.spec.expose.ingress
    if asked is None:
        return None
    backend = {
        "service": {"name": server_name(deployment.metadata.name), "port": {"name": PORT_NAME}}
    }
    spec = dict(asked.get("spec") or {})
    if spec.get("rules"):
        spec["rules"] = _each(spec["rules"], lambda rule: _ingress_rule(rule, backend))
    elif "defaultBackend" not in spec:
        spec["defaultBackend"] = backend
    return _child(INGRESSES, deployment, asked.get("metadata"), spec=spec)


def _ingress_rule(rule: Mapping[str, Any], backend: Mapping[str, Any]) -> Object:
    http = rule.get("http") or {}
    if not isinstance(http, Mapping):
        return dict(rule)
    defaults = {"path": "/", "pathType": "Prefix", "backend": backend}
    paths = _each(http.get("paths") or [{}], lambda path: {**defaults, **path})
    return {**rule, "http": {**http, "paths": paths}}


def http_route(deployment: Deployment) -> Object | None:
    """What `spec.expose.httpRoute` asks for: rules without `backendRefs` lead to the Service."""
    asked = deployment.spec.expose.http_route
    if asked is None:
        return None
    backend = {"name": server_name(deployment.metadata.name), "port": SERVICE_PORT}
    spec = dict(asked.get("spec") or {})
    spec["rules"] = _each(spec.get("rules") or [{}], lambda rule: _route_rule(rule, backend))
    return _child(HTTP_ROUTES, deployment, asked.get("metadata"), spec=spec)


def _route_rule(rule: Mapping[str, Any], backend: Mapping[str, Any]) -> Object:
    filters = _each(rule.get("filters") or [], lambda one: one.get("type"))
    redirects = isinstance(filters, list) and "RequestRedirect" in filters
    if redirects or rule.get("backendRefs"):
        return dict(rule)  # a redirect may have no backend: the API refuses it
    return {**rule, "backendRefs": [backend]}


def _each(given: Any, made: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Our schema leaves these fields to their own kinds: what is no list, or no object in it, stays as
    it is, and the API server says what is wrong with it."""
    if not isinstance(given, list):
        return given
    return [made(one) if isinstance(one, Mapping) else one for one in given]


def _child(
    api: Api, deployment: Deployment, said: Mapping[str, Any] | None = None, *, spec: Object
) -> Object:
    metadata = deployment.metadata
    said = said or {}
    made: Object = {
        "name": server_name(metadata.name),
        "namespace": metadata.namespace,
        "labels": {**(said.get("labels") or {}), **server_labels(deployment)},
        "ownerReferences": [owner_reference(deployment)],
    }
    if said.get("annotations"):
        made["annotations"] = dict(said["annotations"])
    return {"apiVersion": api.api_version, "kind": api.kind, "metadata": made, "spec": spec}
