"""Builds that fail on a real cluster, each in another way: the reason, where, what it printed last, and
a log in storage that ends with the true last line.

Nearly all are applied at once, and looked at one after the other: the waiting is shared.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import sources
from tests.cluster.addresses import NODE_ADDRESS
from tests.cluster.stack import TEAM, Stack, eventually
from tests.fakes.git_server import git_over_http, repository

pytestmark = [pytest.mark.slow]

PROJECT = "broken"
LAST_WORDS = "trap 'echo last words; exit 7' TERM; echo waiting; sleep 600 & wait"
"""Prints once more after SIGTERM: the collector has to be there for it."""
NOWHERE = "0" * 64


@dataclass(frozen=True)
class Case:
    """A build that fails, and what is told about it."""

    reason: str
    spec: Mapping[str, Any]
    step: str = "install"
    exit_code: int | None = None
    said: str = ""
    """In the message."""
    last: str = ""
    """The last line of its log, and of `status.failure`."""
    phase: str = "Failed"
    source: Mapping[str, Any] = field(default_factory=dict)
    """`URL` is replaced by the repository's; none: the archive."""


CASES: dict[str, Case] = {
    "exit-code": Case(
        "StepFailed", {"install": "echo begins; sleep 1; echo the true last line >&2; exit 3"},
        exit_code=3, said="install ended with exit code 3", last="the true last line",
    ),
    "out-of-memory": Case(
        "OutOfMemory",
        {"install": "true", "resources": {"limits": {"memory": "64Mi"}},
         "build": "echo eats; exec python3 -c 'x = [bytearray(1 << 20) for _ in range(9999)]'"},
        step="build", said="64Mi",
    ),
    "timeout": Case("Timeout", {"install": LAST_WORDS, "timeout": "75s"}, said="after 75s",
                    last="last words"),
    "cancelled": Case("Cancelled", {"install": LAST_WORDS}, phase="Cancelled", last="last words"),
    "command": Case("CommandNotFound", {"install": "echo now; pnpm-of-nobody install"},
                    exit_code=127, said="pnpm-of-nobody was not found"),
    "image-name": Case("ImagePullFailed",
                       {"install": "true", "builder": {"image": "Not/An:Image:"}},
                       said="Not/An:Image:"),
    "image": Case(
        "Timeout", {"install": "true", "builder": {"image": "localhost/nobody/has:it"},
                    "timeout": "90s"},
        said="localhost/nobody/has:it",
    ),
    "secret": Case(
        "SecretMissing", {"install": "true", "env": [
            {"name": "TOKEN",
             "valueFrom": {"secretKeyRef": {"name": "nobody-made", "key": "token"}}}]},
        said="nobody-made",
    ),
    "revision": Case("RevisionNotFound", {}, step="fetch", exit_code=1, said="nobody-pushed-it",
                     source={"git": {"url": "URL", "revision": "nobody-pushed-it"}}),
    "repository": Case("SourceNotFound", {}, step="fetch", exit_code=1, said="nobody.git",
                       source={"git": {"url": "URL/nobody.git"}}),
    "unreachable": Case("SourceUnreachable", {}, step="fetch", exit_code=1,
                        source={"git": {"url": f"http://{NODE_ADDRESS}:9/r.git"}}),
    "archive": Case("SourceNotFound", {}, step="fetch", exit_code=1,
                    source={"archive": {"digest": f"sha256:{NOWHERE}"}}),
    "output": Case("OutputMissing", {"build": "echo made nothing", "output": "dist"},
                   step="publish", exit_code=1, said="dist"),
}  # fmt: skip


URGENT = ("timeout", "cancelled", "image")


@pytest.fixture(scope="module")
def broken(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All builds of CASES, applied."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "src").mkdir()
    (folder / "src" / "a").write_text("a\n")
    digest = sources.uploaded(stack, folder / "src")
    repository(folder / "git" / "r.git", {"a": "1"})
    with git_over_http(folder / "git", host=NODE_ADDRESS) as url:
        builds = []
        for name, case in CASES.items():
            given = json.dumps(case.source or {"archive": {"digest": digest}})
            given = given.replace('"URL"', f'"{url}/r.git/.git"').replace('"URL/', f'"{url}/')
            builds.append(sources.build(name, PROJECT, json.loads(given), **case.spec))
        kept = {"retention": {"failedLimit": 2 * len(CASES)}}
        # First those that time is short for: on a busy node all at once would take too long to start.
        urgent = [one for one in builds if one["metadata"]["name"] in URGENT]
        stack.cluster.apply(sources.project(PROJECT, builds=kept), *urgent)
        for name in URGENT:
            eventually(f"{name} got to its step", lambda n=name: begun_or_over(stack, n), stack,
                       within=120)  # fmt: skip
        stack.cluster.apply(*(one for one in builds if one not in urgent))
        yield stack


def begun_or_over(stack: Stack, name: str) -> bool:
    status = (stack.resource("Build", name) or {}).get("status", {})
    return status.get("step") == "install" or status.get("phase") == "Failed"


def begun(stack: Stack, name: str) -> None:
    """A build that runs, long enough to be disturbed, short enough to end well the next time."""
    source = stack.resource("Build", "exit-code")["spec"]["source"]
    command = "echo attempt begins; sleep 25; echo attempt ends"
    stack.cluster.apply(sources.build(name, PROJECT, source, install=command))
    eventually(f"{name} runs", lambda: runs(stack, name, "install"), stack, within=120)


def runs(stack: Stack, name: str, step: str) -> dict[str, Any] | None:
    build = stack.resource("Build", name) or {}
    return build if build.get("status", {}).get("step") == step else None


def log_of(stack: Stack, name: str) -> str:
    """Its text, once it is whole."""
    found = eventually(
        f"the log of {name} is whole",
        lambda: (a := stack.found(f"/builds/{TEAM}.{name}/logs")) and a["complete"] and a,
        stack,
        within=90,
    )
    return str(found["text"])


def test_a_build_that_is_cancelled_ends_with_its_last_words(broken: Stack) -> None:
    eventually("it runs", lambda: runs(broken, "cancelled", "install"), broken, within=120)
    broken.cluster.kubectl(
        "patch", "builds.spanyard.dev", "cancelled", "-n", TEAM, "--type=merge", "-p",
        '{"spec": {"cancel": true}}',
    )  # fmt: skip
    broken.wait_for_phase("Build", "cancelled", "Cancelled")


def test_a_pod_that_is_evicted_is_tried_again(broken: Stack) -> None:
    begun(broken, "evicted")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": "evicted-build-1", "namespace": TEAM}}  # fmt: skip
    broken.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{TEAM}/pods/evicted-build-1/eviction", "-f", "-",
        given=json.dumps(eviction),
    )  # fmt: skip
    again = broken.wait_for_phase("Build", "evicted", "Succeeded", "Failed")
    assert (again["status"]["phase"], again["status"]["attempt"]) == ("Succeeded", 2)
    assert again["status"]["artifact"]["key"].endswith("artifact-2.tar.zst")
    log = log_of(broken, "evicted").splitlines()
    assert log.count("attempt begins") == 2
    assert log.count("attempt ends") == 1


def test_a_pod_that_is_deleted_by_force_is_tried_again(broken: Stack) -> None:
    begun(broken, "forced")
    broken.cluster.kubectl(
        "delete", "pod", "forced-build-1", "-n", TEAM, "--force", "--grace-period=0", "--wait=false"
    )
    again = broken.wait_for_phase("Build", "forced", "Succeeded", "Failed")
    assert (again["status"]["phase"], again["status"]["attempt"]) == ("Succeeded", 2)


def test_a_private_repository_is_fetched_with_its_secret_alone(
    broken: Stack, tmp_path: Path
) -> None:
    password = "pa55-word-of-nobody"
    [commit] = repository(tmp_path / "p.git", {"a": "1"})
    broken.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "git-token", "namespace": TEAM},
            "stringData": {"username": "u", "password": password},
        }
    )
    with git_over_http(tmp_path, host=NODE_ADDRESS, password=password) as url:
        git = {"url": f"{url}/p.git/.git"}
        broken.cluster.apply(
            sources.build("stranger", PROJECT, {"git": git}),
            sources.build(
                "private", PROJECT, {"git": {**git, "secretRef": {"name": "git-token"}}},
                install="env; cat /spanyard/git/* /proc/1/environ; ls -laR /spanyard /tmp || true",
            ),
        )  # fmt: skip
        refused = broken.wait_for_phase("Build", "stranger", "Succeeded", "Failed")
        made = broken.wait_for_phase("Build", "private", "Succeeded", "Failed")
    assert refused["status"]["failure"]["reason"] == "SourceRefused"
    assert made["status"]["phase"] == "Succeeded", json.dumps(made["status"], indent=1)
    assert made["status"]["source"]["commit"] == commit
    pod = json.dumps(broken.cluster.get("pod", "private-build-1", "-n", TEAM))
    assert password not in pod + log_of(broken, "private")


@pytest.mark.parametrize("name", CASES)
def test_a_build_that_fails_says_why(name: str, broken: Stack) -> None:
    case = CASES[name]
    build = broken.wait_for_phase("Build", name, "Succeeded", "Failed", "Cancelled")
    status = build["status"]
    told = json.dumps(status, indent=1)
    failure = status.get("failure") or {}
    assert (status["phase"], failure.get("reason")) == (case.phase, case.reason), told
    assert failure["step"] == case.step, told
    assert case.said in failure["message"], told
    assert failure["remedy"], told
    if case.exit_code is not None:
        assert failure["exitCode"] == case.exit_code, told
        assert failure["pod"] == f"{name}-build-1", told
        assert failure["container"], told
    if case.last:
        assert failure["lastLines"][-1] == case.last, told
        assert log_of(broken, name).splitlines()[-1] == case.last
    [stalled] = [c for c in status["conditions"] if c["type"] == "Stalled"]
    assert (stalled["status"], stalled["reason"]) == ("True", case.reason)


def test_events_have_the_same_reasons(broken: Stack) -> None:
    broken.wait_for_phase("Build", "exit-code", "Failed")

    def reasons() -> set[str]:
        about = "involvedObject.name=exit-code"
        found = broken.cluster.get("events", "-n", TEAM, "--field-selector", about)
        return {event["reason"] for event in found or []}

    eventually("the Event, which follows the status", lambda: "StepFailed" in reasons(), broken)
