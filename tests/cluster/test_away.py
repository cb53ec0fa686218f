"""Storage, the gateway and ClickHouse away: applications on a real cluster stay ready and lose
nothing.
"""

import time
import urllib.request
from typing import Any

import pytest

from tests.cluster import s3, sources
from tests.cluster.addresses import folders
from tests.cluster.cluster import Cluster
from tests.cluster.stack import READY_SECONDS, RELEASE, TEAM, Stack, eventually, reached

pytestmark = [pytest.mark.slow, pytest.mark.kill]

PROJECT = "shop"
ID = f"{TEAM}.{PROJECT}"
LINES = 2_000
AWAY_SECONDS = 15.0
"""Some flushes of the collector, and of each probe a few."""


def test_an_application_serves_while_storage_gateway_and_clickhouse_are_away(
    stack: Stack, cluster: Cluster, built: str
) -> None:
    """ClickHouse is in the gateway's pod here: one scaling takes both away."""
    if cluster.kind != "recipe":
        pytest.skip("only the bucket of our own recipe can be taken away")
    stack.cluster.apply(sources.deployment("steady", PROJECT, buildRef={"name": built}))
    stack.wait_until_ready("steady")
    with reached(cluster, TEAM, "steady-server") as address:
        flood(address, "before")
        server(stack, 0)
        s3.stop(folders())
        try:
            flood(address, "during")
            until = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < until:
                pod = the_pod(stack)
                assert ready(pod), pod["status"]
                flood(address, "still", lines=1)
                time.sleep(1)
        finally:
            s3.start(folders())
            server(stack, 1)
        flood(address, "after")
    pod = the_pod(stack)
    everybody = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    assert {one["name"]: one["restartCount"] for one in everybody if one["restartCount"]} == {}
    for mark in ("before", "during", "after"):
        eventually(
            f"all lines said {mark}", lambda m=mark: stored(stack, m) == list(range(LINES)),
            stack, within=120,
        )  # fmt: skip
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", "steady", "-n", TEAM)


def server(stack: Stack, replicas: int) -> None:
    """The pod with the gateway, the ingester and ClickHouse."""
    stack.cluster.kubectl(
        "scale", "statefulset", f"{RELEASE}-server", "-n", RELEASE, f"--replicas={replicas}"
    )
    labels = "app.kubernetes.io/component=server"

    def look() -> bool:
        pods = stack.cluster.get("pods", "-n", RELEASE, "-l", labels) or []
        return len(pods) == replicas and all(ready(pod) for pod in pods)

    eventually(f"{replicas} servers", look, stack, within=READY_SECONDS)


def flood(address: str, mark: str, *, lines: int = LINES) -> None:
    query = f"mark={mark}&from=0&to={lines}"
    with urllib.request.urlopen(f"{address}/flood?{query}", timeout=30) as answer:
        assert answer.read() == b"done"


def the_pod(stack: Stack) -> Any:
    [pod] = stack.pods("spanyard.dev/deployment=steady")
    return pod


def ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def stored(stack: Stack, mark: str) -> list[int]:
    lines = stack.exported(ID, signal="logs", text=f"{mark} ", deployment="steady")
    lines.sort(key=lambda line: (line["writer"], line["seq"]))
    return [int(line["message"].split()[1]) for line in lines]
