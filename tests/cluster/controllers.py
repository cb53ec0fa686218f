"""kube-controller-manager beside the API server: real Deployments, ReplicaSets and garbage collection,
without a node. A test plays the kubelet: it patches the status of pods."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.apiserver import ApiServer, _child
from tests.cluster.binaries import built

NAME = "kube-controller-manager"
CONTROLLERS = "deployment-controller,replicaset-controller,garbage-collector-controller"


@contextmanager
def running_controllers(server: ApiServer) -> Iterator["subprocess.Popen[bytes]"]:
    """The apps controllers and the garbage collector. They work within a second of each change."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spanyard-kcm-")))
        yield stack.enter_context(
            _child(
                [
                    str(built([NAME]).path(NAME)),
                    f"--kubeconfig={server.kubeconfig(folder / 'kubeconfig')}",
                    f"--controllers={CONTROLLERS}",
                    "--leader-elect=false",
                    "--secure-port=0",
                    "--kube-api-qps=500",
                    "--kube-api-burst=1000",
                ],
                folder / "controllers.log",
            )
        )


def play_kubelet(server: ApiServer, pod: dict[str, Any], **container: Any) -> None:
    """The status of the pod's container `server`; `ready=True` for one that runs well."""
    about = pod["metadata"]
    ready = bool(container.get("ready"))
    status = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(ready)},
            {"type": "ContainersReady", "status": str(ready)},
        ],
        "containerStatuses": [
            {
                "name": "server",
                "image": "x",
                "imageID": "x",
                "restartCount": 0,
                "started": ready,
                "ready": ready,
                "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
                **container,
            }
        ],
    }
    path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/status"
    kind = "application/merge-patch+json"
    answer = server.request("PATCH", path, {"status": status}, kind=kind)
    assert answer.status in {200, 404}, answer.message
