"""The operator as a process, against a real API server; who plays the kubelet patches pods' status."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spanyard_core.resources import crds
from spanyard_core.resources.kinds import PLURALS
from tests.cluster.apiserver import Answer, ApiServer
from tests.fakes.ports import own_port
from tests.fakes.processes import wait_for

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OURS = "/apis/spanyard.dev/v1alpha1"


def install_kinds(api: ApiServer) -> None:
    """Our CRDs, served."""
    for kind in PLURALS:
        made = api.request("POST", DEFINITIONS, crds.definition(kind))
        assert made.status in {201, 409}, made.message
    paths = [f"{OURS}/namespaces/default/{plural}" for plural in PLURALS.values()]
    wait_for(
        "our kinds are served",
        lambda: all(api.request("GET", one).status == 200 for one in paths),
    )


class OperatorProcess:
    """One that runs. `url` has its /readyz and /metrics."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def get(self, path: str) -> str:
        """The text at a path; empty while it does not answer or is not ready."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
        return self.get("/readyz") == "ok\n" and self.leads()

    def leads(self) -> bool:
        """It holds the Lease."""
        return "spanyard_operator_leading 1.0" in self.get("/metrics")

    @property
    def memory(self) -> float:
        """Resident, MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self) -> None:
        """As the kernel does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running_operator(
    api: ApiServer,
    bucket: str,
    *arguments: str,
    namespace: str = "spanyard",
    environ: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Iterator[OperatorProcess]:
    """An operator with all rights, or those of `environ`'s kubeconfig; ready when the block begins."""
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with tempfile.TemporaryDirectory(prefix="spanyard-operator-") as made:
        folder = Path(made)
        kubeconfig = api.kubeconfig(folder / "kubeconfig")
        port, log = own_port(), folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "spanyard_operator", f"--kubeconfig={kubeconfig}",
                    f"--own-namespace={namespace}", f"--storage={bucket}",
                    "--gateway=http://gateway.example:8080", "--listen=127.0.0.1",
                    f"--port={port}", f"--identity=operator-{port}", *arguments,
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
            )  # fmt: skip
        try:
            operator = OperatorProcess(process, port, log)
            if wait:
                wait_for("the operator is ready", operator.ready)
            yield operator
        except BaseException:
            print(log.read_text("utf-8", "replace")[-5000:])
            raise
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class Team:
    """A namespace of a test in a real API server, and the kubelet that the test plays."""

    def __init__(self, api: ApiServer, name: str) -> None:
        self.api = api
        self.name = name
        made = api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert made.status in {201, 409}, made.message

    def ours(self, plural: str, name: str = "", sub: str = "") -> str:
        parts = [OURS, "namespaces", self.name, plural, name, sub]
        return "/".join(part for part in parts if part)

    def make(self, plural: str, kind: str, name: str, spec: Mapping[str, Any]) -> Answer:
        body = {
            "apiVersion": "spanyard.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": dict(spec),
        }
        answer = self.api.request("POST", self.ours(plural), body)
        assert answer.status == 201, answer.message
        return answer

    def get(self, plural: str, name: str) -> dict[str, Any]:
        answer = self.api.request("GET", self.ours(plural, name))
        return answer.body if answer.status == 200 else {}

    def status(self, name: str, plural: str = "builds") -> dict[str, Any]:
        return dict(self.get(plural, name).get("status") or {})

    def pod(self, name: str) -> dict[str, Any]:
        answer = self.api.request("GET", f"/api/v1/namespaces/{self.name}/pods/{name}")
        return answer.body if answer.status == 200 else {}

    def pods(self) -> list[dict[str, Any]]:
        return list(self.api.request("GET", f"/api/v1/namespaces/{self.name}/pods").body["items"])

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self.api.request("PATCH", path, body, kind="application/merge-patch+json")

    def play(self, pod: str, status: Mapping[str, Any]) -> None:
        """As a kubelet says it."""
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/status"
        answer = self.patch(path, {"status": dict(status)})
        assert answer.status == 200, answer.message

    def events(self) -> list[tuple[str, str]]:
        items = self.api.request("GET", f"/api/v1/namespaces/{self.name}/events").body["items"]
        return sorted((e["involvedObject"]["name"], e["reason"]) for e in items)


def shown(body: Any) -> str:
    """For messages of asserts."""
    return json.dumps(body, indent=1)[:4000]
