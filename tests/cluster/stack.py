"""Spanyard itself in the test cluster: installed by its chart, asked through its gateway."""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from spanyard_core.storage import open_storage
from spanyard_core.storage.protocol import Storage
from tests.cluster import images
from tests.cluster.binaries import kept
from tests.cluster.cluster import Cluster
from tests.fakes.ports import own_port
from tests.fakes.processes import wait_for

ROOT = Path(__file__).parents[2]
RELEASE = os.environ.get("SPANYARD_TEST_RELEASE", "spanyard-e2e")
"""Also its namespace. Its operator works in `TEAM` alone, so that others may run beside it: two who
test in one cluster at a time name two."""
TEAM = f"{RELEASE}-team"
READY_SECONDS = 240.0
"""On two busy cores, with images of some hundred megabytes; forty are usual."""

T = TypeVar("T")


@dataclass
class Stack:
    """One release."""

    cluster: Cluster
    prefix: str
    """Of its objects in the bucket."""
    address: str
    """Of the gateway, from here."""
    _token: tuple[float, str] = field(default=(float("-inf"), ""))

    @property
    def storage_url(self) -> str:
        return self.cluster.bucket.under(self.prefix)

    def storage(self) -> Storage:
        """The bucket, with all rights."""
        environ = self.cluster.bucket.environ
        options = {
            "access_key_id": environ["AWS_ACCESS_KEY_ID"],
            "secret_access_key": environ["AWS_SECRET_ACCESS_KEY"],
        }
        return open_storage(self.storage_url, options=options)

    @property
    def token(self) -> str:
        """Of a service account that may see and change everything in `TEAM`."""
        made, token = self._token
        if time.monotonic() - made > 600:
            token = self.cluster.kubectl(
                "create", "token", "tester", "-n", TEAM, "--duration=1h"
            ).strip()
            self._token = (time.monotonic(), token)
        return token

    def get(self, path: str, **query: Any) -> Any:
        """What the gateway answers. Raises urllib.error.URLError, HTTPError."""
        asked = f"{self.address}{path}"
        if query:
            asked += "?" + urllib.parse.urlencode(query)
        headers = {"Authorization": f"Bearer {self.token}"}
        with urllib.request.urlopen(
            urllib.request.Request(asked, headers=headers), timeout=30
        ) as answer:
            return json.loads(answer.read())

    def found(self, path: str, **query: Any) -> Any:
        """The same, or None while nobody answers or it is not there."""
        try:
            return self.get(path, **query)
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def exported(self, project: str, **query: Any) -> list[dict[str, Any]]:
        """All records of a signal; none while nobody answers or nothing is known of it."""
        asked = f"{self.address}/projects/{project}/export?{urllib.parse.urlencode(query)}"
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(asked, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return [json.loads(line) for line in answer.read().splitlines()]
        except (OSError, http.client.HTTPException):
            return []

    def resource(self, kind: str, name: str) -> Any:
        """A Spanyard object as it is now."""
        return self.cluster.get(f"{kind.lower()}s.spanyard.dev", name, "-n", TEAM)

    def wait_for_phase(self, kind: str, name: str, *phases: str, within: float = 180.0) -> Any:
        """The object when its phase is one of these; fails with its status."""
        seen: list[Any] = []

        def look() -> Any:
            seen[:] = [self.resource(kind, name)]
            status = (seen[0] or {}).get("status", {})
            return seen[0] if status.get("phase") in phases else None

        try:
            return wait_for(f"{kind} {name}: {' or '.join(phases)}", look, within=within, every=0.5)
        except BaseException as error:
            status = (seen[0] or {}).get("status") if seen else None
            error.add_note(f"{kind} {name}: {json.dumps(status, indent=1)}")
            error.add_note(self.told())
            raise

    def wait_until_ready(self, name: str, *, within: float = 180.0) -> Any:
        """A Deployment when its condition Ready is true for its generation."""
        seen: list[Any] = [None]

        def look() -> Any:
            seen[0] = self.resource("Deployment", name)
            return seen[0] if seen[0] and ready(seen[0]) else None

        try:
            return wait_for(f"Deployment {name} is ready", look, within=within, every=0.5)
        except BaseException as error:
            error.add_note(f"{name}: {json.dumps((seen[0] or {}).get('status'), indent=1)}")
            error.add_note(self.told())
            raise

    def told(self) -> str:
        """What explains a failure: pods, events, the operator's log."""
        return "\n".join(
            self.cluster.kubectl(*words, check=False)[-4000:]
            for words in (
                ("get", "pods", "-n", TEAM, "-o", "wide"),
                ("get", "pods", "-n", RELEASE, "-o", "wide"),
                ("get", "events", "-n", TEAM, "--sort-by=.lastTimestamp"),
                ("logs", "-n", RELEASE, f"deployment/{RELEASE}-operator", "--tail=30"),
            )
        )

    def pods(self, labels: str = "app.kubernetes.io/managed-by=spanyard") -> list[Any]:
        return list(self.cluster.get("pods", "-n", TEAM, "-l", labels) or [])


def ready(resource: Mapping[str, Any]) -> bool:
    """Its condition Ready is true, and what was judged is what it is now."""
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return False
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])
    )


@contextlib.contextmanager
def installed(cluster: Cluster) -> Iterator[Stack]:
    """The chart with embedded ClickHouse and objects in the cluster's bucket; removed at the end.

    With `SPANYARD_KEEP_STACK=1` it stays, and the one that was kept is taken: for who writes tests.
    """
    keep = os.environ.get("SPANYARD_KEEP_STACK") == "1"
    if keep and (prefix := _kept(cluster)):
        with reached(cluster, RELEASE, f"{RELEASE}-gateway", awaited=False) as address:
            yield Stack(cluster, prefix, address)
        return
    remove(cluster)
    prefix = f"e2e-{secrets.token_hex(4)}"
    for namespace in (RELEASE, TEAM):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bucket", "namespace": RELEASE},
            "stringData": dict(cluster.bucket.environ),
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "tester", "namespace": TEAM},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "tester", "namespace": TEAM},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": f"{RELEASE}-editor",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "tester", "namespace": TEAM}],
        },
    )
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values(cluster, prefix), file)
            file.flush()
            cluster.helm(
                "install", RELEASE, str(ROOT / "charts" / "spanyard"), "-n", RELEASE,
                "-f", file.name,
            )  # fmt: skip
        with reached(cluster, RELEASE, f"{RELEASE}-gateway", awaited=False) as address:
            stack = Stack(cluster, prefix, address)
            _wait_for_release(stack)
            yield stack
    finally:
        if not keep:
            remove(cluster)


def _kept(cluster: Cluster) -> str:
    """The prefix of the release that is there; empty: there is none."""
    try:
        said = json.loads(cluster.helm("get", "values", RELEASE, "-n", RELEASE, "-o", "json"))
    except RuntimeError:
        return ""
    return str(said["storage"]["prefix"])


def _wait_for_release(stack: Stack) -> None:
    def look() -> bool:
        pods = stack.cluster.get("pods", "-n", RELEASE) or []
        conditions = [
            {c["type"]: c["status"] for c in pod["status"].get("conditions", [])} for pod in pods
        ]
        return len(pods) >= 2 and all(one.get("Ready") == "True" for one in conditions)

    try:
        wait_for("the release is ready", look, within=READY_SECONDS, every=0.5)
    except BaseException as error:
        error.add_note(stack.told())
        error.add_note(
            stack.cluster.kubectl(
                "logs", "-n", RELEASE, f"statefulset/{RELEASE}-server", "--tail=30", check=False
            )
        )
        raise


def remove(cluster: Cluster) -> None:
    """The release and its namespaces, whatever state they are in."""
    for kind in ("deployments", "builds", "projects"):
        cluster.kubectl(
            "delete", f"{kind}.spanyard.dev", "--all", "-n", TEAM, "--timeout=60s", check=False
        )
    with contextlib.suppress(RuntimeError):  # it is not there
        cluster.helm("uninstall", RELEASE, "-n", RELEASE, "--wait", "--timeout=60s")
    cluster.kubectl(
        "delete", "namespace", TEAM, RELEASE, "--ignore-not-found", "--timeout=120s", check=False
    )


def values(cluster: Cluster, prefix: str) -> dict[str, Any]:
    """Of the chart."""
    url = urllib.parse.urlsplit(cluster.bucket.url)
    query = dict(urllib.parse.parse_qsl(url.query))
    registry, _, repository = cluster.image_prefix.partition("/")
    python = cluster.image("test-python")
    return {
        "image": {"registry": registry, "repository": repository, "tag": images.TAG},
        "crds": {"install": False},
        "watchNamespaces": [TEAM],
        "storage": {
            "type": "s3",
            "bucket": url.netloc,
            "prefix": "/".join(filter(None, (url.path.strip("/"), prefix))),
            "existingSecret": "bucket",
            "s3": {key: query[key] for key in ("region", "endpoint", "listing") if key in query},
        },
        "clickhouse": {"mode": "embedded"},
        "rbac": {"aggregate": False},
        "operator": {
            "replicas": 1,
            "webhook": {"enabled": True},
            "settings": {"builderImage": python, "runtimeImage": python},
        },
    }


@contextlib.contextmanager
def reached(
    cluster: Cluster, namespace: str, service: str, *, awaited: bool = True
) -> Iterator[str]:
    """The address of a Service from this machine, `awaited` until it leads to a pod that is ready."""
    if cluster.kind == "recipe":  # its Services are this machine's too
        found = cluster.get("service", service, "-n", namespace)["spec"]
        address = f"http://{found['clusterIP']}:{found['ports'][0]['port']}"
        if awaited:
            leads_there(address)
        yield address
        return
    port = own_port()
    command = [
        str(kept().path("kubectl")), "port-forward", "-n", namespace, f"service/{service}",
        f"{port}:80",
    ]  # fmt: skip
    environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    # A forward ends with its pod: begun anew until the block ends.
    loop = 'while :; do "$@"; sleep 1; done'
    process = subprocess.Popen(
        ["sh", "-c", loop, "sh", *command], env=environ, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def leads_there(address: str) -> None:
    """Wait until kube-proxy knows of a pod behind a Service: it hears of one that is ready by its own
    way, which may be later than what a status says."""

    def look() -> bool:
        at = urllib.parse.urlsplit(address)
        with contextlib.suppress(OSError):
            socket.create_connection((at.hostname or "", at.port or 80), timeout=5).close()
            return True
        return False

    wait_for(f"the Service at {address} leads to a pod", look, within=60, every=0.2)


def eventually(what: str, look: Callable[[], T | None], stack: Stack, *, within: float = 60.0) -> T:
    """`wait_for`, and what explains it when it does not come."""
    try:
        return wait_for(what, look, within=within, every=0.5)
    except BaseException as error:
        error.add_note(stack.told())
        raise
