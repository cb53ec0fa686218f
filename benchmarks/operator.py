"""Operator: a thousand Deployments from nothing to serving; API writes, time, memory.

    python -m benchmarks.operator [--deployments 1000] [--namespaces 10]

Method: a real API server (etcd, kube-apiserver) on loopback with the Deployments, their builds and
projects in it, then the real `spanyard-operator` process. `applied`: every child is there and every
status says that it starts. Then the apps controllers are played: each gets its ReplicaSet, with its
replica ready; `serving`: every status says so. Writes are the operator's own count of requests that
change something. Memory is the operator's process alone, as is its CPU; the clock is that of a machine
on which the API server and etcd work beside it.
"""

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    BUILDS,
    CUSTOM_RESOURCES,
    DEPLOYMENTS,
    NAMESPACES,
    PROJECTS,
    REPLICA_SETS,
    Api,
    Kube,
    KubeError,
    KubeUnavailableError,
    Object,
)
from spanyard_core.kube.client import KubeClient
from spanyard_core.resources import crds
from spanyard_core.resources.kinds import PLURALS
from tests.cluster.apiserver import running_api_server

GOAL_SECONDS, GOAL_WRITES, GOAL_MEMORY = 60.0, 4.0, 150
TICKS = os.sysconf("SC_CLK_TCK")
AT_ONCE = 16
"""Requests of this program at a time."""
PATIENCE = 600.0
_WRITES = re.compile(
    r'^spanyard_operator_api_writes_total\{resource="(?P<what>[^"]+)",verb="(?P<verb>\w+)"\} (?P<n>\S+)$',
    re.MULTILINE,
)
_IMAGE = "registry.example.com/team/server:1"


class Process:
    """The operator's process, from outside."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port
        self._before = -1

    def rests(self, statuses: int) -> bool:
        """Whether so many statuses were written, or none since the last look."""
        written = self.writes()["merge deployments/status"]
        rested, self._before = written == self._before, written
        return written >= statuses or rested

    def cpu(self) -> float:
        """Seconds of user and system time, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, what: str) -> float:
        """MiB; `VmRSS` or its peak, `VmHWM`."""
        found = re.search(
            rf"{what}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text("utf-8")
        )
        assert found is not None
        return int(found[1]) / 1024

    def writes(self) -> Counter[str]:
        """Requests that changed something, by verb and resource."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                text = answer.read().decode()
        except OSError:  # it starts
            return Counter()
        found = _WRITES.finditer(text)
        return Counter({f"{m['verb']} {m['what']}": int(float(m["n"])) for m in found})


async def each(
    work: Callable[[str, int], Awaitable[object]], places: Iterable[tuple[str, int]]
) -> None:
    """Some at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(namespace: str, number: int) -> None:
        async with room:
            await work(namespace, number)

    await asyncio.gather(*(one(*place) for place in places))


def named(name: str, **rest: Any) -> Object:
    return {"metadata": {"name": name}, **rest}


async def install(kube: Kube, namespaces: list[str]) -> None:
    """CRDs, namespaces, a project each, and a build that succeeded."""
    for kind in PLURALS:
        await kube.create(CUSTOM_RESOURCES, dict(crds.definition(kind)))
    for api in (PROJECTS, BUILDS, DEPLOYMENTS):
        await served(kube, api)
    for namespace in (*namespaces, "spanyard"):
        await kube.create(NAMESPACES, named(namespace))
    artifact = {"key": "builds/b/artifact.tar.zst", "digest": "sha256:" + "a" * 64, "size": 1}
    for namespace in namespaces:
        await kube.create(PROJECTS, named("project", spec={}), namespace)
        source = {"git": {"url": "https://git.example.com/x"}}
        spec = {"project": "project", "source": source}
        await kube.create(BUILDS, named("build", spec=spec), namespace)
        status = {"phase": "Succeeded", "artifact": artifact, "logComplete": True}
        await kube.merge(BUILDS, "build", {"status": status}, namespace, subresource="status")


async def served(kube: Kube, api: Api) -> None:
    while True:
        try:
            await kube.list(api, "default")
        except (KubeError, KubeUnavailableError):
            await asyncio.sleep(0.2)
        else:
            return


def server(number: int) -> Object:
    """As a person would write it."""
    spec = {
        "project": "project",
        "command": "node server.js",
        "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "NUMBER", "value": str(number)}],
        "resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "health": {"path": "/healthz"},
        "follow": True,
    }
    return named(f"server-{number}", spec=spec)


async def play_controllers(kube: Kube, child: Object) -> None:
    """The ReplicaSet of a child, its replica ready, and what the child's status says of it."""
    about, spec = child["metadata"], child["spec"]
    labels = {**spec["template"]["metadata"]["labels"], "pod-template-hash": "1"}
    owner = {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"], "uid": about["uid"],
        "controller": True,
    }  # fmt: skip
    body = {
        "metadata": {
            "name": f"{about['name']}-1",
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {**spec["template"], "metadata": {"labels": labels}},
        },
    }
    made = await kube.create(REPLICA_SETS, body, about["namespace"])
    counts = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
    for api, name, status in (
        (APPS_DEPLOYMENTS, about["name"], counts | {"updatedReplicas": 1}),
        (REPLICA_SETS, made["metadata"]["name"], counts),
    ):
        patch = {"status": status}
        await kube.merge(api, name, patch, about["namespace"], subresource="status")


@contextmanager
def operator(kubeconfig: Path, folder: Path) -> Iterator[Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (folder / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "spanyard_operator", "--kubeconfig", str(kubeconfig),
                "--own-namespace", "spanyard", "--storage", f"file://{folder / 'objects'}",
                "--gateway", "http://gateway.spanyard.svc", "--port", str(port),
                "--listen", "127.0.0.1", "--log-level", "warn",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield Process(process.pid, port)
        if process.poll() is not None:
            raise RuntimeError((folder / "operator.log").read_text("utf-8")[-3000:])
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def asking(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    kube = await KubeClient.from_kubeconfig(str(kubeconfig))
    try:
        yield kube
    finally:
        await kube.close()


async def until(true: Callable[[], Awaitable[bool]]) -> float:
    """The monotonic time at which it was seen, once a second."""
    deadline = time.monotonic() + PATIENCE
    while not await true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE:g} s")
        await asyncio.sleep(1.0)
    return time.monotonic()


async def count_by_reason(kube: Kube) -> Counter[str]:
    found = await kube.list(DEPLOYMENTS)
    return Counter(str(one.get("status", {}).get("reason", "")) for one in found)


async def measure(kubeconfig: Path, folder: Path, deployments: int, namespaces: int) -> bool:
    """Print the table; whether all goals were reached."""
    names = [f"team-{n}" for n in range(namespaces)]
    places = [(names[n % namespaces], n) for n in range(deployments)]
    async with asking(kubeconfig) as kube:
        await install(kube, names)
        await each(lambda ns, n: kube.create(DEPLOYMENTS, server(n), ns), places)
        print(f"{deployments} Deployments in {namespaces} namespaces", flush=True)
        begun = time.monotonic()
        with operator(kubeconfig, folder) as process:

            async def applied() -> bool:
                # Asking for all of them all the time would slow down what is measured.
                if not await asyncio.to_thread(process.rests, deployments):
                    return False
                return (await count_by_reason(kube))["Starting"] >= deployments

            done = await until(applied)
            first = done - begun, process.cpu(), process.memory("VmHWM")
            children = await kube.list(APPS_DEPLOYMENTS, labels="spanyard.dev/project")
            assert len(children) == deployments
            again = time.monotonic()
            by_name = {c["metadata"]["name"]: c for c in children}
            await each(lambda _, n: play_controllers(kube, by_name[f"server-{n}-server"]), places)

            async def serving() -> bool:
                if not await asyncio.to_thread(process.rests, 2 * deployments):
                    return False
                return (await count_by_reason(kube))["Serving"] >= deployments

            done = await until(serving)
            second = done - again, process.cpu() - first[1], process.memory("VmHWM")
            await asyncio.sleep(5)
            writes, rest = process.writes(), process.memory("VmRSS")
    once = {
        "apply serviceaccounts",
        "create leases",
        "merge leases",
        "create secrets",
        "merge projects/status",
        "merge builds/status",
    }
    per = sum(n for what, n in writes.items() if what not in once) / deployments
    print(f"{'':34}{'reached':>12}{'goal':>10}")
    row = "{:34}{:>12}{:>10}".format
    print(row("applied, s", f"{first[0]:.1f}", f"{GOAL_SECONDS:.0f}"))
    print(row("  CPU of the operator, s", f"{first[1]:.1f}", ""))
    print(row("serving, s (controllers played)", f"{second[0]:.1f}", ""))
    print(row("  CPU of the operator, s", f"{second[1]:.1f}", ""))
    print(row("API writes each, all in all", f"{per:.2f}", f"{GOAL_WRITES:.0f}"))
    print(row("memory peak, MiB", f"{max(first[2], second[2]):.0f}", f"{GOAL_MEMORY}"))
    print(row("memory at rest, MiB", f"{rest:.0f}", ""))
    print("all writes: " + ", ".join(f"{what} {n}" for what, n in sorted(writes.items())))
    return first[0] <= GOAL_SECONDS and per <= GOAL_WRITES and second[2] <= GOAL_MEMORY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--namespaces", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spanyard-bench-") as made, running_api_server() as api:
        folder = Path(made)
        kubeconfig = api.kubeconfig(folder / "kubeconfig")
        reached = asyncio.run(
            measure(kubeconfig, folder, arguments.deployments, arguments.namespaces)
        )
    if not reached:
        print("not all goals were reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
