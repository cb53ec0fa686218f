"""Whose turn it is, whose time is over, and what a project tells; with an API server in memory."""

from pathlib import Path

import pytest

from spanyard_core.kube import BUILDS, PROJECTS
from spanyard_core.resources.kinds import Project
from spanyard_core.resources.schema import decode
from tests.fakes.operator_world import NAMESPACE, Play, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def project(world: World, name: str = "support") -> Project:
    found = next(p for p in world.kube.all(PROJECTS) if p["metadata"]["name"] == name)
    made = decode(found)
    assert isinstance(made, Project)
    return made


async def test_a_project_tells_what_it_has(world: World) -> None:
    world.project(concurrencyPolicy="Serial")
    world.build("a")
    await world.until("a is over", lambda: world.status("a").log_complete)
    world.build("b")
    world.build("c")
    world.deployment("web", follow=True)
    await world.run(5)
    status = project(world).status
    assert (status.latest_build, status.running_builds, status.queued_builds) == ("a", 1, 1)
    assert status.deployments == 1
    assert [(c.type, c.status, c.reason) for c in status.conditions] == [
        ("Ready", "True", "Accepted")
    ]


async def test_one_at_a_time_in_the_order_in_which_they_came(world: World) -> None:
    world.project(concurrencyPolicy="Serial")
    for name in ("c", "a", "b"):
        world.build(name)
        await world.run(1)
    assert world.phases() == {"c": "Building", "a": "Queued", "b": "Queued"}
    assert "c" in world.status("a").message
    await world.until("all are over", lambda: set(world.phases().values()) == {"Succeeded"})
    assert world.made == ["c-build-1", "a-build-1", "b-build-1"]


async def test_only_the_latest_of_those_that_wait(world: World) -> None:
    world.project(concurrencyPolicy="SerialLatestOnly")
    for name in ("a", "b", "c"):
        world.build(name)
        await world.run(1)
    await world.until("c is over", lambda: world.status("c").phase == "Succeeded")
    assert world.phases() == {"a": "Succeeded", "b": "Cancelled", "c": "Succeeded"}
    assert world.status("b").reason == "Superseded"
    assert world.made == ["a-build-1", "c-build-1"]


async def test_all_projects_share_the_room_of_the_cluster(world: World) -> None:
    world.operator(build_room=2)
    world.workers = 4
    for name in ("x", "y", "z"):
        world.project(name)
        world.build(f"{name}-1", project=name)
        world.build(f"{name}-2", project=name)
    most = 0

    def over() -> bool:
        nonlocal most
        phases = list(world.phases().values())
        most = max(most, phases.count("Building"))
        return phases.count("Succeeded") == 6

    await world.until("all are over", over)
    assert most == 2


async def test_a_build_without_room_starts_when_another_one_is_deleted(world: World) -> None:
    world.operator(build_room=1)
    world.project("x")
    world.project("y")
    world.build("first", project="x")
    world.plays["first-build-1"] = Play(exits={"spanyard-fetch": 0})
    await world.run(5)
    world.build("second", project="y")
    await world.run(5)
    assert world.phases() == {"first": "Building", "second": "Queued"}
    await world.kube.delete(BUILDS, "first", NAMESPACE)
    await world.until("the second runs", lambda: world.phases().get("second") == "Building")


async def test_old_builds_go_by_count_and_those_in_use_stay(world: World) -> None:
    world.project(retention={"succeededLimit": 2, "failedLimit": 1})
    world.deployment("web", buildRef={"name": "b0"})
    for number in range(5):
        world.build(f"b{number}")
        await world.until("it is over", lambda n=number: (
            f"b{n}" in world.phases() and world.status(f"b{n}").log_complete
        ))  # fmt: skip
    await world.run(5)
    assert sorted(world.phases()) == ["b0", "b3", "b4"]
    assert not [i async for i in world.storage.list(f"builds/{NAMESPACE}.b1/")]
    assert world.told("support") == ["BuildRemoved", "BuildRemoved"]
    assert world.kube.writes["delete", "builds"] == 2


async def test_old_builds_go_by_age_without_anything_else_happening(world: World) -> None:
    world.project(retention={"ttlAfterSucceeded": "1h"})
    world.build()
    await world.until("it is over", lambda: world.status().log_complete)
    await world.run(3500, tick=50)
    assert world.phases() == {"support-1": "Succeeded"}
    await world.run(200, tick=50)
    assert world.phases() == {}


async def test_a_policy_that_changes_counts_from_now_on(world: World) -> None:
    world.project(concurrencyPolicy="Serial")
    world.build("a")
    world.build("b")
    await world.run(2)
    assert sorted(world.phases().values()) == ["Building", "Queued"]
    world.change(PROJECTS, "support", builds={"concurrencyPolicy": "Parallel"})
    await world.run(2)
    assert sorted(world.phases().values()) == ["Building", "Building"]
    assert project(world).status.observed_generation == 2


@pytest.mark.slow
async def test_a_thousand_builds_at_rest_cost_a_new_operator_no_write(world: World) -> None:
    world.project(retention={"succeededLimit": 2000})
    world.build("b0")
    await world.until("it is over", lambda: world.status("b0").log_complete)
    await world.run(700, tick=50)  # its pod has gone too
    found = world.kube.all(BUILDS)[0]
    for number in range(1, 1000):
        about = {**found["metadata"], "name": f"b{number}", "uid": f"u{number}"}
        world.kube.put(BUILDS, {**found, "metadata": about})
    world.operator()
    await world.settle(5000)
    before = world.kube.writes.total()
    world.operator()
    await world.settle(5000)
    assert world.kube.writes.total() == before
    assert world.kube.reads["get", "pods"] < 50
