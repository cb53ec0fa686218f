"""What `Kube` promises, of the real API server and of the one in memory that other tests use."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.errors import SettingError
from spanyard_core.kube import (
    BUILDS,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    TOKEN_REVIEWS,
    Kube,
    KubeError,
    KubeUnavailableError,
)
from spanyard_core.kube.client import KubeClient
from tests.cluster.apiserver import ApiServer
from tests.cluster.operator_process import install_kinds
from tests.fakes.kube import FakeKube

SPACE = "kube-client"


@pytest.fixture(scope="module")
def served(api_server: ApiServer) -> ApiServer:
    install_kinds(api_server)
    api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
    return api_server


@pytest_asyncio.fixture(params=["real", "memory"])
async def kube(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kube]:
    if request.param == "memory":
        fake = FakeKube()
        fake.put(NAMESPACES, {"metadata": {"name": SPACE}})
        yield fake
        return
    server = request.getfixturevalue("served")
    client = await KubeClient.from_kubeconfig(str(server.kubeconfig(tmp_path / "config")))
    try:
        yield client
    finally:
        for api in (CONFIG_MAPS, BUILDS, PODS):
            for found in await client.list(api, SPACE):
                about = found["metadata"]
                if about["name"] != "kube-root-ca.crt":
                    await client.merge(
                        api, about["name"], {"metadata": {"finalizers": None}}, SPACE
                    )
                    await client.delete(api, about["name"], SPACE, grace=0)
        await client.close()


def notes(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"of": "test"}}, "data": data}


def build(name: str) -> dict[str, Any]:
    source = {"git": {"url": "https://git.example.com/x.git"}}
    return {"metadata": {"name": name}, "spec": {"project": "p", "source": source}}


def pod(name: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "x"}], "restartPolicy": "Never"}
    return {"metadata": {"name": name}, "spec": spec}


async def test_what_is_made_is_read_listed_changed_and_removed(kube: Kube) -> None:
    assert await kube.get(CONFIG_MAPS, "a", SPACE) is None
    made = await kube.create(CONFIG_MAPS, notes("a", x="1"), SPACE)
    assert (made["kind"], made["metadata"]["namespace"]) == ("ConfigMap", SPACE)
    with pytest.raises(KubeError) as caught:
        await kube.create(CONFIG_MAPS, notes("a"), SPACE)
    assert caught.value.exists_already
    assert not caught.value.conflict
    changed = await kube.merge(CONFIG_MAPS, "a", {"data": {"y": "2", "x": None}}, SPACE)
    assert changed is not None
    assert changed["data"] == {"y": "2"}
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    [listed] = await kube.list(CONFIG_MAPS, SPACE, labels="of=test")
    assert (listed["kind"], listed["data"]) == ("ConfigMap", {"y": "2"})
    assert await kube.list(CONFIG_MAPS, SPACE, labels="of=nobody") == []
    assert len(await kube.list(CONFIG_MAPS, SPACE, fields="metadata.name=a")) == 1
    assert not await kube.delete(CONFIG_MAPS, "a", SPACE, uid="another")
    assert await kube.delete(CONFIG_MAPS, "a", SPACE, uid=made["metadata"]["uid"])
    assert not await kube.delete(CONFIG_MAPS, "a", SPACE)
    assert await kube.merge(CONFIG_MAPS, "a", {"data": {}}, SPACE) is None
    assert kube.writes["create", "configmaps"] == 2


async def test_a_change_of_an_old_version_is_refused(kube: Kube) -> None:
    made = await kube.create(CONFIG_MAPS, notes("a", x="1"), SPACE)
    await kube.merge(CONFIG_MAPS, "a", {"data": {"x": "2"}}, SPACE)
    old = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    with pytest.raises(KubeError) as caught:
        await kube.merge(CONFIG_MAPS, "a", {**old, "data": {"x": "3"}}, SPACE)
    assert caught.value.conflict
    with pytest.raises(KubeError) as caught:
        await kube.merge(CONFIG_MAPS, "a", {"metadata": {"uid": "another"}}, SPACE)
    assert caught.value.conflict


async def test_apply_owns_what_it_said_and_takes_back_what_it_says_no_more(kube: Kube) -> None:
    first = await kube.apply(CONFIG_MAPS, notes("a", x="1", y="2"), SPACE)
    await kube.merge(CONFIG_MAPS, "a", {"data": {"z": "others"}}, SPACE)
    again = await kube.apply(CONFIG_MAPS, notes("a", x="1"), SPACE)
    assert again["data"] == {"x": "1", "z": "others"}
    same = await kube.apply(CONFIG_MAPS, notes("a", x="1"), SPACE)
    assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    assert same["metadata"]["uid"] == first["metadata"]["uid"]
    tried = await kube.apply(CONFIG_MAPS, notes("a", x="9"), SPACE, dry_run=True)
    assert tried["data"]["x"] == "9"
    found = await kube.get(CONFIG_MAPS, "a", SPACE)
    assert found is not None
    assert found["data"]["x"] == "1"


async def test_a_status_and_the_rest_are_written_apart(kube: Kube) -> None:
    made = await kube.create(BUILDS, build("b"), SPACE)
    assert made["status"]["phase"] == "Queued"
    patch = {"status": {"phase": "Building", "attempt": 1}, "spec": {"cancel": True}}
    told = await kube.merge(BUILDS, "b", patch, SPACE, subresource="status")
    assert told is not None
    assert (told["status"]["phase"], told["spec"].get("cancel", False)) == ("Building", False)
    assert told["metadata"]["generation"] == 1
    changed = await kube.merge(
        BUILDS, "b", {"status": {"attempt": 7}, "spec": {"cancel": True}}, SPACE
    )
    assert changed is not None
    assert (changed["status"]["attempt"], changed["spec"]["cancel"]) == (1, True)
    assert changed["metadata"]["generation"] == 2
    assert kube.writes["merge", "builds/status"] == 1


async def test_a_finalizer_keeps_an_object_and_owners_take_their_children(kube: Kube) -> None:
    made = await kube.create(
        BUILDS, {**build("b"), "metadata": {"name": "b", "finalizers": ["test/keep"]}}, SPACE
    )
    assert await kube.delete(BUILDS, "b", SPACE)
    kept = await kube.get(BUILDS, "b", SPACE)
    assert kept is not None
    assert kept["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"finalizers": [], "resourceVersion": kept["metadata"]["resourceVersion"]}}
    await kube.merge(BUILDS, "b", patch, SPACE)
    assert await kube.get(BUILDS, "b", SPACE) is None
    assert made["metadata"]["uid"]


async def test_a_watch_tells_what_is_there_then_what_changes(kube: Kube) -> None:
    await kube.create(CONFIG_MAPS, notes("a", x="1"), SPACE)
    seen: list[tuple[str, str]] = []
    synced = asyncio.Event()

    async def look() -> None:
        async with aclosing(kube.watch(CONFIG_MAPS, SPACE, labels="of=test")) as events:
            async for event in events:
                name = event.object.get("metadata", {}).get("name", "")
                seen.append((event.type, name))
                if event.type == "SYNCED":
                    synced.set()
                if (event.type, name) == ("DELETED", "b"):
                    return

    watching = asyncio.create_task(look())
    await asyncio.wait_for(synced.wait(), 60)
    await kube.create(CONFIG_MAPS, notes("b"), SPACE)
    await kube.merge(CONFIG_MAPS, "b", {"data": {"x": "2"}}, SPACE)
    await kube.delete(CONFIG_MAPS, "b", SPACE)
    await asyncio.wait_for(watching, 60)
    assert seen == [
        ("ADDED", "a"), ("SYNCED", ""), ("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "b"),
    ]  # fmt: skip


async def test_a_pod_is_given_its_end_later(kube: Kube) -> None:
    """How a build's pod is ended: the API takes a deadline where there was none."""
    await kube.create(PODS, pod("p"), SPACE)
    patch = {"spec": {"activeDeadlineSeconds": 1}}
    changed = await kube.merge(PODS, "p", patch, SPACE)
    assert changed is not None
    assert changed["spec"]["activeDeadlineSeconds"] == 1


# --- of the real one alone ---------------------------------------------------------------------


@pytest_asyncio.fixture
async def client(served: ApiServer, tmp_path: Path) -> AsyncIterator[KubeClient]:
    made = await KubeClient.from_kubeconfig(str(served.kubeconfig(tmp_path / "config")))
    yield made
    await made.close()


async def test_a_review_has_no_name_and_no_namespace(client: KubeClient) -> None:
    answer = await client.create(TOKEN_REVIEWS, {"spec": {"token": "nobody's"}})
    assert not answer["status"].get("authenticated")


async def test_a_refusal_says_what_and_where(client: KubeClient) -> None:
    with pytest.raises(KubeError) as caught:
        await client.create(BUILDS, {"metadata": {"name": "b"}, "spec": {"project": "p"}}, SPACE)
    assert caught.value.status == 422
    assert "spec.source" in str(caught.value)
    assert f"/namespaces/{SPACE}/builds" in str(caught.value)


async def test_a_listing_goes_over_many_pages(
    client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanyard_core.kube.client.PAGE", 3)
    for number in range(8):
        await client.apply(CONFIG_MAPS, notes(f"page-{number}"), SPACE)
    try:
        found = await client.list(CONFIG_MAPS, SPACE, labels="of=test")
        assert sorted(one["metadata"]["name"] for one in found) == [f"page-{n}" for n in range(8)]
        assert all(one["apiVersion"] == "v1" for one in found)
    finally:
        for number in range(8):
            await client.delete(CONFIG_MAPS, f"page-{number}", SPACE)


async def test_a_stream_is_read_as_it_comes(client: KubeClient) -> None:
    async with client.stream("/api/v1/namespaces", {"limit": "1"}) as stream:
        text = b"".join([piece async for piece in stream])
    assert json.loads(text)["kind"] == "NamespaceList"
    with pytest.raises(KubeError) as caught:
        async with client.stream(f"/api/v1/namespaces/{SPACE}/pods/none/log"):
            pass
    assert caught.value.status == 404


async def test_nobody_there_is_told_apart_from_a_refusal(tmp_path: Path) -> None:
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config), "utf-8")
    client = await KubeClient.from_kubeconfig(str(tmp_path / "config"))
    try:
        with pytest.raises(KubeUnavailableError, match="API server is away"):
            await client.get(PODS, "x", "y")
    finally:
        await client.close()


# --- kubeconfigs -------------------------------------------------------------------------------


@pytest.fixture
def kubeconfig(served: ApiServer, tmp_path: Path) -> dict[str, Any]:
    """One with everything in it, to be changed and written by `written`."""
    made = json.loads(served.kubeconfig(tmp_path / "first").read_text("utf-8"))
    ca = served.certificate.read_bytes()
    cluster = made["clusters"][0]["cluster"]
    del cluster["certificate-authority"]
    cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
    return made


async def asked(kubeconfig: dict[str, Any], folder: Path, context: str = "") -> int:
    """How many namespaces an API server tells whoever this is."""
    (folder / "config").write_text(json.dumps(kubeconfig), "utf-8")
    client = await KubeClient.from_kubeconfig(str(folder / "config"), context)
    try:
        return len(await client.list(NAMESPACES))
    finally:
        await client.close()


async def test_a_program_gives_the_token(
    kubeconfig: dict[str, Any], served: ApiServer, tmp_path: Path
) -> None:
    told = {"kind": "ExecCredential", "status": {"token": served.token}}
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n", "utf-8")
    program.chmod(0o755)
    kubeconfig["users"][0]["user"] = {"exec": {"command": "./login", "args": []}}
    assert await asked(kubeconfig, tmp_path) >= 1
    program.write_text("#!/bin/sh\necho 'log in first' >&2\nexit 3\n", "utf-8")
    with pytest.raises(SettingError, match="log in first"):
        await asked(kubeconfig, tmp_path)


async def test_a_token_in_a_file_is_read_again_when_it_was_refused(
    kubeconfig: dict[str, Any], served: ApiServer, tmp_path: Path
) -> None:
    kubeconfig["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "token").write_text("old", "utf-8")
    (tmp_path / "config").write_text(json.dumps(kubeconfig), "utf-8")
    client = await KubeClient.from_kubeconfig(str(tmp_path / "config"))
    try:
        with pytest.raises(KubeError) as caught:
            await client.list(NAMESPACES)
        assert caught.value.status == 401
        (tmp_path / "token").write_text(served.token, "utf-8")
        assert await client.list(NAMESPACES)
    finally:
        await client.close()


async def test_a_context_that_is_not_there_is_named(
    kubeconfig: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="there is no context 'prod'"):
        await asked(kubeconfig, tmp_path, "prod")
