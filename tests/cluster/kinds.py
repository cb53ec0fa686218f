"""Our three kinds on a real API server: manifests, and what asks for them through the gateway's parts."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import InvalidResourceError
from spanyard_core.kube import KubeUnavailableError
from spanyard_core.kube.client import KubeClient
from spanyard_core.resources import crds
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import API_VERSION, PLURALS, Kind
from spanyard_gateway.kube_cache import KubeCache
from spanyard_gateway.kube_resources import KubeResources
from tests.cluster.apiserver import ApiServer
from tests.fakes.processes import wait_for

PATIENCE_S = 60.0
"""A watch is a moment behind; on a busy machine a longer one."""


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


async def listed(
    api: ResourceApi, kind: Kind, names: Sequence[str], *, of: str = ""
) -> Sequence[Any]:
    """What the list has, as soon as it has these names: a watch is a moment behind."""

    async def there() -> Sequence[Any] | None:
        found = await api.list(kind, project=of)
        return found if [r.metadata.name for r in found] == list(names) else None

    return await soon(there)


async def soon(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
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
