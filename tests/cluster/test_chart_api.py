"""The chart against a real API server: everything it renders is taken, installs, upgrades, goes."""

import dataclasses
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import chart
from tests.cluster.apiserver import ApiServer, running_api_server
from tests.cluster.chart import Rendering, render

PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
}
NAMESPACES = ("spanyard", "team-a", "team-b")
FOREIGN = {
    ("monitoring.coreos.com", "v1"): ("ServiceMonitor", "PodMonitor", "PrometheusRule"),
    ("gateway.networking.k8s.io", "v1"): ("HTTPRoute",),
}
"""Kinds of others that the chart makes objects of: here with a schema that takes anything."""


@pytest.fixture(scope="module")
def server(helm: Path, api_server: ApiServer) -> Iterator[ApiServer]:
    """One of its own: installations are cluster-wide."""
    with running_api_server() as own:
        for name in NAMESPACES:
            made = own.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            assert made.status == 201, made.message
        for (group, version), kinds in FOREIGN.items():
            for kind in kinds:
                made = own.request(
                    "POST",
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                    foreign(group, version, kind),
                )
                assert made.status == 201, made.message
        yield own


def plural(kind: str) -> str:
    return PLURALS.get(kind, f"{kind.lower()}s")


def foreign(group: str, version: str, kind: str) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural(kind)}.{group}",
            # The API server guards groups of Kubernetes' own.
            "annotations": {"api-approved.kubernetes.io": "https://example.com/in-tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural(kind), "singular": kind.lower()},
            "versions": [
                {
                    "name": version, "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }  # fmt: skip


def collection(one: dict[str, Any]) -> str:
    version = one["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = one["metadata"].get("namespace")
    return (
        f"{root}/namespaces/{namespace}/{plural(one['kind'])}"
        if namespace
        else f"{root}/{plural(one['kind'])}"
    )


@pytest.mark.parametrize("name", chart.value_sets())
def test_the_api_server_takes_every_object(server: ApiServer, name: str) -> None:
    more = {"grafana": {"dashboards": {"enabled": True}}} if name == "production-aws" else {}
    for one in render(name, **more, crds={"install": True}).objects:
        found = server.request("POST", f"{collection(one)}?dryRun=All&fieldValidation=Strict", one)
        assert found.status == 201, f"{one['kind']} {one['metadata']['name']}: {found.message}"


@pytest.fixture
def helm_of(server: ApiServer, tmp_path: Path) -> Iterator[Any]:
    """Helm against that server; what it installed is gone after the test."""
    config = server.kubeconfig(tmp_path / "kubeconfig")

    def run(command: str, *arguments: str, values: dict[str, Any] | None = None) -> str:
        given = None
        if values is not None:
            file = tmp_path / "values.yaml"
            file.write_text(json.dumps(values), "utf-8")
            arguments = (*arguments, "--values", str(file))
        return chart.helm(
            command, *arguments, "--kubeconfig", str(config), "--namespace", "spanyard", given=given
        )

    yield run
    if "spanyard" in run("list", "--short"):
        run("uninstall", "spanyard")


def there(server: ApiServer, rendering: Rendering) -> set[str]:
    """Which of these objects exist."""
    return {
        f"{one['kind']}/{one['metadata']['name']}"
        for one in rendering.objects
        if server.request("GET", f"{collection(one)}/{one['metadata']['name']}").status == 200
    }


def test_install_upgrade_and_uninstall_leave_only_kinds_and_data(
    server: ApiServer, helm_of: Any
) -> None:
    least, evaluation = chart.values_file("least"), chart.values_file("evaluation")
    installed = {"crds": {"install": True}}
    helm_of("install", "spanyard", str(chart.CHART), "--values", str(least), values=installed)
    first = render("least", **installed)
    assert len(there(server, first)) == len(first.objects)
    project = {
        "apiVersion": "spanyard.dev/v1alpha1", "kind": "Project", "metadata": {"name": "support"},
    }  # fmt: skip
    place = "/apis/spanyard.dev/v1alpha1/namespaces/team-a/projects"
    made = server.request("POST", place, project)
    assert made.status == 201, made.message

    # Another shape: what is not wanted any more goes, a volume comes.
    helm_of("upgrade", "spanyard", str(chart.CHART), "--values", str(evaluation), values=installed)
    second = render("evaluation", **installed)
    names = {f"{o['kind']}/{o['metadata']['name']}" for o in second.objects}
    assert there(server, second) == names
    gone = {f"{o['kind']}/{o['metadata']['name']}" for o in first.objects} - names
    assert "Deployment/spanyard-gateway" in gone
    assert not there(server, first) & gone

    helm_of("rollback", "spanyard", "1")
    assert len(there(server, first)) == len(first.objects)

    said = helm_of("uninstall", "spanyard")
    assert "were kept" in said
    assert there(server, first) | there(server, second) == {
        "CustomResourceDefinition/builds.spanyard.dev",
        "CustomResourceDefinition/deployments.spanyard.dev",
        "CustomResourceDefinition/projects.spanyard.dev",
        "PersistentVolumeClaim/spanyard-objects",
    }
    kept = server.request("GET", f"{place}/support")
    assert kept.body["metadata"]["uid"] == made.body["metadata"]["uid"]

    # The same release again finds what stayed.
    helm_of("install", "spanyard", str(chart.CHART), "--values", str(evaluation), values=installed)
    assert there(server, second) == names


def test_the_crds_of_a_newer_chart_replace_older_ones(
    server: ApiServer, helm_of: Any, tmp_path: Path
) -> None:
    """They are templates for this: Helm never upgrades what lies in a chart's folder `crds`."""
    older = tmp_path / "chart"
    chart.helm("package", str(chart.CHART), "--destination", str(tmp_path))
    (packed,) = tmp_path.glob("*.tgz")
    older.mkdir()
    with tarfile.open(packed) as archive:
        archive.extractall(older, filter="data")
    crd = older / "spanyard" / "files" / "crds" / "projects.yaml"
    crd.write_text(crd.read_text("utf-8").replace("displayName", "showName"), "utf-8")
    least = chart.values_file("least")
    flags = ("--values", str(least), "--take-ownership")
    helm_of(
        "install", "spanyard", str(older / "spanyard"), *flags, values={"crds": {"install": True}}
    )

    def field(name: str) -> bool:
        place = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/projects.spanyard.dev"
        found = server.request("GET", place).body["spec"]["versions"][0]
        return name in found["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    assert field("showName")
    helm_of("upgrade", "spanyard", str(chart.CHART), *flags, values={"crds": {"install": True}})
    assert field("displayName")
    assert not field("showName")


def test_two_users_see_what_their_roles_say(server: ApiServer, helm_of: Any) -> None:
    """Aggregation needs the controller manager; the roles themselves are asked here."""
    helm_of(
        "install", "spanyard", str(chart.CHART), "--values", str(chart.values_file("least")),
        "--take-ownership", values={"crds": {"install": True}},
    )  # fmt: skip

    def may(role: str, verb: str, resource: str, subresource: str = "") -> bool:
        binding = {
            "metadata": {"name": f"of-{role}"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
            },
            "subjects": [{"kind": "User", "name": f"user-of-{role}"}],
        }  # fmt: skip
        place = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings"
        assert server.request("POST", place, binding).status in {201, 409}
        asked = {
            "namespace": "team-a", "verb": verb, "group": "spanyard.dev",
            "resource": resource, "subresource": subresource,
        }  # fmt: skip
        answer = server.request(
            "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"spec": {"user": f"user-of-{role}", "resourceAttributes": asked}},
        )  # fmt: skip
        return bool(answer.body["status"]["allowed"])

    deadline = time.monotonic() + 60  # a binding is seen by the authorizer a moment later
    while not may("spanyard-viewer", "get", "projects", "telemetry"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while not may("spanyard-editor", "delete", "projects", "telemetry"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert may("spanyard-viewer", "watch", "builds")
    assert not may("spanyard-viewer", "create", "builds")
    assert not may("spanyard-viewer", "delete", "projects", "telemetry")
    assert may("spanyard-editor", "patch", "deployments", "scale")
    assert not may("spanyard-editor", "patch", "deployments", "status")
    other = dataclasses.replace(server, token="nobody")
    assert other.request("GET", "/apis/spanyard.dev/v1alpha1/projects").status == 401
