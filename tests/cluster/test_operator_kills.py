"""The operator killed while it builds and deploys, and the API server restarted: all of it converges,
nothing is done twice, nothing is forgotten.
"""

import json
import os
import random
import time
from typing import Any

import pytest

from tests.cluster import sources
from tests.cluster.addresses import folders
from tests.cluster.cluster import Cluster
from tests.cluster.stack import RELEASE, TEAM, Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.kill]

PROJECT = "restless"
BUILDS = int(os.environ.get("SPANYARD_CHAOS_BUILDS", "4"))
"""`make chaos-cluster` does it with 50."""
SERVERS = max(1, BUILDS // 5)
KILLS = BUILDS + 1
ATTEMPT = "echo one attempt begins; sleep 4; echo one attempt ends"


def operator_pods(stack: Stack) -> list[dict[str, Any]]:
    labels = "app.kubernetes.io/component=operator"
    return list(stack.cluster.get("pods", "-n", RELEASE, "-l", labels) or [])


def kill_operator(stack: Stack) -> bool:
    """SIGKILL, as a node's out-of-memory killer would; the kubelet starts it again."""
    for pod in operator_pods(stack):
        for status in pod["status"].get("containerStatuses", []):
            if "running" in status["state"]:
                stack.cluster.kill(RELEASE, pod["metadata"]["name"], "operator")
                return True
    return False


def begin_anew(stack: Stack) -> None:
    """A fresh pod: the kubelet's back-off for one that was killed often is minutes."""
    stack.cluster.kubectl(
        "delete", "pods", "-n", RELEASE, "-l", "app.kubernetes.io/component=operator",
        "--grace-period=0", "--force",
    )  # fmt: skip


def test_an_operator_that_is_killed_again_and_again_builds_all_once(
    stack: Stack, digest: str
) -> None:
    """Killed at random moments, of a fixed seed."""
    rng = random.Random(20261122)
    source = {"archive": {"digest": digest}}
    names = [f"restless-{number}" for number in range(BUILDS)]
    servers = [f"restless-server-{number}" for number in range(SERVERS)]
    stack.cluster.apply(
        # All of them are looked at afterwards: retention would remove what is beyond ten.
        sources.project(PROJECT, builds={"retention": {"succeededLimit": 1_000}}),
        *(sources.build(name, PROJECT, source, install=ATTEMPT) for name in names),
        *(
            sources.deployment(
                name, PROJECT, follow=True, command="python3 -m http.server $PORT",
                health={"path": "/"},
            )
            for name in servers
        ),
    )  # fmt: skip
    kills = 0
    while kills < KILLS:
        time.sleep(rng.uniform(0.2, 4.0))
        if kills % 2:
            begin_anew(stack)
            kills += 1
        else:
            kills += kill_operator(stack)
    begin_anew(stack)
    for name in names:
        made = stack.wait_for_phase("Build", name, "Succeeded", "Failed", within=150 + 10 * BUILDS)
        status = made["status"]
        assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
        assert status.get("attempt", 1) == 1
        pods = stack.pods(f"spanyard.dev/build={name}")
        assert [pod["metadata"]["name"] for pod in pods] == [f"{name}-build-1"]
        log = eventually(
            f"the log of {name} is whole", lambda n=name: whole(stack, n), stack, within=90
        )
        assert log.count("one attempt begins") == log.count("one attempt ends") == 1
    for server in servers:
        stack.wait_until_ready(server)
        assert stack.resource("Deployment", server)["status"]["build"] in names
    eventually(
        "the project knows that none runs",
        lambda: not stack.resource("Project", PROJECT)["status"].get("running", 0),
        stack,
    )
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", *servers, "-n", TEAM)


def whole(stack: Stack, build: str) -> str:
    found = stack.found(f"/builds/{TEAM}.{build}/logs")
    return str(found["text"]) if found and found["complete"] else ""


def test_a_restarted_api_server_is_found_again(stack: Stack, cluster: Cluster, digest: str) -> None:
    """Watches end, requests fail; afterwards a new build is built, without a restart of ours."""
    if cluster.kind != "recipe":
        pytest.skip("only the API server of our own recipe can be restarted")
    from tests.cluster import recipe

    eventually("the operator works", lambda: ready_operator(stack), stack)
    [before] = operator_pods(stack)
    recipe.restart_api(folders())
    stack.cluster.apply(
        sources.project(PROJECT),
        sources.build(
            "after-restart", PROJECT, {"archive": {"digest": digest}}, install="echo built"
        ),
    )
    made = stack.wait_for_phase("Build", "after-restart", "Succeeded", "Failed")
    assert made["status"]["phase"] == "Succeeded", json.dumps(made["status"], indent=1)
    [after] = operator_pods(stack)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def ready_operator(stack: Stack) -> bool:
    pods = operator_pods(stack)
    conditions = [
        {c["type"]: c["status"] for c in pod["status"].get("conditions", [])} for pod in pods
    ]
    return len(pods) == 1 and conditions[0].get("Ready") == "True"
