"""Through the kubelet's rotation, crashes and killed pods on a real node: nothing is lost that the
proof does not tell, nothing is stored twice.
"""

import http.client
import json
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster import sources
from tests.cluster.node import ROTATION
from tests.cluster.stack import TEAM, Stack, eventually, reached

pytestmark = [pytest.mark.slow, pytest.mark.kill]

PROJECT = "shop"
ID = f"{TEAM}.{PROJECT}"
SIZE = 220
"""Bytes of filler of a line."""
BATCH = 6_000
"""Lines, 1.4 MB: more than what the kubelet lets a file have."""
BATCHES = 8
"""With a pause that lets the kubelet look in between: as many rotations."""


@pytest.fixture
def talker(stack: Stack, built: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of a server of its own."""
    name = f"talker-{zlib.crc32(request.node.name.encode()) % 10_000}"
    stack.cluster.apply(sources.deployment(name, PROJECT, buildRef={"name": built}))
    stack.wait_until_ready(name)
    yield name
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", name, "-n", TEAM)


@contextmanager
def asking(stack: Stack, name: str) -> Iterator[Callable[..., bool]]:
    """Ask the server; False when it ended before it answered."""
    with reached(stack.cluster, TEAM, f"{name}-server") as address:

        def ask(path: str, **query: Any) -> bool:
            words = "&".join(f"{key}={value}" for key, value in query.items())
            try:
                with urllib.request.urlopen(f"{address}{path}?{words}", timeout=60) as answer:
                    return bool(answer.read() == b"done")
            except (OSError, http.client.HTTPException):
                return False

        yield ask


def serves(ask: Callable[..., bool]) -> bool:
    """It answers; it prints nothing."""
    return ask("/flood", mark="up", **{"from": 0, "to": 0})


def numbers(stack: Stack, mark: str) -> list[int]:
    """Of the stored lines with this mark, in the order of their writers and numbers."""
    lines = stack.exported(ID, signal="logs", text=f"{mark} ")
    lines.sort(key=lambda line: (line["writer"], line["seq"]))
    return [int(line["message"].split()[1]) for line in lines]


def proof(stack: Stack, pod: str) -> list[dict[str, Any]]:
    """The writers of one pod, as `spanyard verify` shows them."""
    found = stack.found(f"/projects/{ID}/proof") or {"writers": []}
    return [one for one in found["writers"] if one["writer"].startswith(f"{pod}/")]


def pod_of(stack: Stack, name: str) -> dict[str, Any]:
    [pod] = [
        one
        for one in stack.pods(f"spanyard.dev/deployment={name}")
        if "deletionTimestamp" not in one["metadata"]
    ]
    return pod


def test_nothing_is_lost_or_doubled_while_the_kubelet_rotates(stack: Stack, talker: str) -> None:
    """Also while the collector is killed in the middle, and when the pod is told to end."""
    pod = pod_of(stack, talker)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    kills = 0
    with asking(stack, talker) as ask:
        for number in range(BATCHES):
            first = number * BATCH
            kill = threading.Timer(0.05, stack.cluster.kill, (TEAM, name, "spanyard-collector"))
            if number in {2, 5}:
                kill.start()
            assert ask("/flood", mark="all", size=SIZE, **{"from": first, "to": first + BATCH})
            time.sleep(float(ROTATION["containerLogMonitorInterval"].rstrip("s")) + 0.5)
            if number in {2, 5}:
                kill.join()
                kills += 1
                # To Kubernetes a pod without its collector is not ready: no Service leads there.
                # What the kubelet has not noticed yet looks ready, too: the count comes first.
                eventually(
                    "the kubelet has started the collector again",
                    lambda n=kills: collects(pod_of(stack, talker)["status"], n),
                    stack,
                )
                stack.wait_until_ready(talker)
                eventually("its Service leads there again", lambda: serves(ask), stack)
    after = pod_of(stack, talker)["status"]
    [server] = [one for one in after["containerStatuses"] if one["name"] == "server"]
    assert server["restartCount"] == 0
    assert restarts(after, "spanyard-collector") == 2
    stack.cluster.kubectl("delete", "pod", name, "-n", TEAM, "--timeout=60s")

    def proven() -> Any:
        writers = proof(stack, uid)
        return writers and all(one["state"] == "ended" for one in writers) and writers

    writers = eventually("all writers of the pod are proven", proven, stack, within=90)
    for one in writers:
        # A file that was read to its end and rotated away while no collector ran may be told as a
        # gap: nobody can know that it did not grow. The numbers below say that it did not.
        assert (one["missing"], one["doubled"]) == (0, 0), one
    assert numbers(stack, "all") == list(range(BATCHES * BATCH))
    lines = stack.exported(ID, signal="logs", text="told to end")
    assert len([line for line in lines if line["writer"].startswith(f"{uid}/")]) == 1


def restarts(status: dict[str, Any], container: str) -> int:
    every = [*status["containerStatuses"], *status["initContainerStatuses"]]
    return int(next(one["restartCount"] for one in every if one["name"] == container))


def collects(status: dict[str, Any], kills: int) -> bool:
    """Its collector runs and is ready, after that many kills."""
    [one] = [c for c in status["initContainerStatuses"] if c["name"] == "spanyard-collector"]
    return one["restartCount"] == kills and one["ready"] and "running" in one["state"]


def settled(stack: Stack, uid: str, mark: str) -> tuple[list[int], list[dict[str, Any]]] | None:
    """Numbers of the lines and the proof of a pod that has ended, when both tell of one moment."""
    before = proof(stack, uid)
    found = numbers(stack, mark)
    after = proof(stack, uid)
    waits = any(one["pending"] for one in after)
    return (found, after) if after and before == after and not waits else None


def test_every_run_of_a_server_that_crashes_keeps_its_last_words(stack: Stack, talker: str) -> None:
    pod = pod_of(stack, talker)
    runs = 2
    with asking(stack, talker) as ask:
        for run in range(1, runs + 1):
            eventually("its Service leads there", lambda: serves(ask), stack, within=120)
            ask("/leave", code=3, lines=50)
            eventually(
                f"run {run} has ended",
                lambda: restarts(pod_of(stack, talker)["status"], "server") >= run,  # noqa: B023 - asked at once, in this turn of the loop
                stack,
            )

    def words() -> Any:
        lines = stack.exported(ID, signal="logs", text="last words")
        mine = [line for line in lines if line["writer"].startswith(pod["metadata"]["uid"])]
        return len(mine) >= runs * 50 and mine

    lines = eventually("all last words", words, stack)
    by_run = Counter(line["writer"] for line in lines)
    assert sorted(by_run.values()) == [50] * runs


def test_a_pod_that_is_killed_loses_no_more_than_the_proof_says(stack: Stack, talker: str) -> None:
    """Without grace the collector dies with what it had not stored: never called complete."""
    pod = pod_of(stack, talker)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    with asking(stack, talker) as ask:
        assert ask("/flood", mark="kept", size=SIZE, **{"from": 0, "to": BATCH})
        eventually("the first are stored", lambda: len(numbers(stack, "kept")) == BATCH, stack)
        assert ask("/flood", mark="lost", size=SIZE, **{"from": 0, "to": BATCH})
        stack.cluster.kubectl("delete", "pod", name, "-n", TEAM, "--grace-period=0", "--force")
        eventually("another pod serves", lambda: serves(ask), stack, within=120)
    assert numbers(stack, "kept") == list(range(BATCH))
    # What it had sent off may still be on its way to ClickHouse.
    stored, writers = eventually(
        "what was sent is loaded", lambda: settled(stack, uid, "lost"), stack
    )
    assert stored == list(range(len(stored))), "a hole before the end"
    printed = [one for one in writers if "/server/" in one["writer"]]
    assert printed, json.dumps(writers)
    if len(stored) < BATCH:
        assert all(one["state"] != "ended" for one in printed), printed
