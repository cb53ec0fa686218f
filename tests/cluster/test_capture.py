"""The collector in a real pod: both ways to capture, through rotation, crashes and the pod's end.

The pods are made here as the operator makes them, with the manifest's own functions, and store to
the bucket directly: what is proven is the way from a container's output to storage.
"""

import contextlib
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from spanyard_core.chunks import check_chunk, decode_facts, decoded_blocks
from spanyard_core.storage import Storage, open_storage
from spanyard_operator.pod.capture import Capture, choose_capture
from spanyard_operator.pod.collector import (
    CollectorOptions,
    PodOwner,
    collector_container,
    collector_rules,
    collector_volumes,
    security_context,
    spans_mount,
    telemetry_env,
)
from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.slow
T = TypeVar("T")
GRACE = 30
MANY = 200
"""Lines that the talker says in one turn."""
PROJECT = "shop"


@dataclass
class Place:
    """A namespace, and the objects of the pods in it."""

    cluster: Cluster
    namespace: str
    capture: Capture
    storage_url: str

    @property
    def project(self) -> str:
        return f"{self.namespace}.{PROJECT}"

    def storage(self) -> Storage:
        secret = {
            "access_key_id": self.cluster.bucket.environ["AWS_ACCESS_KEY_ID"],
            "secret_access_key": self.cluster.bucket.environ["AWS_SECRET_ACCESS_KEY"],
        }
        return open_storage(self.storage_url, options=secret)

    async def lines(self, signal: str = "logs") -> list[dict[str, Any]]:
        """All that is stored, by writer and number."""
        import msgspec

        storage, found = self.storage(), []
        try:
            async for info in storage.list(f"observability/{signal}/{self.project}/"):
                data = await storage.read(info.key)
                assert check_chunk(data).name.key() == info.key
                text = b"".join(decoded_blocks(data[decode_facts(data)[1] :]))
                found += [msgspec.json.decode(line) for line in text.splitlines()]
        finally:
            await storage.close()
        return sorted(found, key=lambda line: (line["writer"], line["seq"]))

    async def said(self, container: str = "server") -> list[str]:
        """Messages of a container, run after run."""
        return [
            line["message"] for line in await self.lines() if line.get("container") == container
        ]

    def run(self, name: str, script: str, **pod: Any) -> None:
        """A pod with one container of ours and one that runs a Python script."""
        owner = PodOwner(self.namespace, PROJECT, uid="u-1", deployment=name)
        options = CollectorOptions(
            image=self.cluster.image("sidecar"),
            storage=self.storage_url,
            flush_interval="1s",
            env=[{"name": n, "value": v} for n, v in self.cluster.bucket.environ.items()],
        )
        server = {
            "name": "server",
            "image": self.cluster.image("test-python"),
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-u", "-c", script],
            "readinessProbe": {
                "exec": {"command": ["test", "-f", "/tmp/all"]},
                "periodSeconds": 1,
            },
            "env": telemetry_env(owner),
            "volumeMounts": [spans_mount()],
            "securityContext": {
                **security_context(),
                "readOnlyRootFilesystem": False,
            },
        }
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"spanyard.dev/project": PROJECT},
                },
                "spec": {
                    "serviceAccountName": "spanyard-runner",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": GRACE,
                    "initContainers": [
                        collector_container(options, owner, self.capture, grace=GRACE)
                    ],
                    "containers": [server],
                    "volumes": collector_volumes(options, self.capture),
                    "restartPolicy": "Always",
                    **pod,
                },
            }
        )

    def pod(self, name: str) -> Any:
        return self.cluster.get("pod", name, "-n", self.namespace)

    def delete(self, name: str, *how: str) -> None:
        """Returns when it is gone."""
        self.cluster.kubectl("delete", "pod", name, "-n", self.namespace, *how)


@contextlib.contextmanager
def made(cluster: Cluster, capture: Capture) -> Iterator[Place]:
    namespace = f"k4-{capture.lower()}-{secrets.token_hex(3)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if capture == "api" else {}
    metadata = {"name": namespace, "labels": labels}
    assert choose_capture({"metadata": metadata}).mode == capture
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    account = {"name": "spanyard-runner", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    role = {"name": "spanyard-collector", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": role,
            "rules": collector_rules(),
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "spanyard-collector"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    )
    try:
        yield Place(cluster, namespace, capture, cluster.bucket.under(namespace))
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module", params=["hostPath", "api"])
def place(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Place]:
    with made(cluster, request.param) as ready:
        yield ready


def wait_for(what: str, look: Callable[[], T | None], *, within: float = 240.0) -> T:
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        time.sleep(0.5)
    return found


def status(pod: Any, container: str = "server") -> dict[str, Any]:
    found = pod["status"].get("containerStatuses", []) + pod["status"].get(
        "initContainerStatuses", []
    )
    return next((one for one in found if one["name"] == container), {})


def is_running(place: Place, name: str) -> Any:
    return wait_for(f"{name} to run", lambda: status(place.pod(name)).get("started") or None)


TALKER = """
import signal, sys, time
def end(*_):
    for n in range(500):
        print("last", n)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
n = 0
while True:
    for _ in range({many}):
        print("line", n, "x" * 80)
        n += 1
        if n == {all}:
            print("all")
            open("/tmp/all", "w").close()
            signal.pause()
    time.sleep(0.1)
"""


async def test_all_lines_are_stored_once_through_rotations_and_the_last_words_too(
    place: Place,
) -> None:
    """2.5 MB over two files of 1 MiB or more."""
    count = 25_000
    place.run("talker", TALKER.format(many=MANY, all=count))
    is_running(place, "talker")
    await_all(place, "talker")
    place.delete("talker")
    said = [m.rpartition(" x")[0] if m.startswith("line") else m for m in await place.said()]
    doubled = [text for text, times in Counter(said).items() if times > 1]
    assert not doubled
    expected = [*(f"line {n}" for n in range(count)), "all", *(f"last {n}" for n in range(500))]
    missing = set(expected) - set(said)
    gaps = [line for line in await place.lines("gaps") if line["event"] == "gap"]
    if place.capture == "hostPath":
        assert not missing
        assert not gaps
    else:
        # Its guarantee is weaker: what a rotation takes away is told, but for the milliseconds
        # between the kubelet's rename of a file and the runtime's reopening of it.
        passed_by = [] if gaps else holes(expected, missing)
        assert len(passed_by) <= ROTATIONS, passed_by
        assert max(passed_by, default=0) <= MANY, passed_by
    assert said == [text for text in expected if text not in missing]
    assert said[-500:] == expected[-500:]
    ends = [line for line in await place.lines("gaps") if line["event"] == "end"]
    assert len([line for line in ends if "/server/" in line["writer"]]) == 1


ROTATIONS = 3
"""That a log of 2.5 MB, 3.2 as the kubelet writes it, can have at 1 MiB each."""


def holes(expected: list[str], missing: set[str]) -> list[int]:
    """Lines that are missing one after the other."""
    runs = itertools.groupby(expected, key=lambda text: text in missing)
    return [len(list(texts)) for is_missing, texts in runs if is_missing]


def await_all(place: Place, name: str) -> None:
    wait_for("the last line", lambda: status(place.pod(name)).get("ready") or None)


CRASHER = """
import os, sys, time
for n in range(300):
    print("run", os.environ["SPANYARD_POD_NAME"], time.time_ns(), n)
print("done")
time.sleep(4)
sys.exit(1)
"""


async def test_every_run_of_a_container_that_crashes_is_stored_under_its_own_number(
    place: Place,
) -> None:
    place.run("crasher", CRASHER)
    # By its number: a container that is made and does not run yet is said to wait, too.
    wait_for("its third end", lambda: ended(status(place.pod("crasher")), after_restarts=2))
    place.delete("crasher")
    lines = [x for x in await place.lines() if x["pod"] == "crasher" and x["container"] == "server"]
    by_run: dict[str, list[str]] = {}
    for line in lines:
        by_run.setdefault(line["writer"].rpartition("@")[0], []).append(line["message"])
    assert [len(messages) for messages in by_run.values()] == [301] * len(by_run)
    assert len(by_run) >= 3
    assert all(messages[-1] == "done" for messages in by_run.values())


def ended(container: dict[str, Any], *, after_restarts: int) -> bool:
    """So many restarts have run, and the last of them has ended."""
    state, count = container.get("state", {}), container.get("restartCount", 0)
    if count > after_restarts:
        return True
    waits = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
    return bool(count == after_restarts and (waits or "terminated" in state))


def collects(place: Place, name: str, kills: int) -> bool:
    """Its collector runs, after that many kills."""
    now = status(place.pod(name), "spanyard-collector")
    return now.get("restartCount") == kills and "running" in now["state"]


async def test_a_collector_that_is_killed_loses_nothing_and_the_server_never_notices(
    place: Place,
) -> None:
    place.run("victim", TALKER.format(many=20, all=4000))
    is_running(place, "victim")
    for kills in range(2):
        time.sleep(3)
        wait_for("the collector runs", lambda wanted=kills: collects(place, "victim", wanted))
        place.cluster.kill(place.namespace, "victim", "spanyard-collector")
    await_all(place, "victim")
    # The kubelet waits 10 s with the second start, and starts nothing in a pod that ends.
    wait_for("the collector runs again", lambda: collects(place, "victim", 2))
    assert status(place.pod("victim")).get("restartCount") == 0
    place.delete("victim")
    lines = [x for x in await place.lines() if x["pod"] == "victim" and x["container"] == "server"]
    said = [line["message"] for line in lines if line["message"].startswith("line")]
    assert [int(text.split()[1]) for text in said] == list(range(4000))


async def test_a_collector_with_wrong_settings_keeps_no_server_from_starting(place: Place) -> None:
    wrong = Place(place.cluster, place.namespace, place.capture, "s4://no such storage")
    wrong.run("misled", "import time; open('/tmp/all', 'w').close(); time.sleep(600)")

    def is_ready() -> bool:
        conditions = wrong.pod("misled")["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    wait_for("the pod to be ready", is_ready)
    wait_for("the collector's complaint", lambda: "storage" in wrong.cluster.kubectl(
        "logs", "misled", "-n", place.namespace, "-c", "spanyard-collector"
    ))  # fmt: skip
    wrong.delete("misled", "--grace-period=3")
