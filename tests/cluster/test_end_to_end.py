"""From a source to a served request and its records, on a real cluster, and all of it away again."""

import asyncio
import json
import secrets
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import sources
from tests.cluster.addresses import NODE_ADDRESS
from tests.cluster.cluster import Cluster
from tests.cluster.stack import TEAM, Stack, eventually, reached
from tests.fakes.git_server import git_over_http, repository

PROJECT = "shop"
ID = f"{TEAM}.{PROJECT}"


@pytest.fixture(scope="module")
def served(stack: Stack, built: str) -> Iterator[str]:
    """Address of a Deployment that follows the Project's builds."""
    assert built
    stack.cluster.apply(sources.deployment("shop", PROJECT, follow=True, replicas=1))
    stack.wait_until_ready("shop")
    with reached(stack.cluster, TEAM, "shop-server") as address:
        yield address


def test_an_archive_becomes_an_artifact_and_its_log_is_complete(stack: Stack, built: str) -> None:
    status = stack.resource("Build", built)["status"]
    assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
    assert status["artifact"]["digest"].startswith("sha256:")
    log = eventually(
        "the build's log is complete",
        lambda: (a := stack.found(f"/builds/{TEAM}.{built}/logs")) and a.get("complete") and a,
        stack,
    )
    text = json.dumps(log)
    assert "the build says so" in text
    assert "and on stderr" in text


def test_one_request_leaves_lines_a_trace_and_metrics(stack: Stack, served: str) -> None:
    mark = secrets.token_hex(4)
    with urllib.request.urlopen(f"{served}/work?id={mark}", timeout=30) as answer:
        assert answer.read() == b"done"

    def items(path: str, **query: str) -> list[dict[str, object]]:
        return (stack.found(f"/projects/{ID}/{path}", **query) or {}).get("items", [])

    printed = eventually("the printed line", lambda: items("logs", text=f"printed {mark}"), stack)
    assert len(printed) == 1
    assert printed[0]["message"] == f"printed {mark}"
    logged = eventually("the logged line", lambda: items("logs", text=f"logged {mark}"), stack)
    assert len(logged) == 1
    trace = logged[0]["traceId"]
    spans = eventually(
        "the trace", lambda: (a := stack.found(f"/traces/{trace}")) and a["spans"], stack
    )
    assert [one["name"] for one in spans] == ["work"]
    points = eventually("the metric", lambda: items("metrics", name="requests"), stack)
    assert {one["value"] for one in points} == {1}


def test_kubectl_tells_the_story(stack: Stack, served: str) -> None:
    def row(kind: str, name: str) -> str:
        return stack.cluster.kubectl("get", f"{kind}.spanyard.dev", name, "-n", TEAM)

    assert "Succeeded" in row("builds", "shop-1")
    story = row("deployments", "shop")
    assert "shop-1" in story
    assert "True" in story
    eventually(
        "the project's row has its build", lambda: "shop-1" in row("projects", "shop"), stack
    )
    served_by = stack.pods("spanyard.dev/deployment=shop")
    assert [pod["metadata"]["labels"]["spanyard.dev/project"] for pod in served_by] == [PROJECT]


def test_a_repository_becomes_an_artifact(stack: Stack, tmp_path: Path) -> None:
    [commit] = repository(tmp_path / "site", {"hello.txt": "hello\n"})
    with git_over_http(tmp_path, host=NODE_ADDRESS) as url:
        source = {"git": {"url": f"{url}/site/.git", "revision": "main"}}
        stack.cluster.apply(
            sources.project("site"), sources.build("site-1", "site", source, build="cat hello.txt")
        )
        made = stack.wait_for_phase("Build", "site-1", "Succeeded", "Failed")
    assert made["status"]["phase"] == "Succeeded", json.dumps(made["status"], indent=1)
    told = made["status"]["source"]
    assert (told["commit"], told["subject"], told["author"]) == (commit, "a commit", "n")
    assert told["committedAt"]


def test_a_deleted_deployment_leaves_nothing_behind(stack: Stack, served: str) -> None:
    """What it says at its end is kept; its objects go with it, records and artifacts stay."""
    [pod] = stack.pods("spanyard.dev/deployment=shop")
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", "shop", "-n", TEAM)
    eventually("its pods are gone", lambda: not stack.pods("spanyard.dev/deployment=shop"), stack)
    kinds = "deployments.apps,replicasets,services,pods"
    eventually(
        "its objects are gone",
        lambda: not stack.cluster.get(kinds, "-n", TEAM, "-l", "spanyard.dev/deployment=shop"),
        stack,
    )
    name = pod["metadata"]["name"]
    last = eventually(
        "its last line",
        lambda: stack.exported(ID, signal="logs", text="told to end", pod=name),
        stack,
    )
    assert len(last) == 1


def proof(stack: Stack) -> dict[str, int]:
    return dict((stack.found(f"/projects/{ID}/proof") or {}).get("totals", {}))


def test_the_proof_holds(stack: Stack, served: str) -> None:
    """Of all that the build and the server said; both have ended."""
    totals = eventually(
        "every writer is proven",
        lambda: (t := proof(stack)) and not t["open"] and not t["pending"] and t,
        stack,
        within=90,
    )
    assert (totals["missing"], totals["doubled"], totals["gaps"]) == (0, 0, 0)


def test_deleting_a_build_cleans_the_bucket(stack: Stack, cluster: Cluster) -> None:
    prefix = f"builds/{TEAM}.site-1/"
    assert keys(stack, prefix)
    cluster.kubectl("delete", "builds.spanyard.dev", "site-1", "-n", TEAM, "--timeout=90s")
    assert not keys(stack, prefix)


def keys(stack: Stack, prefix: str) -> list[str]:
    async def listed() -> list[str]:
        storage = stack.storage()
        found = [info.key async for info in storage.list(prefix)]
        await storage.close()
        return found

    return asyncio.run(listed())
