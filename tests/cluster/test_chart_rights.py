"""The rights that the chart gives are enough for what the components do, and no more is needed.

The operator itself runs under exactly its role, as a process, and works through the lives of a
build and a deployment; so does the gateway's view of resources. The API server refuses the rest.
"""

import asyncio
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.kube import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from spanyard_core.kube.client import KubeClient
from spanyard_core.kube.lease import Lease
from spanyard_gateway.kube_cache import KubeCache
from spanyard_gateway.kube_resources import KubeResources
from tests.cluster import chart
from tests.cluster.apiserver import ApiServer, running_api_server
from tests.cluster.controllers import play_kubelet, running_controllers
from tests.fakes.ports import own_port

SHA = "sha256:" + "ab" * 32
TEAM = "team-a"
SPANYARD = f"/apis/spanyard.dev/v1alpha1/namespaces/{TEAM}"


@pytest.fixture(scope="module", params=["cluster-wide", "namespaced"])
def server(
    request: pytest.FixtureRequest, helm: Path, api_server: ApiServer
) -> Iterator[ApiServer]:
    """The chart is installed, with real controllers for Deployments."""
    with running_api_server() as own, running_controllers(own):
        for name in ("spanyard", TEAM, "team-b"):
            assert (
                own.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status
                == 201
            )
        folder = request.getfixturevalue("tmp_path_factory").mktemp("kubeconfig")
        values = "least" if request.param == "cluster-wide" else "namespaced"
        chart.helm(
            "install", "spanyard", str(chart.CHART), "--namespace", "spanyard",
            "--kubeconfig", str(own.kubeconfig(folder / "kubeconfig")),
            "--values", str(chart.values_file(values)), "--set", "crds.install=true",
        )  # fmt: skip
        yield own


def as_account(server: ApiServer, name: str) -> ApiServer:
    """The same server, asked by a ServiceAccount of the chart."""
    made = server.request(
        "POST", f"/api/v1/namespaces/spanyard/serviceaccounts/{name}/token", {"spec": {}}
    )
    return dataclasses.replace(server, token=made.body["status"]["token"])


def until(what: str, found: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        made = found()
        if made:
            return made
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


def is_narrow(server: ApiServer) -> bool:
    place = "/apis/rbac.authorization.k8s.io/v1/clusterroles/spanyard-operator"
    return server.request("GET", place).status == 404


@contextmanager
def running_operator(server: ApiServer, folder: Path) -> Iterator[Path]:
    """As a process, with the rights of its account alone. Gives its log."""
    config = as_account(server, "spanyard-operator").kubeconfig(folder / "operator.kubeconfig")
    (folder / "objects").mkdir()
    log = folder / "operator.log"
    environ = os.environ | {
        "SPANYARD_KUBECONFIG": str(config),
        "SPANYARD_STORAGE": f"file://{folder / 'objects'}",
        "SPANYARD_GATEWAY": "http://spanyard-gateway.spanyard",
        "SPANYARD_OWN_NAMESPACE": "spanyard",
        "SPANYARD_NAMESPACES": "team-a,team-b" if is_narrow(server) else "",
        "SPANYARD_LISTEN": "127.0.0.1",
        "SPANYARD_PORT": "0",
        "SPANYARD_WEBHOOK_PORT": str(own_port()),
        "SPANYARD_LOG_LEVEL": "debug",
        "SPANYARD_KEEP_PODS": "0s",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "spanyard_operator"], env=environ, stdout=out, stderr=out
        )
    try:
        yield log
    finally:
        print(log.read_text("utf-8")[-6000:])
        process.terminate()
        process.wait(30)


def apply(server: ApiServer, kind: str, name: str, spec: dict[str, Any]) -> None:
    body = {
        "apiVersion": "spanyard.dev/v1alpha1", "kind": kind.capitalize(),
        "metadata": {"name": name}, "spec": spec,
    }  # fmt: skip
    made = server.request("POST", f"{SPANYARD}/{kind}s", body)
    assert made.status == 201, made.message


def test_the_operator_works_with_the_charts_rights(server: ApiServer, tmp_path: Path) -> None:
    with running_operator(server, tmp_path) as log:
        # Everything that a Build needs: pod, account, claim of the cache, rights of capture `api`.
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        place = f"/api/v1/namespaces/{TEAM}"
        merge = "application/merge-patch+json"
        server.request("PATCH", place, {"metadata": {"labels": labels}}, kind=merge)
        apply(server, "project", "support", {})
        source = {"git": {"url": "https://git.example.com/team/agent.git"}}
        apply(server, "build", "support-1", {"project": "support", "source": source, "cache": {}})
        pods = f"/api/v1/namespaces/{TEAM}/pods"
        pod = until(
            "the pod of the build",
            lambda: server.request("GET", f"{pods}/support-1-build-1").body.get("metadata"),
        )
        failed = {
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource.",
        }  # fmt: skip
        server.request("PATCH", f"{pods}/{pod['name']}/status", {"status": failed}, kind=merge)

        def of_build() -> dict[str, Any]:
            found: dict[str, Any] = server.request("GET", f"{SPANYARD}/builds/support-1").body
            return found.get("status") or {}

        until("the build's status", lambda: of_build().get("attempt"))
        server.request(
            "PATCH", f"{SPANYARD}/builds/support-1", {"spec": {"cancel": True}}, kind=merge
        )
        until("its end", lambda: of_build().get("phase") in {"Cancelled", "Failed"})

        # And a Deployment: children, an Ingress, its rollout, its end.
        server_spec = {
            "project": "support", "image": "example.com/agent:1",
            "expose": {"ingress": {"spec": {"rules": [{"host": "a.example.com"}]}}},
            "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "ai", "key": "k"}}}],
        }  # fmt: skip
        secret = {"metadata": {"name": "ai"}, "stringData": {"k": "v"}}
        assert server.request("POST", f"/api/v1/namespaces/{TEAM}/secrets", secret).status == 201
        apply(server, "deployment", "support", server_spec)
        networking = f"/apis/networking.k8s.io/v1/namespaces/{TEAM}/ingresses"
        until(
            "the Ingress",
            lambda: server.request("GET", f"{networking}/support-server").status == 200,
        )

        def running() -> list[dict[str, Any]]:
            query = f"{pods}?labelSelector=spanyard.dev/deployment=support"
            found: list[dict[str, Any]] = server.request("GET", query).body["items"]
            return found

        for each in until("the server's pod", running):
            play_kubelet(server, each, ready=True)

        def serves() -> bool:
            status = server.request("GET", f"{SPANYARD}/deployments/support").body.get("status", {})
            return any(
                c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])
            )

        until("Ready", serves)
        for kind, name in (("deployments", "support"), ("builds", "support-1")):
            assert server.request("DELETE", f"{SPANYARD}/{kind}/{name}").status == 200
            gone = f"{SPANYARD}/{kind}/{name}"
            until(f"the end of {name}", lambda gone=gone: server.request("GET", gone).status == 404)
        events = server.request("GET", f"/api/v1/namespaces/{TEAM}/events").body["items"]
        assert {e["involvedObject"]["kind"] for e in events} >= {"Build", "Deployment"}
        webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

        def trusted() -> Any:
            found = server.request("GET", f"{webhooks}/spanyard-collect").body["webhooks"][0]
            return found["clientConfig"].get("caBundle")

        until("the webhook's authority", trusted)
        told = log.read_text("utf-8")
        assert "forbidden" not in told.lower(), [
            line for line in told.splitlines() if "forbidden" in line.lower()
        ]
    keys = server.request("GET", "/api/v1/namespaces/spanyard/secrets/spanyard-keys")
    assert set(keys.body["data"]) == {"ed25519.pem", "ed25519.pub", "ingester-token"}


@asynccontextmanager
async def asking(server: ApiServer, account: str, folder: Path) -> AsyncIterator[KubeClient]:
    config = as_account(server, account).kubeconfig(folder / "kubeconfig")
    kube = await KubeClient.from_kubeconfig(str(config))
    try:
        yield kube
    finally:
        await kube.close()
        await asyncio.sleep(0.25)  # TLS says goodbye; aiohttp does not wait for it


async def test_the_gateway_works_with_the_charts_rights(server: ApiServer, tmp_path: Path) -> None:
    async with asking(server, "spanyard-gateway", tmp_path) as kube:
        review = {"spec": {"token": "nobody's"}}
        made = await kube.create(
            TOKEN_REVIEWS,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", **review},
        )
        assert not made["status"].get("authenticated")
        asked = {"user": "x", "resourceAttributes": {"verb": "get", "resource": "pods"}}
        made = await kube.create(
            SUBJECT_ACCESS_REVIEWS,
            {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": asked,
            },
        )  # fmt: skip
        assert made["status"]["allowed"] is False
        namespaces = ["team-a", "team-b"] if is_narrow(server) else []
        cache = KubeCache(kube, SystemClock(), namespaces=namespaces)
        watching = asyncio.create_task(cache.run())
        try:
            resources = KubeResources(kube, cache)
            manifest = {
                "apiVersion": "spanyard.dev/v1alpha1", "kind": "Project",
                "metadata": {"name": "by-hand", "namespace": TEAM},
            }  # fmt: skip
            await resources.apply([manifest])
            async with asyncio.timeout(60):
                while cache.stale_seconds or not cache.find("Project", f"{TEAM}.by-hand"):
                    await asyncio.sleep(0.05)
            assert await resources.get("Project", f"{TEAM}.by-hand")
            await resources.events("Project", f"{TEAM}.by-hand")
            await resources.patch("Project", f"{TEAM}.by-hand", {"description": "x"})
            await resources.delete("Project", f"{TEAM}.by-hand")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def test_the_ingester_takes_its_lease_and_nothing_else(
    server: ApiServer, tmp_path: Path
) -> None:
    account = as_account(server, "spanyard-ingester")
    async with asking(server, "spanyard-ingester", tmp_path) as kube:
        lease = Lease(kube, "spanyard", "spanyard-ingester", "me", clock=SystemClock())
        held = asyncio.Event()

        async def work() -> None:
            held.set()
            await asyncio.sleep(3)  # a renewal is seen

        async with asyncio.timeout(60):
            await lease.run(work())
        assert held.is_set()
    for path in ("/api/v1/secrets", f"/api/v1/namespaces/{TEAM}/pods", f"{SPANYARD}/projects"):
        assert account.request("GET", path).status == 403


def test_what_is_not_theirs_is_refused(server: ApiServer) -> None:
    operator, gateway = (as_account(server, f"spanyard-{name}") for name in ("operator", "gateway"))
    secret = {"metadata": {"name": "x"}}
    assert operator.request("POST", f"/api/v1/namespaces/{TEAM}/secrets", secret).status == 403
    assert gateway.request("GET", f"/api/v1/namespaces/{TEAM}/secrets").status == 403
    assert gateway.request("GET", "/api/v1/namespaces/spanyard/secrets/spanyard-keys").status == 403
    own = f"/api/v1/namespaces/{TEAM}/pods"
    assert gateway.request("POST", own, {"metadata": {"name": "x"}}).status == 403
    # Whoever may make Roles could make themselves an administrator: RBAC holds them to their own.
    role = {
        "metadata": {"name": "all"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    }
    place = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TEAM}/roles"
    assert operator.request("POST", place, role).status == 403
    if is_narrow(server):
        assert operator.request("GET", "/api/v1/namespaces/default/pods").status == 403
        assert operator.request("GET", "/apis/spanyard.dev/v1alpha1/builds").status == 403
