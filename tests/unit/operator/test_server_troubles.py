"""Why a pod of a server is not ready: statuses as kubelets write them, and what we tell of them."""

from typing import Any

import pytest

from spanyard_core.resources.kinds import Failure
from spanyard_operator.deployments import troubles
from spanyard_operator.deployments.troubles import Told
from tests.unit.operator.servers import pod

TOLD = Told(
    command="node server.js",
    image="node:22-slim",
    memory="512Mi",
    build="support-1",
    port=8080,
    path="/healthz",
    startup=60.0,
    liveness=45.0,
    grace=40.0,
)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "", seconds: int = 1) -> dict[str, Any]:
    at = f"2026-11-21T10:{seconds // 60:02d}:{seconds % 60:02d}Z"
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": "2026-11-21T10:00:00Z",
            "finishedAt": at,
        }
    }


CRASH = ended(3, message="one\ntwo\n")
PULL = 'failed to pull and unpack image "docker.io/x/y:z": not found'
FETCH = {
    "name": "spanyard-fetch",
    "state": ended(1, message='{"reason":"ArchiveInvalid","facts":{"detail":"bad magic"}}'),
}
FETCHED = {"name": "spanyard-fetch", "state": ended(0, "Completed"), "ready": True}
COLLECTOR = {"name": "spanyard-collector", "state": {"running": {}}, "ready": True, "started": True}

ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("crashed", pod(state=CRASH), "CrashLoop", "exit code 3"),
    ("waits to be started again", pod(state=waiting("CrashLoopBackOff"), last=CRASH), "CrashLoop", "exit code 3"),
    ("runs again and is not ready", pod(state={"running": {}}, last=CRASH), "CrashLoop", "exit code 3"),
    ("memory", pod(state=ended(137, "OOMKilled")), "OutOfMemory", "512Mi"),
    ("memory, again running", pod(state={"running": {}}, last=ended(137, "OOMKilled")), "OutOfMemory", "512Mi"),
    ("no such command", pod(state=ended(127, message="sh: exec: node: not found")), "CommandNotFound", "'node'"),
    ("127 of its own", pod(state=ended(127, seconds=90)), "CrashLoop", "127"),
    ("no shell", pod(state=waiting("RunContainerError", 'exec: "/bin/sh": stat /bin/sh: no such file or directory')), "CommandNotFound", "node"),
    ("start refused", pod(last=ended(128, "StartError", "executable file not found in $PATH")), "CommandNotFound", "node"),
    ("killed after the startup probe", pod(state=waiting("CrashLoopBackOff"), last=ended(137, seconds=61)), "NeverReady", "1m"),
    ("ended after the startup probe", pod(state={"running": {}}, last=ended(143, seconds=60)), "NeverReady", "GET /healthz on port 8080"),
    ("ended well after the startup probe", pod(last=ended(0, "Completed", seconds=61)), "NeverReady", "1m"),
    ("hung after it was ready", pod(last=ended(137, seconds=400)), "NeverReady", "within 45s: it was ready before"),
    ("killed soon", pod(last=ended(137, seconds=5)), "CrashLoop", "137"),
    ("image missing", pod(state=waiting("ErrImagePull", PULL)), "ImagePullFailed", "not found"),
    ("image name", pod(state=waiting("InvalidImageName", "couldn't parse image name")), "ImagePullFailed", "parse"),
    ("Secret missing", pod(state=waiting("CreateContainerConfigError", 'secret "model" not found')), "SecretMissing", "Secret model"),
    ("key missing", pod(state=waiting("CreateContainerConfigError", "couldn't find key api-key in Secret team/model")), "SecretMissing", "api-key in the Secret model"),
    ("root image", pod(state=waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root (pod: x)")), "InvalidSpec", "runAsNonRoot"),
    ("fetch", pod(before=[COLLECTOR, FETCH], state=waiting("PodInitializing")), "ArtifactInvalid", "bad magic"),
    ("disk", pod(state=ended(1, message="x\nOSError: No space left on device")), "NoSpace", "OSError"),
    ("evicted", pod(reason="Evicted", message="The node was low on resource: memory.", phase="Failed"), "Evicted", "low on"),
    ("node", pod(reason="NodeLost", message="Node n was unresponsive"), "NodeLost", "unresponsive"),
    (
        "no room",
        pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]),
        "Unschedulable",
        "Insufficient cpu",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("about", "seen", "reason", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_a_trouble_is_told_as_a_reason(
    about: str, seen: dict[str, Any], reason: str, words: str
) -> None:
    failure = troubles.failure(seen, TOLD)
    assert failure is not None
    assert failure.reason == reason
    assert words in failure.message, failure.message
    assert failure.remedy


@pytest.mark.parametrize(
    "seen",
    [
        pod(state=waiting("PodInitializing"), before=[COLLECTOR, FETCHED]),
        pod(state=waiting("ContainerCreating")),
        pod(state={"running": {}}, before=[COLLECTOR, FETCHED]),
        pod(state={"running": {}}, last=CRASH, ready=True, started=True),
        pod(state={"running": {}}, last=CRASH, started=True),
        {"metadata": {"name": "new"}},
    ],
)
def test_a_start_is_no_trouble(seen: dict[str, Any]) -> None:
    assert troubles.failure(seen, TOLD) is None


def told(seen: dict[str, Any]) -> Failure:
    failure = troubles.failure(seen, TOLD)
    assert failure is not None
    return failure


def test_a_crash_names_pod_container_exit_code_and_last_lines() -> None:
    failure = told(pod(state=CRASH))
    assert (failure.pod, failure.container, failure.exit_code) == ("web-server-1-a", "server", 3)
    assert failure.last_lines == ["one", "two"]


def test_a_pull_tells_the_same_while_it_backs_off() -> None:
    pulling = pod(state=waiting("ErrImagePull", PULL))
    back_off = f'Back-off pulling image "x/y:z": ErrImagePull: {PULL}'
    assert told(pulling) == told(pod(state=waiting("ImagePullBackOff", back_off)))


def test_a_server_that_does_not_answer_is_said_to_run() -> None:
    seen = pod(state={"running": {}})
    assert "does not answer GET /healthz on port 8080" in troubles.trouble(seen, TOLD)
    assert troubles.trouble(pod(state={"running": {}}, ready=True), TOLD) == ""
