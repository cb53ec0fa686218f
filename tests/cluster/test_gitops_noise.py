"""What lies in Git stays as it lies there: nobody of ours writes what a person wrote."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.binaries import kept
from tests.cluster.controllers import play_kubelet, running_controllers
from tests.cluster.operator_process import install_kinds, running_operator
from tests.fakes.kstatus import kstatus
from tests.fakes.processes import wait_for

TEAM = "git-team"
OURS = f"/apis/spanyard.dev/v1alpha1/namespaces/{TEAM}"
PODS = f"/api/v1/namespaces/{TEAM}/pods"
MERGE = "application/merge-patch+json"
API = "spanyard.dev/v1alpha1"
IN_GIT: list[dict[str, Any]] = [
    {
        "apiVersion": API, "kind": "Project", "metadata": {"name": "support"},
        "spec": {"displayName": "Support", "builds": {"concurrencyPolicy": "Serial"}},
    },
    {
        "apiVersion": API, "kind": "Build",
        "metadata": {"name": "support-1", "labels": {"example.com/commit": "c0ffee"}},
        "spec": {
            "project": "support", "source": {"git": {"url": "https://git.example.com/x.git"}},
            "install": "npm ci", "resources": {"limits": {"cpu": 2, "memory": "1024Mi"}},
            "timeout": "90m",
        },
    },
    {
        "apiVersion": API, "kind": "Deployment",
        "metadata": {"name": "support", "annotations": {"example.com/owner": "team"}},
        "spec": {
            "project": "support", "image": "example.com/agent:1", "command": "serve",
            "replicas": 2, "env": [{"name": "A", "value": "b"}],
        },
    },
]  # fmt: skip
PLURALS = {"Project": "projects", "Build": "builds", "Deployment": "deployments"}


@pytest.fixture
def server(api_server: ApiServer, tmp_path: Path) -> Iterator[ApiServer]:
    """With our kinds, controllers, and the operator."""
    if kept().missing(["kubectl"]) and os.environ.get("SPANYARD_REQUIRE_CLUSTER") != "1":
        pytest.skip("kubectl is not there: `make cluster` builds it")
    install_kinds(api_server)
    made = api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": TEAM}})
    assert made.status == 201, made.message
    bucket = f"file://{tmp_path / 'bucket'}"
    with (
        running_controllers(api_server),
        running_operator(api_server, bucket, f"--namespaces={TEAM}", namespace="git-operator"),
    ):
        yield api_server


def stored(server: ApiServer) -> dict[str, dict[str, Any]]:
    return {
        one["kind"]: server.request(
            "GET", f"{OURS}/{PLURALS[one['kind']]}/{one['metadata']['name']}"
        ).body
        for one in IN_GIT
    }


def written_by(one: dict[str, Any]) -> dict[str, set[str]]:
    """Top fields below `spec`, `metadata` and `status` by who owns them."""
    made: dict[str, set[str]] = {}
    for entry in one["metadata"]["managedFields"]:
        fields = made.setdefault(entry["manager"], set())
        for part, below in entry["fieldsV1"].items():
            fields |= {f"{part[2:]}.{name[2:]}" for name in below if name != "."}
    return made


def test_git_and_the_cluster_never_differ(server: ApiServer, tmp_path: Path) -> None:
    manifests = tmp_path / "manifests.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": IN_GIT}), "utf-8")
    config = server.kubeconfig(tmp_path / "kubeconfig")

    def kubectl(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [
                str(kept().path("kubectl")), f"--kubeconfig={config}", f"--namespace={TEAM}",
                *arguments, "--server-side", "--field-manager=argocd-controller", "-f",
                str(manifests),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    applied = kubectl("apply")
    assert applied.returncode == 0, applied.stderr

    # Let everything happen that makes our controllers write.
    pod = wait_for(
        "the build's pod",
        lambda: server.request("GET", f"{PODS}/support-1-build-1").body.get("metadata"),
        within=60,
    )
    evicted = {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}
    server.request("PATCH", f"{PODS}/{pod['name']}/status", evicted, kind=MERGE)

    def serves() -> bool:
        query = f"{PODS}?labelSelector=spanyard.dev/deployment=support"
        for each in server.request("GET", query).body["items"]:
            play_kubelet(server, each, ready=True)
        return kstatus(stored(server)["Deployment"]) == "Current"

    wait_for("the server serves", serves, within=60, every=0.5)
    wait_for(
        "the build goes on", lambda: stored(server)["Build"]["status"].get("attempt"), within=60
    )

    # No difference, neither as the API server merges nor as a person compares.
    diff = kubectl("diff")
    assert diff.returncode == 0, diff.stdout + diff.stderr
    before = stored(server)
    again = kubectl("apply")
    assert again.returncode == 0, again.stderr
    after = stored(server)
    for wanted in IN_GIT:
        kind = wanted["kind"]
        live = after[kind]
        assert live["metadata"]["generation"] == before[kind]["metadata"]["generation"] == 1
        assert live["metadata"].get("labels", {}) == wanted["metadata"].get("labels", {})
        assert live["metadata"].get("annotations", {}) == wanted["metadata"].get("annotations", {})
        owners = written_by(live)
        git = owners.pop("argocd-controller")
        assert git >= {f"spec.{name}" for name in wanted["spec"]}
        ours = set().union(*owners.values())
        assert not [name for name in ours if name.startswith("spec.")], owners
        assert {name for name in ours if name.startswith("metadata.")} <= {"metadata.finalizers"}
