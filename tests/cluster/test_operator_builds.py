"""Builds on a real API server: the operator is a process, the kubelet is played."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.step_answers import StepAnswer, encoded
from tests.cluster.apiserver import ApiServer
from tests.cluster.operator_process import (
    OperatorProcess,
    Team,
    install_kinds,
    running_operator,
    shown,
)
from tests.fakes.processes import wait_for

SPEC = {
    "project": "support",
    "source": {"git": {"url": "https://git.example.com/x.git", "revision": "main"}},
    "builder": {"image": "registry.example/builder:1"},
    "install": "npm ci",
    "build": "npm run build",
    "output": "dist",
}
STEPS = ("spanyard-fetch", "install", "build")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{tmp_path_factory.mktemp('bucket')}"


@pytest.fixture(scope="module")
def operator(api_server: ApiServer, bucket: str) -> Iterator[OperatorProcess]:
    install_kinds(api_server)
    with running_operator(api_server, bucket, "--keep-pods=1s") as process:
        yield process


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ran(name: str, code: int, message: str = "") -> dict[str, Any]:
    end = {"exitCode": code, "startedAt": now(), "finishedAt": now(), "message": message,
           "reason": "Completed" if code == 0 else "Error"}  # fmt: skip
    return {"name": name, "image": "x", "imageID": "x", "ready": False, "restartCount": 0,
            "state": {"terminated": end}}  # fmt: skip


def runs(name: str) -> dict[str, Any]:
    return {"name": name, "image": "x", "imageID": "x", "ready": True, "restartCount": 0,
            "state": {"running": {"startedAt": now()}}}  # fmt: skip


def ended_well(namespace: str, build: str) -> dict[str, Any]:
    fetched = encoded(StepAnswer(commit="c" * 40)).decode()
    key = f"builds/{namespace}.{build}/artifact-1.tar.zst"
    stored = encoded(StepAnswer(key=key, digest="sha256:" + "a" * 64, size=4711)).decode()
    return {
        "phase": "Succeeded",
        "startTime": now(),
        "initContainerStatuses": [
            ran("spanyard-collector", 0),
            *(ran(step, 0, fetched if step == "spanyard-fetch" else "") for step in STEPS),
        ],
        "containerStatuses": [ran("spanyard-publish", 0, stored)],
    }


def test_a_build_becomes_a_pod_and_the_pod_a_status(
    api_server: ApiServer, operator: OperatorProcess, bucket: str
) -> None:
    team = Team(api_server, "team-a")
    team.make("projects", "Project", "support", {})
    team.make("builds", "Build", "one", SPEC)
    wait_for("the pod is there", lambda: bool(team.pod("one-build-1")))
    wait_for("it builds", lambda: team.status("one").get("phase") == "Building")
    team.play(
        "one-build-1",
        {
            "phase": "Pending",
            "startTime": now(),
            "initContainerStatuses": [runs("spanyard-collector"), runs("spanyard-fetch")],
        },
    )
    wait_for("fetch runs", lambda: team.status("one").get("step") == "fetch")
    team.play("one-build-1", ended_well("team-a", "one"))
    wait_for("its log is whole", lambda: team.status("one").get("logComplete") is True)
    status = team.status("one")
    assert status["phase"] == "Succeeded", shown(status)
    assert status["artifact"]["key"] == "builds/team-a.one/artifact-1.tar.zst"
    ready = {c["type"]: c["status"] for c in status["conditions"]}
    assert ready == {"Ready": "True"}
    wait_for(
        "the project knows",
        lambda: team.status("support", "projects").get("latestBuild") == "one",
    )
    assert ("one", "Succeeded") in team.events()
    wait_for(
        "the pod goes",
        lambda: (
            bool(team.pod("one-build-1").get("metadata", {}).get("deletionTimestamp"))
            or not team.pod("one-build-1")
        ),
    )
    log = Path(bucket.removeprefix("file://")) / "builds" / "team-a.one" / "build.log"
    assert log.exists()
    answer = api_server.request("DELETE", team.ours("builds", "one"))
    assert answer.status == 200
    wait_for("the build is gone", lambda: not team.get("builds", "one"))
    assert not log.exists()
