"""One suite for what keeps resources: the laptop's store and a real API server."""

from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import InvalidResourceError
from spanyard_core.kube.client import KubeClient
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import GROUP, Build, Deployment
from spanyard_gateway.kube_resources import KubeResources
from spanyard_local.store import ResourceStore
from tests.cluster.kinds import (
    build,
    cluster,
    deployment,
    kube,
    listed,
    manifest,
    namespace,
    outcomes,
    project,
    refused,
    with_kinds,
)

__all__ = ["cluster", "kube", "namespace", "with_kinds"]


@pytest.fixture
async def laptop(tmp_path: Path) -> ResourceStore:
    store = ResourceStore(tmp_path / "store", clock=SystemClock())
    await store.open()
    return store


@pytest.fixture(params=["laptop", "cluster"])
def api(request: pytest.FixtureRequest) -> ResourceApi:
    found: ResourceApi = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def place(api: ResourceApi) -> str:
    """The namespace of manifests that name none."""
    return api._namespace  # type: ignore[attr-defined, no-any-return]


async def test_what_is_applied_is_there_with_defaults(api: ResourceApi, place: str) -> None:
    applied = await api.apply([project(), build(), deployment()])
    assert [(one.kind, one.id, one.outcome, one.warnings) for one in applied] == [
        ("Project", f"{place}.shop", "created", []),
        ("Build", f"{place}.web-1", "created", []),
        ("Deployment", f"{place}.web", "created", []),
    ]
    made = await api.get("Build", f"{place}.web-1")
    assert isinstance(made, Build)
    assert (made.spec.timeout, made.status.phase, made.metadata.generation) == ("30m", "Queued", 1)
    assert made.metadata.namespace == place
    assert len(made.metadata.uid) == 36
    for kind, name in (("Project", "shop"), ("Build", "web-1"), ("Deployment", "web")):
        [one] = await listed(api, kind, [name])  # type: ignore[arg-type]
        assert one.kind == kind
    assert await api.get("Build", f"{place}.none") is None


async def test_lists_are_by_id_and_of_one_project(api: ResourceApi, place: str) -> None:
    other = manifest("Build", "a-1", project="other", source={"archive": {"digest": _digest()}})
    await api.apply([build("b-2"), build("b-1"), other, project(), project("other")])
    await listed(api, "Build", ["a-1", "b-1", "b-2"])
    await listed(api, "Build", ["b-1", "b-2"], of=f"{place}.shop")
    await listed(api, "Build", [], of=f"{place}.none")
    await listed(api, "Project", ["other"], of=f"{place}.other")


def _digest() -> str:
    return "sha256:" + "a" * 64


async def test_the_same_again_changes_nothing_and_a_dry_run_never_does(
    api: ResourceApi, place: str
) -> None:
    both = [project(), deployment()]
    assert await outcomes(api, *both, dry=True) == ["created", "created"]
    assert await api.get("Project", f"{place}.shop") is None
    assert await outcomes(api, *both) == ["created", "created"]
    before = await api.get("Deployment", f"{place}.web")
    assert await outcomes(api, *both) == ["unchanged", "unchanged"]
    changed = deployment(port=9000)
    assert await outcomes(api, changed, dry=True) == ["configured"]
    assert await api.get("Deployment", f"{place}.web") == before
    assert await outcomes(api, changed) == ["configured"]
    after = await api.get("Deployment", f"{place}.web")
    assert isinstance(after, Deployment)
    assert (after.spec.port, after.metadata.generation) == (9000, 2)
    labelled = deployment(port=9000)
    labelled["metadata"]["labels"] = {"team": "a"}
    assert await outcomes(api, labelled) == ["configured"]


async def test_what_a_manifest_no_longer_says_goes_back_to_its_default(
    api: ResourceApi, place: str
) -> None:
    await api.apply([project(), deployment(port=9000, env=[{"name": "A", "value": "1"}])])
    assert await outcomes(api, deployment()) == ["configured"]
    found = await api.get("Deployment", f"{place}.web")
    assert isinstance(found, Deployment)
    assert (found.spec.port, found.spec.env) == (8080, [])


async def test_what_was_set_at_run_time_outlives_an_apply(api: ResourceApi, place: str) -> None:
    await api.apply([project(), build(), deployment()])
    scaled = await api.patch("Deployment", f"{place}.web", {"replicas": 3})
    assert isinstance(scaled, Deployment)
    assert scaled.spec.replicas == 3
    cancelled = await api.patch("Build", f"{place}.web-1", {"cancel": True})
    assert isinstance(cancelled, Build)
    assert cancelled.spec.cancel
    await api.apply([build(), deployment(port=9000)])
    found = await api.get("Deployment", f"{place}.web")
    assert isinstance(found, Deployment)
    assert (found.spec.replicas, found.spec.port) == (3, 9000)
    made = await api.get("Build", f"{place}.web-1")
    assert isinstance(made, Build)
    assert made.spec.cancel
    await api.apply([deployment(port=9000, replicas=1)])
    found = await api.get("Deployment", f"{place}.web")
    assert isinstance(found, Deployment)
    assert found.spec.replicas == 1


async def test_all_problems_of_all_manifests_are_told_with_their_fields_and_nothing_is_changed(
    api: ResourceApi, place: str
) -> None:
    problems = await refused(
        api,
        project(),
        build(timeuot="5m"),
        manifest("Deployment", "web", project="shop", replicas="many"),
        build("web-2", timeout="soon"),
        project(),
        {"kind": "Project"},
    )
    wheres = [where for where, _ in problems]
    assert "builds/web-1: spec.timeuot" in wheres
    assert "deployments/web: spec.replicas" in wheres
    assert ("builds/web-2: spec.timeout", "must be a duration such as 30s, 15m, 1h30m or 7d") in (
        problems
    )
    assert (f"projects/{place}.shop", "it is there twice; apply one of them") in problems
    assert any("apiVersion" in where for where in wheres)
    assert await api.get("Project", f"{place}.shop") is None


@pytest.mark.parametrize(
    ("wrong", "where", "what"),
    [
        (
            {"source": {"git": {"url": "https://x/y"}, "archive": {"digest": _digest()}}},
            "builds/web-1: spec.source", "set exactly one of git, archive, directory and artifact",
        ),
        ({"source": {"archive": {"digest": "sha256:1"}}},
         "builds/web-1: spec.source.archive.digest", "must be `sha256:` and 64 hexadecimal digits"),
        ({"timeout": 5}, "builds/web-1: spec.timeout", "must be"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "builds/web-1: spec.env[1]", ""),
    ],
    ids=["two sources", "a digest that is none", "a number", "twice the same name"],
)  # fmt: skip
async def test_a_refusal_names_the_field(
    api: ResourceApi, wrong: dict[str, Any], where: str, what: str
) -> None:
    [first, *_] = await refused(api, project(), build(**wrong))
    assert first[0] == where
    assert what in first[1]


async def test_rules_about_changes_are_kept(api: ResourceApi) -> None:
    await api.apply([project(), project("other"), build()])
    [(where, what)] = await refused(api, build(project="other"))
    assert where == "builds/web-1: spec.project"
    assert what.startswith("must stay the same")


async def test_a_patch_is_judged_like_a_manifest(api: ResourceApi, place: str) -> None:
    await api.apply([project(), deployment(env=[{"name": "A", "value": "1"}])])
    for wrong, where in (
        ({"replicas": "many"}, "deployments/web: spec.replicas"),
        ({"replica": 2}, "deployments/web: spec.replica"),
        ({"progressDeadline": "soon"}, "deployments/web: spec.progressDeadline"),
        ({"project": "other"}, "deployments/web: spec.project"),
    ):
        with pytest.raises(InvalidResourceError) as error:
            await api.patch("Deployment", f"{place}.web", wrong)
        assert where in [found for found, _ in error.value.problems], error.value
    changed = await api.patch("Deployment", f"{place}.web", {"env": None})
    assert isinstance(changed, Deployment)
    assert changed.spec.env == []
    assert await api.patch("Deployment", f"{place}.none", {}) is None


async def test_a_project_that_is_not_there_is_a_warning(api: ResourceApi) -> None:
    [one] = await api.apply([build()])
    assert one.warnings == ["there is no project shop yet; it waits for one"]
    both = await api.apply([build("b"), project()])
    assert [one.warnings for one in both] == [[], []]


async def test_an_object_that_is_being_deleted_takes_no_change(
    api: ResourceApi, place: str, request: pytest.FixtureRequest
) -> None:
    await api.apply([project(), build()])
    if isinstance(api, KubeResources):  # as the operator does; the store waits for its runner
        from spanyard_core.kube import BUILDS

        kube: KubeClient = request.getfixturevalue("kube")
        patch = {"metadata": {"finalizers": [f"{GROUP}/bucket"]}}
        assert await kube.merge(BUILDS, "web-1", patch, place)
    assert await api.delete("Build", f"{place}.web-1")
    [(where, what)] = await refused(api, build(timeout="5m"))
    assert (where, what) == ("builds/web-1", "it is being deleted; wait until it is gone")
    with pytest.raises(InvalidResourceError, match="being deleted"):
        await api.patch("Build", f"{place}.web-1", {"cancel": True})
    found = await api.get("Build", f"{place}.web-1")
    assert found is not None
    assert found.metadata.deletion_timestamp
    if isinstance(api, KubeResources):
        assert await kube.merge(BUILDS, "web-1", {"metadata": {"finalizers": None}}, place)
        await listed(api, "Build", [])
    assert not await api.delete("Build", f"{place}.none")


async def test_what_a_server_wrote_into_a_manifest_is_left_alone(
    api: ResourceApi, place: str
) -> None:
    await api.apply([project()])
    wrote = {"uid": "x", "resourceVersion": "1", "generation": 7, "managedFields": []}
    read = project(displayName="Shop")
    read["metadata"] |= wrote
    read["status"] = {"runningBuilds": 99}
    assert await outcomes(api, read) == ["configured"]
    found: Any = await api.get("Project", f"{place}.shop")
    assert (found.spec.display_name, found.status.running_builds) == ("Shop", 0)
    assert found.metadata.uid != "x"
