"""Resources in a cluster: what only a real API server has, and the laptop's store has not."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import DEPLOYMENTS, EVENTS, PODS, PROJECTS
from spanyard_core.kube.client import KubeClient
from spanyard_core.resources.kinds import API_VERSION, GROUP, PLURALS, Deployment
from spanyard_gateway.kube_cache import KubeCache
from spanyard_gateway.kube_resources import KubeResources
from tests.cluster.apiserver import ApiServer
from tests.cluster.kinds import (
    build,
    cluster,
    deployment,
    kube,
    listed,
    namespace,
    outcomes,
    project,
    refused,
    with_kinds,
)

__all__ = ["cluster", "kube", "namespace", "with_kinds"]


class TestKubernetes:
    """What only a cluster has."""

    async def test_a_namespace_that_is_not_there_is_said_with_what_to_do(
        self, cluster: KubeResources
    ) -> None:
        made = project()
        made["metadata"]["namespace"] = "k8-nowhere"
        [(where, what)] = await refused(cluster, made)
        assert where == "projects/shop: metadata.namespace"
        assert "kubectl create namespace" in what

    async def test_fields_of_others_stay_theirs(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        await cluster.apply([project(), deployment()])
        theirs = {"spec": {"replicas": 4}, "metadata": {"labels": {"team": "a"}}}
        assert await kube.merge(DEPLOYMENTS, "web", theirs, namespace)
        assert await outcomes(cluster, deployment()) == ["unchanged"]
        found = await cluster.get("Deployment", f"{namespace}.web")
        assert isinstance(found, Deployment)
        assert (found.spec.replicas, found.metadata.labels) == (4, {"team": "a"})

    async def test_events_are_those_of_the_object_and_its_pods(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        await cluster.apply([project(), build(), build("web-2")])
        found = await cluster.get("Build", f"{namespace}.web-1")
        assert found is not None
        pod = await kube.create(PODS, _pod("web-1-build-1", f"{GROUP}/build"), namespace)
        about = [
            ("Build", "web-1", found.metadata.uid, "Queued", "10"),
            ("Pod", "web-1-build-1", pod["metadata"]["uid"], "FailedScheduling", "11"),
            ("Build", "web-2", "other", "Queued", "12"),
            ("Build", "web-1", "the one before of this name", "Failed", "13"),
        ]
        for kind, name, uid, reason, second in about:
            await kube.create(EVENTS, _event(kind, name, uid, reason, second, namespace), namespace)
        events = await cluster.events("Build", f"{namespace}.web-1")
        assert [(e.time, e.type, e.reason, e.message, e.count) for e in events] == [
            ("2026-11-21T14:45:10Z", "Normal", "Queued", "so", 2),
            ("2026-11-21T14:45:11Z", "Warning", "FailedScheduling", "pod web-1-build-1: so", 2),
        ]
        assert await cluster.events("Build", f"{namespace}.none") == ()
        assert await kube.delete(PODS, "web-1-build-1", namespace, grace=0)

    async def test_a_change_by_others_shows_in_the_list(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        await listed(cluster, "Project", [])
        await kube.create(PROJECTS, project(), namespace)
        await listed(cluster, "Project", ["shop"])
        assert await kube.delete(PROJECTS, "shop", namespace)
        await listed(cluster, "Project", [])

    async def test_rights_that_the_gateway_lacks_are_named(
        self, with_kinds: ApiServer, namespace: str, tmp_path: Path
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
        assert with_kinds.request("POST", path, body).status == 201
        ask = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = with_kinds.request("POST", f"{path}/nobody/token", ask).body["status"]["token"]
        weak = ApiServer(with_kinds.host, with_kinds.port, token, with_kinds.certificate)
        client = await KubeClient.from_kubeconfig(str(weak.kubeconfig(tmp_path / "weak")))
        api = KubeResources(client, KubeCache(client, SystemClock()), namespace=namespace)
        with pytest.raises(SpanyardError, match=r'cannot get resource "projects".*docs/reference'):
            await api.apply([project()])
        await client.close()


def _pod(name: str, label: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {label: "web-1"}},
        "spec": {
            "containers": [{"name": "a", "image": "x"}],
            "automountServiceAccountToken": False,
        },
    }


def _event(kind: str, name: str, uid: str, reason: str, second: str, place: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{second}"},
        "involvedObject": {
            "apiVersion": API_VERSION if kind != "Pod" else "v1",
            "kind": kind, "name": name, "uid": uid, "namespace": place,
        },
        "reason": reason,
        "message": "so",
        "type": "Warning" if kind == "Pod" else "Normal",
        "count": 2,
        "lastTimestamp": f"2026-11-21T14:45:{second}Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("full", "emptied"),
    [
        (project(displayName="Shop"), project()),
        (project(builds={"concurrencyPolicy": "Serial"}), project(builds={})),
        (build(resources={"limits": {"memory": "1Gi"}}), build(resources={"limits": {}})),
        (build(builder={"image": "python:3.14"}), build(builder={})),
        (deployment(resources={"limits": {"memory": "1Gi"}}), deployment(resources={})),
        (deployment(nodeSelector={"disk": "ssd"}), deployment(nodeSelector={})),
        (deployment(collector={"resources": {"limits": {"memory": "1Gi"}}}), deployment(collector={})),
    ],
    ids=["spec", "builds", "limits", "builder", "resources", "nodeSelector", "collector"],
)  # fmt: skip
def test_what_a_manifest_empties_is_accepted(
    full: dict[str, Any], emptied: dict[str, Any], with_kinds: ApiServer
) -> None:
    """A server-side apply makes null of an object that lost its last field, here as with Flux."""
    plural = PLURALS[full["kind"]]
    path = f"/apis/{API_VERSION}/namespaces/default/{plural}/emptied-{uuid.uuid4().hex[:8]}"
    for given in (full, emptied):
        named = {**given, "metadata": {"name": path.rpartition("/")[2]}}
        done = with_kinds.request(
            "PATCH", f"{path}?fieldManager=test", named, kind="application/apply-patch+yaml"
        )
        assert done.status in {200, 201}, done.message
