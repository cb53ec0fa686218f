"""The laptop's controller, projects and deployments: who runs, who is made again, who goes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from spanyard_core.clock import SystemClock
from spanyard_core.resources.conditions import is_true
from spanyard_core.resources.kinds import (
    DeploymentStatus,
)
from spanyard_core.storage import open_storage
from spanyard_local.store import ResourceStore
from tests.fakes.controlled import World, build, deployment, manifest, running


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = ResourceStore(tmp_path / "resources", clock=SystemClock())
    await store.open()
    storage = open_storage((tmp_path / "bucket").as_uri())
    yield World(store, storage)
    await storage.close()


async def test_a_project_goes_when_its_children_are_gone(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a"), deployment("web")])
    async with running(world):
        await world.until(lambda: world.attempts.running and world.servers)
        await world.store.delete("Project", "local.shop")
        await world.until(
            lambda: world.store.projects()[0].status.conditions[0].reason == "Deleting"
        )
        (condition, *_) = world.store.projects()[0].status.conditions
        assert "1 builds and 1 deployments" in condition.message
        await world.store.delete("Build", "local.a")
        await world.store.delete("Deployment", "local.web")
        await world.gone("Project", "shop")
    assert world.servers[0].ended.is_set()


async def test_a_deployment_has_one_runner_that_hears_of_every_wish(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), deployment("web")])
    async with running(world):
        await world.until(lambda: world.servers)
        await world.store.apply([deployment("web", port=9000), build("a")])
        (server,) = world.servers
        await world.until(lambda: server.deployment.spec.port == 9000 and server.builds)
        await server.changed(DeploymentStatus(endpoint="http://127.0.0.1:1"))
        server.event("Normal", "Serving", "it serves")
        await world.until(lambda: world.store.deployments()[0].status.endpoint)
        assert not world.cleaned
        await world.store.delete("Deployment", "local.web")
        await world.gone("Deployment", "web")
        assert server.ended.is_set()
        assert world.cleaned == [server.deployment.metadata.uid]
        await world.store.apply([deployment("web")])
        await world.until(lambda: len(world.servers) == 2)
        assert world.servers[1].deployment.metadata.uid != server.deployment.metadata.uid


async def test_a_runner_that_fails_is_made_again_and_it_is_told(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), deployment("web")])
    async with running(world):
        await world.until(lambda: world.servers)
        world.servers[0].failing.set()
        await world.until(lambda: len(world.servers) == 2)
        (event,) = await world.told("Deployment", "web", 1)
        assert (event.reason, event.message) == ("InternalError", "a mistake")


async def test_at_the_start_nothing_is_ready_whatever_the_last_run_said(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), deployment("web")])
    (web,) = world.store.deployments()
    status = DeploymentStatus(ready_replicas=1, replicas=1, endpoint="http://127.0.0.1:1")
    await world.store.set_status(web, status)
    await world.controller.begin()
    (web,) = world.store.deployments()
    assert not is_true(web.status.conditions, "Ready")
    assert is_true(web.status.conditions, "Reconciling")
    assert (web.status.ready_replicas, web.status.replicas) == (0, 1)
    assert web.status.endpoint == "http://127.0.0.1:1"
