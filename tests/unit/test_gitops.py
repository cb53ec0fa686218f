"""What Argo CD and Flux think of our objects, over statuses that our own functions write.

Argo CD's health checks run in the Lua that it has (5.1), from the file that users merge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from lupa import lua51

from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    CollectorStatus,
    Deployment,
    Project,
    ProjectStatus,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import GivenUp, Group, Wish, describe
from spanyard_core.resources.schema import decode, encode, validate
from tests.fakes.kstatus import kstatus

GITOPS = Path(__file__).parents[2] / "examples" / "gitops"
NOW = "2026-11-21T10:00:00Z"
CRASH = explain("CrashLoop", exit_code=1)
MISSING = explain("BuildMissing", name="support-9")


def checks() -> dict[str, str]:
    data = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text("utf-8"))["data"]
    return {
        name.removeprefix("resource.customizations.health.spanyard.dev_"): script
        for name, script in data.items()
    }


def argocd(manifest: dict[str, Any]) -> tuple[str, str]:
    """Health and message, by the script of its kind, without what Argo CD does not give it."""
    runtime = lua51.LuaRuntime()  # type: ignore[call-arg]
    runtime.execute("os, io, debug, package, require, dofile, loadfile = nil")
    runtime.globals().obj = runtime.table_from(manifest, recursive=True)  # type: ignore[call-arg]
    made = runtime.execute(checks()[manifest["kind"]])
    return str(made.status), str(made.message)


@dataclass(frozen=True)
class Row:
    """An object, and what is to be thought of it."""

    about: str
    manifest: dict[str, Any]
    health: str
    kstatus: str
    says: str = ""


def resource(kind: str, **spec: Any) -> Any:
    return decode(
        {
            "apiVersion": "spanyard.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": "support-1", "namespace": "team-a", "generation": 2},
            "spec": spec,
        }
    )


BUILD: Build = resource("Build", project="support", source={"git": {"url": "https://x/y.git"}})
SERVER: Deployment = resource(
    "Deployment", project="support", follow=True, command="node server.js"
)
PROJECT: Project = resource("Project")


def build(status: life.BuildStatus) -> dict[str, Any]:
    return encode(msgspec.structs.replace(BUILD, status=status))


def server(
    wish: Wish,
    serving: Group | None = None,
    candidate: Group | None = None,
    given_up: GivenUp | None = None,
) -> dict[str, Any]:
    status = describe(
        SERVER, wish, serving, candidate, given_up,
        revisions=[], endpoint="", collector=CollectorStatus(), now=NOW,
    )  # fmt: skip
    return encode(msgspec.structs.replace(SERVER, status=status))


def project(ready: bool) -> dict[str, Any]:
    because = Because("Accepted") if ready else Because("InvalidSpec", "spec.x: is too long")
    made = conditions(
        [], generation=2, now=NOW, ready="True" if ready else "False", because=because,
        stalled=None if ready else because,
    )  # fmt: skip
    status = ProjectStatus(observed_generation=2, conditions=made)
    return encode(msgspec.structs.replace(PROJECT, status=status))


def group(number: int, *, ready: int = 1, **more: Any) -> Group:
    return Group(
        number=number, hash=f"h{number}", since=0, wanted=1, running=1, ready=ready, **more
    )


def stored(one: Any) -> dict[str, Any]:
    """As the API server keeps it, with the defaults of the CRD: no generation was observed yet."""
    made = validate(encode(one))
    made["metadata"]["generation"] = 2
    return made


def rows() -> Iterator[Row]:
    for name, fresh in (("project", PROJECT), ("build", BUILD), ("server", SERVER)):
        yield Row(f"{name}: just applied", stored(fresh), "Progressing", "InProgress", "not seen")
        gone = stored(fresh)
        gone["metadata"]["deletionTimestamp"] = NOW
        yield Row(f"{name}: being removed", gone, "Progressing", "Terminating", "removed")
    yield Row("project: accepted", project(ready=True), "Healthy", "Current")
    yield Row("project: refused", project(ready=False), "Degraded", "Failed", "InvalidSpec: spec.x")

    queued = life.queued(BUILD, now=NOW)
    begun = life.begun(BUILD, now=NOW)
    running = life.step_begun(BUILD, begun, "install", now=NOW)
    yield Row("build: queued", build(queued), "Progressing", "InProgress", "room")
    yield Row("build: begun", build(begun), "Progressing", "InProgress", "starts")
    yield Row("build: runs", build(running), "Progressing", "InProgress", "install")
    good = life.succeeded(BUILD, running, ArtifactStatus(), now=NOW, log_complete=True)
    yield Row("build: succeeded", build(good), "Healthy", "Current", "artifact")
    bad = life.failed(
        BUILD, running, explain("StepFailed", step="install", exit_code=3), now=NOW,
        log_complete=True,
    )  # fmt: skip
    # It stays for its log: an application that keeps it must not stay degraded for ever.
    yield Row(
        "build: failed", build(bad), "Healthy", "Failed", "Failed (StepFailed): install ended"
    )
    left_out = life.failed(
        BUILD, queued, explain("Superseded", name="support-2"), now=NOW, log_complete=True
    )
    yield Row("build: left out", build(left_out), "Healthy", "Failed", "Cancelled (Superseded)")

    one = Wish(hash="h1", generation=2)
    two = Wish(hash="h2", generation=2)
    up, down = group(1), group(2, ready=0, failure=CRASH)
    given_up = GivenUp("h2", 2, CRASH)
    waits = server(Wish(wait="support-1 is building", generation=2))
    yield Row("server: waits for its build", waits, "Progressing", "InProgress", "support-1")
    lacks = server(Wish(failure=MISSING, generation=2))
    yield Row("server: names no build", lacks, "Degraded", "Failed", "BuildMissing: there is no")
    yield Row("server: starts", server(one, None, group(1, ready=0)), "Progressing", "InProgress")
    yield Row("server: serves", server(one, up), "Healthy", "Current", "1 of 1")
    yield Row("server: rolls out", server(two, up, group(2, ready=0)), "Progressing", "InProgress")
    yield Row(
        "server: tries again", server(two, up, down), "Progressing", "InProgress", "tried again"
    )
    yield Row(
        "server: a bad revision beside one that serves", server(two, up, None, given_up),
        "Degraded", "Failed", "revision 1 goes on serving",
    )  # fmt: skip
    yield Row(
        "server: never served", server(two, None, None, given_up), "Degraded", "Failed", "CrashLoop"
    )
    yield Row("server: lost a replica", server(one, group(1, ready=0)), "Progressing", "InProgress")
    # `Suspended` has no word in kstatus: it is not ready, and on its way to nothing.
    asleep = server(Wish(hash="h1", generation=2, suspend=True))
    yield Row("server: suspended", asleep, "Suspended", "InProgress", "suspend")
    ending = server(Wish(hash="h1", generation=2, suspend=True), up)
    yield Row("server: is being suspended", ending, "Progressing", "InProgress")
    zero = server(Wish(hash="h1", generation=2, replicas=0))
    yield Row("server: scaled to zero", zero, "Healthy", "Current", "replicas")


ROWS = list(rows())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_what_argo_cd_and_kstatus_think(row: Row) -> None:
    health, message = argocd(row.manifest)
    assert health == row.health, message
    assert row.says in message
    assert kstatus(row.manifest) == row.kstatus


def test_every_kind_has_a_check_and_every_health_is_argo_cds() -> None:
    assert set(checks()) == {"Project", "Build", "Deployment"}
    healths = {row.health for row in ROWS}
    assert healths == {"Healthy", "Progressing", "Degraded", "Suspended"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_a_status_of_an_older_spec_is_never_taken_for_news(row: Row) -> None:
    changed = {**row.manifest, "metadata": {**row.manifest["metadata"], "generation": 3}}
    if "deletionTimestamp" not in changed["metadata"]:
        assert argocd(changed)[0] == "Progressing"
        assert kstatus(changed) == "InProgress"


def test_a_status_that_somebody_emptied_is_no_error() -> None:
    for kind in checks():
        bare = {"kind": kind, "metadata": {"name": "x", "generation": 1}}
        assert argocd(bare)[0] == "Progressing"
        assert argocd({**bare, "status": {"observedGeneration": 1}})[0] == "Progressing"


@pytest.mark.parametrize("file", sorted(GITOPS.rglob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_whole_objects(file: Path) -> None:
    for one in yaml.safe_load_all(file.read_text("utf-8")):
        assert {"apiVersion", "kind", "metadata"} <= one.keys()
        assert one["metadata"]["namespace"]
