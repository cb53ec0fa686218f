"""The chart in a real cluster: installed, upgraded and removed, in a namespace that is `restricted`.

An end to end of what an installation does is `test_end_to_end`; this one is about the release.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images
from tests.cluster.chart import CHART
from tests.cluster.cluster import Cluster
from tests.fakes.processes import wait_for

RELEASE = "spanyard-chart"
TEAM = "spanyard-chart-team"
LITTER = "configmaps,secrets,serviceaccounts,roles,rolebindings,leases,networkpolicies,services,pods,deployments.apps,statefulsets,poddisruptionbudgets,persistentvolumeclaims"


@pytest.fixture
def place(cluster: Cluster) -> Iterator[Cluster]:
    """Namespaces of its own: that of the release keeps Pod Security's strictest level."""

    def remove() -> None:
        for kind in ("deployments", "builds", "projects"):
            cluster.kubectl(
                "delete", f"{kind}.spanyard.dev", "--all", "-n", TEAM, "--timeout=60s", check=False
            )
        if RELEASE in cluster.helm("list", "-n", RELEASE, "--short"):
            cluster.helm("uninstall", RELEASE, "-n", RELEASE, "--wait", "--timeout=60s")
        cluster.kubectl(
            "delete",
            "namespace",
            RELEASE,
            TEAM,
            "--ignore-not-found",
            "--timeout=120s",
            check=False,
        )

    remove()
    strict = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    for name in (RELEASE, TEAM):
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": strict}}
        )
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", str(CHART / "files" / "crds")
    )
    yield cluster
    remove()


def values(cluster: Cluster, **more: Any) -> dict[str, Any]:
    registry, _, repository = cluster.image_prefix.partition("/")
    return {
        "image": {"registry": registry, "repository": repository, "tag": images.TAG},
        "crds": {"install": False},  # they are the whole cluster's
        "watchNamespaces": [TEAM],
        "storage": {"type": "pvc", "pvc": {"size": "1Gi"}},
        "clickhouse": {"mode": "embedded"},
        "rbac": {"aggregate": False},
        "operator": more,
    }


def foreign(cluster: Cluster) -> dict[str, Any]:
    """A pod of somebody's that asks to be observed."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "foreign", "namespace": TEAM,
            "annotations": {"spanyard.dev/collect": "true", "spanyard.dev/project": "support"},
        },
        "spec": {
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "app", "image": cluster.image("test-python"),
                    "command": ["sleep", "300"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }  # fmt: skip


def told(cluster: Cluster) -> str:
    return "\n".join(
        cluster.kubectl(*words, check=False)[-4000:]
        for words in (
            ("get", "pods", "-n", RELEASE, "-o", "wide"),
            ("get", "events", "-n", RELEASE, "--sort-by=.lastTimestamp"),
            ("logs", "-n", RELEASE, f"deployment/{RELEASE}-operator", "--tail=30"),
            ("logs", "-n", RELEASE, f"statefulset/{RELEASE}-server", "--tail=30"),
        )
    )


def test_install_upgrade_uninstall(place: Cluster, tmp_path: Path) -> None:
    def release(command: str, **more: Any) -> None:
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values(place, **more)), "utf-8")
        try:
            place.helm(
                command, RELEASE, str(CHART), "-n", RELEASE, "-f", str(file), "--wait",
                "--timeout=240s",
            )  # fmt: skip
        except RuntimeError as error:
            error.add_note(told(place))
            raise

    def pods() -> dict[str, dict[str, Any]]:
        return {
            pod["metadata"]["name"]: pod
            for pod in place.get("pods", "-n", RELEASE)
            if "deletionTimestamp" not in pod["metadata"]
        }

    # Two operators and the one pod, all of them ready: one of the operators only waits.
    release("install")
    first = pods()
    assert len(first) == 3
    lease = place.get("lease", f"{RELEASE}-operator", "-n", RELEASE)
    assert lease["spec"]["holderIdentity"] in first
    keys = place.get("secret", "spanyard-keys", "-n", RELEASE)
    assert set(keys["data"]) == {"ed25519.pem", "ed25519.pub", "ingester-token"}

    # It works: the operator sees a Project.
    project = {
        "apiVersion": "spanyard.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "support", "namespace": TEAM},
    }  # fmt: skip
    place.apply(project)

    def accepted() -> bool:
        found = place.get("projects.spanyard.dev", "support", "-n", TEAM)
        made = found.get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in made)

    wait_for("the project is accepted", accepted, within=60, every=0.5)

    # A pod that is not ours asks for a collector, and gets one that the namespace allows.
    def collected() -> Any:
        place.kubectl("delete", "pod", "foreign", "-n", TEAM, "--ignore-not-found", "--now")
        place.apply(foreign(place))
        made = place.get("pod", "foreign", "-n", TEAM)["spec"].get("initContainers", [])
        return [one for one in made if one["name"] == "spanyard-collector"]

    wait_for("the webhook adds a collector", collected, within=60, every=1)

    # An upgrade changes what it is about, and leaves keys, data and the other pods.
    release("upgrade", settings={"logLevel": "debug"})
    second = pods()
    servers = [name for name in first if name.startswith(f"{RELEASE}-server")]
    assert servers[0] in second
    assert second[servers[0]]["metadata"]["uid"] == first[servers[0]]["metadata"]["uid"]
    assert not {n for n in first if "operator" in n} & {n for n in second if "operator" in n}
    again = place.get("secret", "spanyard-keys", "-n", RELEASE)
    assert again["data"] == keys["data"]

    webhooks = place.get("mutatingwebhookconfiguration", f"{RELEASE}-collect")["webhooks"]
    assert webhooks[0]["clientConfig"]["caBundle"], "an upgrade leaves what the operator wrote"

    place.helm("uninstall", RELEASE, "-n", RELEASE, "--wait", "--timeout=120s")
    claim = f"PersistentVolumeClaim/{RELEASE}-objects"

    def left() -> set[str]:
        return {
            f"{one['kind']}/{one['metadata']['name']}"
            for one in place.get(LITTER, "-n", RELEASE)
        } - {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}  # fmt: skip

    wait_for("nothing but the data is left", lambda: left() == {claim}, within=120, every=0.5)
    wide = place.get(
        "clusterroles,clusterrolebindings,mutatingwebhookconfigurations",
        "-l",
        f"app.kubernetes.io/instance={RELEASE}",
    )
    assert not wide
    assert place.get("crd", "projects.spanyard.dev")
    assert place.get("projects.spanyard.dev", "support", "-n", TEAM)
