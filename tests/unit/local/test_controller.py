"""The laptop's controller and builds: what it starts, ends, retries and removes."""

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from spanyard_core.clock import SystemClock
from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    DeploymentStatus,
    Revision,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.storage import open_storage
from spanyard_local.controller_builds import MOST_ATTEMPTS
from spanyard_local.store import ResourceStore
from tests.fakes.controlled import (
    NOW,
    World,
    build,
    deployment,
    manifest,
    running,
)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = ResourceStore(tmp_path / "resources", clock=SystemClock())
    await store.open()
    storage = open_storage((tmp_path / "bucket").as_uri())
    yield World(store, storage)
    await storage.close()


async def test_builds_take_turns_and_none_is_started_twice(world: World) -> None:
    world.attempts.silent = True
    await world.store.apply([manifest("Project", "shop"), manifest("Project", "other")])
    await world.store.apply([build("a"), build("b"), build("c"), build("d", "other")])
    async with running(world):
        for _ in range(4):
            await world.until(lambda: world.attempts.running)
            await world.store.apply([manifest("Project", "shop", description="edited")])
            await world.quiet()
            await world.until(
                lambda: world.attempts.running
            )  # the first look may be at one that ends
            world.attempts.end(next(iter(world.attempts.running)))
        await world.until(lambda: all(b.status.phase == "Succeeded" for b in world.store.builds()))
    assert sorted(world.attempts.started) == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    assert world.attempts.most == 2
    (shop,) = [p for p in world.store.projects() if p.metadata.name == "shop"]
    assert (shop.status.latest_build, shop.status.running_builds) != ("", 1)


async def test_a_build_that_a_kill_interrupted_is_started_again_and_a_finished_one_is_not(
    world: World,
) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a"), build("b"), build("c")])
    a, b, c = (world.build(n) for n in "abc")
    await world.store.set_status(a, life.begun(a, now=NOW))
    done = life.succeeded(b, life.begun(b, now=NOW), ArtifactStatus(), now=NOW, log_complete=True)
    await world.store.set_status(b, done)
    often = msgspec.structs.replace(life.begun(c, now=NOW), attempt=MOST_ATTEMPTS)
    await world.store.set_status(c, often)
    async with running(world):
        await world.until(lambda: world.attempts.running)
        await world.until(lambda: world.build("a").status.reason == "Interrupted")
        await world.until(lambda: world.build("c").status.reason == "TooManyAttempts")
        await world.quiet()
        assert world.attempts.started == [("a", 2)]
        world.attempts.end("a")
        await world.until(lambda: world.build("a").status.phase == "Succeeded")


async def test_up_that_ends_leaves_a_build_to_the_next_one(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a")])
    async with running(world):
        await world.until(lambda: world.build("a").status.phase == "Building")
    assert world.build("a").status.phase == "Building"
    assert not world.attempts.running


async def test_cancel_and_retry(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), *(build(n) for n in "abc")])
    async with running(world):
        await world.until(lambda: len(world.attempts.running) == 2)
        waits = ({*"abc"} - {*world.attempts.running}).pop()
        runs = next(iter(world.attempts.running))
        for name in (waits, runs):
            await world.store.patch("Build", f"local.{name}", {"cancel": True})
            await world.until(lambda n=name: world.build(n).status.phase == "Cancelled")  # type: ignore[misc]
        assert [n for n, _ in world.attempts.started].count(waits) == 0
        await world.store.patch("Build", f"local.{runs}", {"cancel": False, "retry": 1})
        await world.until(lambda: (runs, 2) in world.attempts.started)
        world.attempts.end(runs, "StepFailed")
        await world.until(lambda: world.build(runs).status.phase == "Failed")
        await world.quiet()
        assert (runs, 3) not in world.attempts.started


async def test_of_those_that_wait_only_the_newest_is_built_where_the_project_says_so(
    world: World,
) -> None:
    policy = {"concurrencyPolicy": "SerialLatestOnly"}
    await world.store.apply([manifest("Project", "shop", builds=policy), build("a")])
    async with running(world):
        await world.until(lambda: "a" in world.attempts.running)
        await world.store.apply([build("b")])
        await world.until(lambda: world.build("b").status.queued_at)
        await world.store.apply([build("c")])
        await world.until(lambda: world.build("b").status.reason == "Superseded")
        assert "a" in world.build("c").status.message
        world.attempts.end("a")
        await world.until(lambda: "c" in world.attempts.running)
    assert [n for n, _ in world.attempts.started] == ["a", "c"]


async def test_a_mistake_of_ours_fails_the_build_and_nothing_else(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a"), build("b")])
    async with running(world):
        await world.until(lambda: len(world.attempts.running) == 2)
        world.attempts.break_("a")
        await world.until(lambda: world.build("a").status.reason == "InternalError")
        assert "a mistake" in world.build("a").status.message
        world.attempts.end("b")
        await world.until(lambda: world.build("b").status.phase == "Succeeded")


async def test_what_belongs_to_no_project_waits_for_it(world: World) -> None:
    await world.store.apply([build("a"), deployment("web")])
    async with running(world):
        await world.until(lambda: world.build("a").status.reason == "ProjectMissing")
        await world.until(lambda: world.store.deployments()[0].status.reason == "ProjectMissing")
        assert not world.attempts.started
        assert not world.servers
        await world.store.apply([manifest("Project", "shop")])
        await world.until(lambda: world.attempts.running and world.servers)


async def test_a_deleted_build_ends_and_goes_with_all_that_it_stored(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a"), build("ab")])
    for key in ("a/build.log", "a/log/x", "a/artifact.tar.zst", "ab/build.log"):
        await world.storage.write(f"builds/local.{key}", b"x")
    async with running(world):
        await world.until(lambda: "a" in world.attempts.running)
        await world.store.delete("Build", "local.a")
        await world.gone("Build", "a")
    assert [i.key async for i in world.storage.list("builds/")] == ["builds/local.ab/build.log"]


async def test_retention_removes_old_builds_but_none_that_serves(world: World) -> None:
    keep = {"retention": {"succeededLimit": 1, "failedLimit": 0}}
    await world.store.apply([manifest("Project", "shop", builds=keep), deployment("web")])
    await world.store.apply([build(n) for n in ("old", "serves", "bad", "new")])
    for day, name in enumerate(("old", "serves", "bad", "new"), start=1):
        found = world.build(name)
        status, now = life.begun(found, now=NOW), f"2026-11-0{day}T00:00:00Z"
        if name == "bad":
            why = explain("StepFailed")
            status = life.failed(found, status, why, now=now, log_complete=True)
        else:
            artifact = ArtifactStatus()
            status = life.succeeded(found, status, artifact, now=now, log_complete=True)
        await world.store.set_status(found, status)
        await world.storage.write(f"builds/local.{name}/artifact.tar.zst", b"x")
    (web,) = world.store.deployments()
    served = Revision(number=1, hash="x", state="Serving", build="serves")
    await world.store.set_status(web, DeploymentStatus(revisions=[served]))
    async with running(world):
        await world.gone("Build", "old")
        await world.gone("Build", "bad")
        await world.told("Project", "shop", 2)
        await world.quiet()
    assert [b.metadata.name for b in world.store.builds()] == ["new", "serves"]
    assert len([i async for i in world.storage.list("builds/")]) == 2
    told = [e.reason for e in await world.store.events("Project", "local.shop")]
    assert told == ["BuildRemoved", "BuildRemoved"]


async def test_a_log_in_parts_is_put_together_once_all_of_it_is_stored(world: World) -> None:
    await world.store.apply([manifest("Project", "shop"), build("a")])
    a = world.build("a")
    why = explain("Cancelled")
    ended = life.failed(a, life.begun(a, now=NOW), why, now=NOW, log_complete=False)
    await world.store.set_status(a, ended)
    world.unstored = True
    async with running(world):
        await world.quiet()
        assert not world.build("a").status.log_complete
        assert not await world.storage.exists("builds/local.a/build.log")
        world.unstored = False
        world.store.touch(a)
        await world.until(lambda: world.build("a").status.log_complete)
        assert await world.storage.exists("builds/local.a/build.log")


async def test_builds_made_within_one_look_are_queued_as_they_were_made(world: World) -> None:
    policy = {"concurrencyPolicy": "SerialLatestOnly"}
    await world.store.apply([manifest("Project", "shop", builds=policy), build("web-9")])
    await world.store.apply([build("web-10")])
    async with running(world):
        await world.until(lambda: "web-10" in world.attempts.running)
        assert world.build("web-9").status.reason == "Superseded"


async def test_a_deleted_build_has_its_turn_until_its_processes_have_ended(world: World) -> None:
    policy = {"concurrencyPolicy": "Serial"}
    world.attempts.slow_end = asyncio.Event()
    await world.store.apply([manifest("Project", "shop", builds=policy), build("a"), build("b")])
    async with running(world):
        await world.until(lambda: "a" in world.attempts.running)
        await world.store.delete("Build", "local.a")
        await world.quiet()
        assert [*world.attempts.running] == ["a"]
        world.attempts.slow_end.set()
        await world.until(lambda: "b" in world.attempts.running)
    assert world.attempts.most == 1


async def test_what_fails_at_the_end_of_a_build_is_tried_again_later_and_stands_in_no_ones_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def full(*_: Any) -> Any:
        nonlocal tried
        tried += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spanyard_local.controller_builds.finish_build_log", full)
    monkeypatch.setattr("spanyard_local.controller_builds.AGAIN_S", 0.3)
    await world.store.apply([manifest("Project", "shop"), build("a")])
    a = world.build("a")
    ended = life.failed(
        a, life.begun(a, now=NOW), explain("Cancelled"), now=NOW, log_complete=False
    )
    await world.store.set_status(a, ended)
    clock = asyncio.get_running_loop().time
    began = clock()
    async with running(world):
        await world.until(lambda: tried)
        await asyncio.sleep(0.1)  # without a pause it would be tried again and again
        await world.store.delete("Build", "local.a")
        await world.gone("Build", "a")
    assert tried <= 2 + (clock() - began) / 0.3
