"""Builds on a real API server: the operator is a process, the kubelet is played."""

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

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
    # As long as they may be: the schema of the status takes them.
    fetched = encoded(
        StepAnswer(
            commit="c" * 40,
            subject="é" * 500,
            author="\U0001f600" * 500,
            committed_at="2026-11-22T09:00:00Z",
        )
    ).decode()
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
    wait_for("it is told", lambda: ("one", "Succeeded") in team.events())
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


class Kubelet:
    """Ends every build pod well, a moment after it sees it, for as long as the block runs."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.made: dict[str, set[str]] = {}
        """Uids of pods by name: more than one would be an attempt that ran twice."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.1):
            for pod in self._team.pods():
                about = pod["metadata"]
                self.made.setdefault(about["name"], set()).add(about["uid"])
                build = about["labels"]["spanyard.dev/build"]
                if (pod.get("status") or {}).get("phase") != "Succeeded":
                    self._team.play(about["name"], ended_well(self._team.name, build))


BUILDS = 10


def test_killed_operators_lose_no_build_and_run_none_twice(
    api_server: ApiServer, bucket: str
) -> None:
    install_kinds(api_server)
    team = Team(api_server, "team-kill")
    team.make("projects", "Project", "support", {"builds": {"concurrencyPolicy": "Serial"}})
    names = [f"b{number}" for number in range(BUILDS)]
    rng = random.Random(7)
    quick = ("--keep-pods=1h", "--lease=spanyard-killed", "--namespaces=team-kill")
    with Kubelet(team) as kubelet:
        for number, name in enumerate(names):
            team.make("builds", "Build", name, SPEC)
            if number % 4 == 1:
                # Another identity each time would wait for the Lease of the one that was killed.
                with running_operator(
                    api_server, bucket, *quick, "--identity=same", wait=False
                ) as operator:
                    wait_for("it leads", operator.leads)
                    time.sleep(rng.random() * 2)
                    operator.kill()
        with running_operator(api_server, bucket, *quick, "--identity=same") as operator:
            wait_for(
                "all builds are over, their logs whole",
                lambda: all(team.status(name).get("logComplete") for name in names),
                within=120,
            )
            assert "error" not in operator.get("/metrics").partition("reconciled_total")[2][:400]
        statuses = {name: team.status(name) for name in names}
    assert {s["phase"] for s in statuses.values()} == {"Succeeded"}
    assert {s["attempt"] for s in statuses.values()} == {1}
    assert {name: len(uids) for name, uids in kubelet.made.items()} == {
        f"{name}-build-1": 1 for name in names
    }


def test_of_two_operators_one_works_and_the_other_takes_over(
    api_server: ApiServer, bucket: str
) -> None:
    install_kinds(api_server)
    team = Team(api_server, "team-two")
    mine = ("--lease=spanyard-two", "--namespaces=team-two")
    team.make("projects", "Project", "support", {})
    with (
        running_operator(api_server, bucket, *mine) as first,
        running_operator(api_server, bucket, *mine, wait=False) as second,
    ):
        wait_for("the other is ready", lambda: second.get("/readyz") == "ok\n")
        assert not second.leads()
        wait_for(
            "the project is known",
            lambda: bool(team.status("support", "projects").get("conditions")),
        )
        assert "api_writes_total{" not in second.get("/metrics")
        first.process.terminate()
        assert first.process.wait(60) == 0
        wait_for("the other leads", second.leads)
        team.make("builds", "Build", "one", SPEC)
        wait_for("the other works", lambda: bool(team.pod("one-build-1")))
