"""Servers on a real node: one that serves, and those that do not, each in another way. The reason, the
exit code and the last lines are those of the kubelet, not of a table.

The operator's reconcilers run in this process, for a namespace of their own. All Deployments are
applied at once, and looked at one after the other: the waiting is shared.
"""

import asyncio
import json
import os
import secrets
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.binaries import kept
from tests.cluster.cluster import Cluster
from tests.cluster.operating import operating
from tests.cluster.stack import leads_there

pytestmark = [pytest.mark.slow]

PATIENCE = 150.0
PYTHON = "localhost/spanyard/test-python:test"
AGENT = "python3 -m http.server $PORT --directory /etc"
EATS = "exec python3 -c 'x = [bytearray(1 << 20) for _ in range(9999)]'"


@dataclass(frozen=True)
class Case:
    """A server that does not serve, and what is told of it."""

    reason: str
    spec: Mapping[str, Any]
    exit_code: int | None = None
    said: str = ""
    """In the message."""
    last: str = ""
    """Its last line."""

    def told_by(self, failure: Mapping[str, Any]) -> bool:
        """All of it, and what to do."""
        return (
            failure.get("reason") == self.reason
            and self.exit_code in {None, failure.get("exitCode", 0)}
            and self.said in failure["message"]
            and (not self.last or failure.get("lastLines", [""])[-1] == self.last)
            and bool(failure.get("remedy"))
        )


CASES: dict[str, Case] = {
    "crash": Case("CrashLoop",
                  {"command": "sh -c 'echo opens the database; sleep 1; echo none >&2; exit 3'"},
                  exit_code=3, last="none"),
    "memory": Case("OutOfMemory", {"command": f'sh -c "echo eats; {EATS}"',
                                   "resources": {"limits": {"memory": "64Mi"}}},
                   exit_code=137, said="64Mi"),
    "command": Case("CommandNotFound", {"command": "pnpm-of-nobody start"}, exit_code=127,
                    said="pnpm-of-nobody"),
    "deaf": Case("NeverReady", {"command": "sh -c 'echo listens to nobody; exec sleep 600'",
                                "health": {"startupTimeout": "4s"}},
                 said="port 8080", last="listens to nobody"),
    "graceful": Case("NeverReady",  # it ends well, so its status has no last lines
                     {"command": "sh -c \"trap 'echo goodbye; exit 0' TERM; echo waits; "
                                 'while :; do sleep 0.2; done"',
                      "health": {"startupTimeout": "4s"}}, exit_code=0, last="goodbye"),
    "path": Case("NeverReady", {"command": AGENT,
                                "health": {"path": "/nothing", "startupTimeout": "15s"}},
                 said="GET /nothing"),
    "image": Case("ImagePullFailed", {"image": "localhost/nobody/has:it"},
                  said="localhost/nobody/has:it"),
    "root": Case("InvalidSpec", {"podSecurityContext": {"runAsUser": 0}}, said="non-root policy"),
    "room": Case("Unschedulable", {"nodeSelector": {"there": "is-none"}}, said="node"),
    "fetch": Case("ArtifactInvalid", {"image": None, "buildRef": {"name": "made"},
                                      "runtimeImage": PYTHON}, said="made"),
}  # fmt: skip


def server(name: str, namespace: str, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "project": "shop",
        "image": PYTHON,
        "command": AGENT,
        "podSecurityContext": {"runAsUser": 65532},
        "progressDeadline": "100s",
        "terminationGracePeriod": "8s",
        **changes,
    }
    return {
        "apiVersion": "spanyard.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in spec.items() if value is not None},
    }


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    assert cluster.image("test-python") == PYTHON
    name = f"k3-{secrets.token_hex(3)}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    about = {"namespace": name}
    cluster.apply(
        {"apiVersion": "spanyard.dev/v1alpha1", "kind": "Project",
         "metadata": {"name": "shop", **about}, "spec": {}},
        {"apiVersion": "spanyard.dev/v1alpha1", "kind": "Build",
         "metadata": {"name": "made", **about},
         "spec": {"project": "shop", "source": {"git": {"url": "https://git.example.com/x"}}}},
    )  # fmt: skip
    status = (
        '{"status":{"phase":"Succeeded","artifact":{"key":"builds/x/artifact.tar.zst","size":1,'
        f'"digest":"sha256:{"a" * 64}"}}}}}}'
    )
    cluster.kubectl(
        "patch", "builds.spanyard.dev", "made", "-n", name, "--subresource=status",
        "--type=merge", "-p", status,
    )  # fmt: skip
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@asynccontextmanager
async def working(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[None]:
    """The operator, without a gateway: nothing that a server says is stored, and it serves."""
    async with operating(
        cluster.kubeconfig,
        namespace,
        folder,
        gateway="http://127.0.0.1:9",
        sidecar_image=cluster.image("sidecar"),
        runtime_image=PYTHON,
    ):
        yield


async def until(cluster: Cluster, namespace: str, name: str, true: Any) -> dict[str, Any]:
    """The status, when it is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = await asyncio.to_thread(
            cluster.get, "deployments.spanyard.dev", name, "-n", namespace
        )
        status: dict[str, Any] = (found or {}).get("status", {})
        if true(status):
            return status
        if time.monotonic() > deadline:
            pods = cluster.kubectl("get", "pods", "-n", namespace, "-o", "wide", check=False)
            raise AssertionError(f"{name}: {status}\n{pods}")
        await asyncio.sleep(0.5)


async def test_servers_on_a_real_node(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async with working(cluster, namespace, tmp_path):
        every = [server(name, namespace, **case.spec) for name, case in CASES.items()]
        good = server("good", namespace, health={"path": "/hostname"})
        await asyncio.to_thread(cluster.apply, good, *every)
        await serves(cluster, namespace)
        for name, case in CASES.items():
            # The reason may stand there while the container still ends: then without its last line.
            await until(cluster, namespace, name, lambda s, c=case: c.told_by(s.get("failure", {})))
        await a_bad_revision_replaces_nobody(cluster, namespace)
        await ends_soon(cluster, namespace)


async def serves(cluster: Cluster, namespace: str) -> None:
    status = await until(cluster, namespace, "good", lambda s: s.get("reason") == "Serving")
    assert status["readyReplicas"] == 1
    service = cluster.get("service", "good-server", "-n", namespace)
    address = f"http://{service['spec']['clusterIP']}"
    await asyncio.to_thread(leads_there, address)
    with urllib.request.urlopen(f"{address}/hostname", timeout=20) as answer:
        assert answer.status == 200


async def a_bad_revision_replaces_nobody(cluster: Cluster, namespace: str) -> None:
    crash = CASES["crash"].spec["command"]
    bad = server("good", namespace, health={"path": "/hostname"}, command=crash)
    await asyncio.to_thread(cluster.apply, bad)
    status = await until(
        cluster, namespace, "good", lambda s: s.get("failure", {}).get("reason") == "CrashLoop"
    )
    assert (status["revision"], status["reason"]) == (1, "RollingOut")
    back = server("good", namespace, health={"path": "/hostname"})
    await asyncio.to_thread(cluster.apply, back)
    await until(cluster, namespace, "good", lambda s: s.get("revision") == 3 and s["reason"] == "Serving")  # fmt: skip


async def ends_soon(cluster: Cluster, namespace: str) -> None:
    """SIGTERM reaches a program that has no handler for it: 143, not the 137 of a kill after its time.

    The collector goes on for its own: nobody takes what it has to send.
    """
    selector = "spanyard.dev/deployment=good,spanyard.dev/revision=3"
    chosen = ("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
    # Watched: between two looks an ended container and its pod may come and go.
    watch = await asyncio.create_subprocess_exec(
        kept().path("kubectl"), *chosen, "--watch", "--output-watch-events",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}, limit=1 << 24,
    )  # fmt: skip
    assert watch.stdout is not None
    codes: set[int] = set()
    gone = False
    try:
        told = await asyncio.wait_for(watch.stdout.readline(), PATIENCE)  # it is there, and watches
        await asyncio.to_thread(
            cluster.kubectl, "delete", "deployments.spanyard.dev", "good", "-n", namespace
        )
        # To the end of what is watched: the API server's own lists are ahead of it.
        async with asyncio.timeout(PATIENCE):
            while not gone:
                more = await watch.stdout.read(1 << 16)
                assert more, "the watch ended"
                told += more
                codes, gone = ends(objects(told.decode(errors="ignore")))
    finally:
        watch.terminate()
        await watch.wait()
    assert codes == {143}


def ends(events: Iterable[Any]) -> tuple[set[int], bool]:
    """Exit codes of the pods' containers, and whether there were pods and all are gone."""
    codes: set[int] = set()
    there: dict[str, bool] = {}
    for event in events:
        pod = event["object"]
        there[pod["metadata"]["name"]] = event["type"] != "DELETED"
        for one in pod["status"].get("containerStatuses", []):
            if end := one["state"].get("terminated"):
                codes.add(end["exitCode"])
    return codes, bool(there) and not any(there.values())


def objects(text: str) -> Iterator[Any]:
    """Of JSON, one after the other; what is cut off at the end is left out."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        try:
            found, end = decoder.raw_decode(text)
        except ValueError:
            return
        yield found
        text = text[end:]
