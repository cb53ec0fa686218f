"""A namespace that enforces Pod Security `restricted`: builds and servers work, by capture `api`."""

import json
import secrets
import urllib.request
from collections.abc import Iterator

import pytest

from tests.cluster import sources
from tests.cluster.stack import TEAM, Stack, eventually, reached

pytestmark = pytest.mark.slow
LABEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def restricted(stack: Stack) -> Iterator[Stack]:
    """The stack; its namespace is restricted while the test runs. Pods that run already stay."""
    stack.cluster.kubectl("label", "namespace", TEAM, f"{LABEL}=restricted", "--overwrite")
    try:
        yield stack
    finally:
        stack.cluster.kubectl("label", "namespace", TEAM, f"{LABEL}-")


def test_a_build_and_a_server_work_without_exemptions_and_say_how_they_are_read(
    restricted: Stack, digest: str
) -> None:
    stack = restricted
    name = f"tight-{secrets.token_hex(2)}"
    stack.cluster.apply(
        sources.project(name),
        sources.build(
            f"{name}-1", name, {"archive": {"digest": digest}}, install=sources.INSTALL,
            build="echo the tight build says so",
        ),
        sources.deployment(name, name, follow=True, replicas=1),
    )  # fmt: skip
    try:
        build = stack.wait_for_phase("Build", f"{name}-1", "Succeeded", "Failed")
        assert build["status"]["phase"] == "Succeeded", json.dumps(build["status"], indent=1)
        assert build["status"]["collector"]["mode"] == "api"
        log = eventually(
            "the build's log is complete",
            lambda: (a := stack.found(f"/builds/{TEAM}.{name}-1/logs")) and a.get("complete") and a,
            stack,
        )
        assert "the tight build says so" in json.dumps(log)

        stack.wait_until_ready(name)
        assert stack.resource("Deployment", name)["status"]["collector"]["mode"] == "api"
        mark = secrets.token_hex(4)
        with (
            reached(stack.cluster, TEAM, f"{name}-server") as address,
            urllib.request.urlopen(f"{address}/work?id={mark}", timeout=30) as answer,
        ):
            assert answer.read() == b"done"

        def printed() -> list[dict[str, str]]:
            found = stack.found(f"/projects/{TEAM}.{name}/logs", text=f"printed {mark}")
            return list((found or {}).get("items", []))

        (line,) = eventually("the printed line", printed, stack)
        assert line["message"] == f"printed {mark}"
        assert not line.get("stream")
    finally:
        stack.cluster.kubectl("delete", "sdep", name, "-n", TEAM, "--wait=false")
        stack.cluster.kubectl("delete", "sbuild", f"{name}-1", "-n", TEAM, "--wait=false")
        stack.cluster.kubectl("delete", "sproj", name, "-n", TEAM, "--wait=false")
