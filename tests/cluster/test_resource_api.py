"""One suite for what keeps resources: the laptop's store and a real API server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.kube import EVENTS, PODS, KubeUnavailableError
from spanyard_core.kube.client import KubeClient
from spanyard_core.resources import crds
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import API_VERSION, GROUP, PLURALS, Build, Deployment, Kind
from spanyard_gateway.kube_cache import KubeCache
from spanyard_gateway.kube_resources import KubeResources
from spanyard_local.store import ResourceStore
from tests.cluster.apiserver import ApiServer
from tests.fakes.processes import wait_for

WITHIN_S = 20.0


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def project(name: str = "shop", **spec: Any) -> dict[str, Any]:
    return manifest("Project", name, **spec)


def build(name: str = "web-1", **spec: Any) -> dict[str, Any]:
    source = {"git": {"url": "https://example.com/shop"}}
    return manifest("Build", name, **{"project": "shop", "source": source, **spec})


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    return manifest("Deployment", name, project="shop", follow=True, command="./run", **spec)


@pytest.fixture(scope="module")
def with_kinds(api_server: ApiServer) -> ApiServer:
    """An API server that has our three kinds."""
    for kind in PLURALS:
        made = api_server.request(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            crds.definition(kind),
        )
        assert made.status in {201, 409}, made.message
    paths = [f"/apis/{API_VERSION}/{plural}" for plural in PLURALS.values()]
    wait_for(
        "our kinds are served",
        lambda: all(api_server.request("GET", one).status == 200 for one in paths),
    )
    return api_server


@pytest.fixture
def namespace(with_kinds: ApiServer) -> Iterator[str]:
    name = f"k8-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert with_kinds.request("POST", "/api/v1/namespaces", body).status == 201
    yield name
    # Nobody ends namespaces here: no controller runs. Their objects go one by one.
    for plural in PLURALS.values():
        place = f"/apis/{API_VERSION}/namespaces/{name}/{plural}"
        assert with_kinds.request("DELETE", place).status == 200


@pytest.fixture
async def kube(with_kinds: ApiServer, tmp_path: Path) -> AsyncIterator[KubeClient]:
    client = await KubeClient.from_kubeconfig(str(with_kinds.kubeconfig(tmp_path / "kubeconfig")))
    yield client
    await client.close()


@pytest.fixture
async def cluster(kube: KubeClient, namespace: str) -> AsyncIterator[KubeResources]:
    """In the cluster, where the namespace is that of the test."""
    cache = KubeCache(kube, SystemClock(), namespaces=[namespace])
    running = asyncio.create_task(cache.run())
    yield KubeResources(kube, cache, namespace=namespace)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


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


async def listed(
    api: ResourceApi, kind: Kind, names: Sequence[str], *, of: str = ""
) -> Sequence[Any]:
    """What the list has, as soon as it has these names: a watch is a moment behind."""

    async def there() -> Sequence[Any] | None:
        found = await api.list(kind, project=of)
        return found if [r.metadata.name for r in found] == list(names) else None

    return await soon(there)


async def soon(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                found = await look()
            except KubeUnavailableError:  # the first listing is under way
                found = None
            if found is not None:
                return found
            await asyncio.sleep(0.02)


async def outcomes(api: ResourceApi, *manifests: Mapping[str, Any], dry: bool = False) -> list[str]:
    return [one.outcome for one in await api.apply(manifests, dry_run=dry)]


async def refused(api: ResourceApi, *manifests: Mapping[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidResourceError) as error:
        await api.apply(manifests)
    return list(error.value.problems)


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


class TestKubernetes:
    """What only a cluster has."""

    async def test_a_namespace_that_is_not_there_is_said_with_what_to_do(
        self, cluster: KubeResources
    ) -> None:
        made = project()
        made["metadata"]["namespace"] = "k8-nowhere"
        [(where, what)] = await refused(cluster, made)
        assert where == "projects/shop: metadata.namespace"
        assert "kubectl create namespace" in what

    async def test_fields_of_others_stay_theirs(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        from spanyard_core.kube import DEPLOYMENTS

        await cluster.apply([project(), deployment()])
        theirs = {"spec": {"replicas": 4}, "metadata": {"labels": {"team": "a"}}}
        assert await kube.merge(DEPLOYMENTS, "web", theirs, namespace)
        assert await outcomes(cluster, deployment()) == ["unchanged"]
        found = await cluster.get("Deployment", f"{namespace}.web")
        assert isinstance(found, Deployment)
        assert (found.spec.replicas, found.metadata.labels) == (4, {"team": "a"})

    async def test_events_are_those_of_the_object_and_its_pods(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        await cluster.apply([project(), build(), build("web-2")])
        found = await cluster.get("Build", f"{namespace}.web-1")
        assert found is not None
        pod = await kube.create(PODS, _pod("web-1-build-1", f"{GROUP}/build"), namespace)
        about = [
            ("Build", "web-1", found.metadata.uid, "Queued", "10"),
            ("Pod", "web-1-build-1", pod["metadata"]["uid"], "FailedScheduling", "11"),
            ("Build", "web-2", "other", "Queued", "12"),
            ("Build", "web-1", "the one before of this name", "Failed", "13"),
        ]
        for kind, name, uid, reason, second in about:
            await kube.create(EVENTS, _event(kind, name, uid, reason, second, namespace), namespace)
        events = await cluster.events("Build", f"{namespace}.web-1")
        assert [(e.time, e.type, e.reason, e.message, e.count) for e in events] == [
            ("2026-11-21T14:45:10Z", "Normal", "Queued", "so", 2),
            ("2026-11-21T14:45:11Z", "Warning", "FailedScheduling", "pod web-1-build-1: so", 2),
        ]
        assert await cluster.events("Build", f"{namespace}.none") == ()
        assert await kube.delete(PODS, "web-1-build-1", namespace, grace=0)

    async def test_a_change_by_others_shows_in_the_list(
        self, cluster: KubeResources, kube: KubeClient, namespace: str
    ) -> None:
        from spanyard_core.kube import PROJECTS

        await listed(cluster, "Project", [])
        await kube.create(PROJECTS, project(), namespace)
        await listed(cluster, "Project", ["shop"])
        assert await kube.delete(PROJECTS, "shop", namespace)
        await listed(cluster, "Project", [])

    async def test_rights_that_the_gateway_lacks_are_named(
        self, with_kinds: ApiServer, namespace: str, tmp_path: Path
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
        assert with_kinds.request("POST", path, body).status == 201
        ask = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = with_kinds.request("POST", f"{path}/nobody/token", ask).body["status"]["token"]
        weak = ApiServer(with_kinds.host, with_kinds.port, token, with_kinds.certificate)
        client = await KubeClient.from_kubeconfig(str(weak.kubeconfig(tmp_path / "weak")))
        api = KubeResources(client, KubeCache(client, SystemClock()), namespace=namespace)
        with pytest.raises(SpanyardError, match=r'cannot get resource "projects".*docs/reference'):
            await api.apply([project()])
        await client.close()


def _pod(name: str, label: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {label: "web-1"}},
        "spec": {
            "containers": [{"name": "a", "image": "x"}],
            "automountServiceAccountToken": False,
        },
    }


def _event(kind: str, name: str, uid: str, reason: str, second: str, place: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{second}"},
        "involvedObject": {
            "apiVersion": API_VERSION if kind != "Pod" else "v1",
            "kind": kind, "name": name, "uid": uid, "namespace": place,
        },
        "reason": reason,
        "message": "so",
        "type": "Warning" if kind == "Pod" else "Normal",
        "count": 2,
        "lastTimestamp": f"2026-11-21T14:45:{second}Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("full", "emptied"),
    [
        (project(displayName="Shop"), project()),
        (project(builds={"concurrencyPolicy": "Serial"}), project(builds={})),
        (build(resources={"limits": {"memory": "1Gi"}}), build(resources={"limits": {}})),
        (build(builder={"image": "python:3.14"}), build(builder={})),
        (deployment(resources={"limits": {"memory": "1Gi"}}), deployment(resources={})),
        (deployment(nodeSelector={"disk": "ssd"}), deployment(nodeSelector={})),
        (deployment(collector={"resources": {"limits": {"memory": "1Gi"}}}), deployment(collector={})),
    ],
    ids=["spec", "builds", "limits", "builder", "resources", "nodeSelector", "collector"],
)  # fmt: skip
def test_what_a_manifest_empties_is_accepted(
    full: dict[str, Any], emptied: dict[str, Any], with_kinds: ApiServer
) -> None:
    """A server-side apply makes null of an object that lost its last field, here as with Flux."""
    plural = PLURALS[full["kind"]]
    path = f"/apis/{API_VERSION}/namespaces/default/{plural}/emptied-{uuid.uuid4().hex[:8]}"
    for given in (full, emptied):
        named = {**given, "metadata": {"name": path.rpartition("/")[2]}}
        done = with_kinds.request(
            "PATCH", f"{path}?fieldManager=test", named, kind="application/apply-patch+yaml"
        )
        assert done.status in {200, 201}, done.message
