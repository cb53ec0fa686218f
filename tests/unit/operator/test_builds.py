"""A build in a cluster, from the first look to its removal, with an API server in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanyard_core.errors import StorageError
from spanyard_core.kube import BUILDS, PODS, KubeError
from spanyard_core.resources import builds as life
from spanyard_core.resources.reasons import explain
from spanyard_core.storage import ObjectInfo
from spanyard_core.storage.directory import DirectoryStorage
from spanyard_operator.status import write_status
from tests.fakes.operator_world import NAMESPACE, Play, World

NOW = "2026-11-21T14:45:00Z"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_build_goes_through_its_steps_and_succeeds(world: World) -> None:
    world.project()
    world.build()
    seen: list[str] = []

    def done() -> bool:
        status = world.status()
        if not seen or seen[-1] != status.step:
            seen.append(status.step)
        return status.log_complete

    await world.until("the build is over", done)
    status = world.status()
    assert seen == ["fetch", "install", "build", "publish", ""]
    assert (status.phase, status.reason, status.attempt) == ("Succeeded", "Succeeded", 1)
    assert [step.name for step in status.steps] == ["fetch", "install", "build", "publish"]
    assert [step.exit_code for step in status.steps] == [0, 0, 0, 0]
    assert status.artifact.key == f"builds/{NAMESPACE}.support-1/artifact-1.tar.zst"
    assert status.artifact.size == 4711
    assert status.source.commit.startswith("c0ffee")
    assert status.collector.mode == "hostPath"
    assert world.told("support-1") == ["Building", "Succeeded"]
    assert world.pods() == ["support-1-build-1"]


async def ended(world: World, name: str = "support-1", limit: float = 3000) -> None:
    finished = {"Succeeded", "Failed", "Cancelled"}
    await world.until(f"{name} is over", lambda: world.status(name).phase in finished, limit=limit)


async def test_a_step_that_fails_fails_the_build_when_its_log_is_stored(world: World) -> None:
    world.project()
    world.build()
    world.plays["support-1-build-1"] = Play(exits={"spanyard-fetch": 0, "install": 3})
    await ended(world)
    status = world.status()
    assert status.failure is not None
    assert (status.failure.reason, status.failure.step) == ("StepFailed", "install")
    assert status.failure.exit_code == 3
    assert [step.name for step in status.steps] == ["fetch", "install"]
    await world.until("the log is whole", lambda: world.status().log_complete)


async def test_a_build_that_takes_too_long_is_ended_with_grace_and_told_so(world: World) -> None:
    world.project()
    world.build(timeout="60s")
    world.plays["support-1-build-1"] = Play(exits={"spanyard-fetch": 0})
    await world.run(30)
    begin = world.status().started_at
    assert begin
    took = 30 + await world.until("it is over", lambda: world.status().phase == "Failed", limit=200)
    status = world.status()
    assert status.failure is not None
    assert (status.failure.reason, status.failure.step) == ("Timeout", "install")
    assert status.failure.message.startswith("install still ran after 60s")
    assert 60 <= took <= 75, "the collector stores the rest in 3 s here"
    assert status.conditions[-1].type == "Stalled"
    assert {c.type for c in status.conditions} == {"Ready", "Stalled"}
    assert world.pods() == ["support-1-build-1"], "its exit codes stay to be seen"


async def test_cancelling_ends_what_runs_and_what_waits(world: World) -> None:
    world.project(concurrencyPolicy="Serial")
    world.build("a")
    world.build("b")
    world.plays["a-build-1"] = Play(exits={"spanyard-fetch": 0})
    await world.run(10)
    assert world.phases() == {"a": "Building", "b": "Queued"}
    world.change(BUILDS, "b", cancel=True)
    await world.run(2)
    assert world.phases() == {"a": "Building", "b": "Cancelled"}
    world.change(BUILDS, "a", cancel=True)
    await ended(world, "a", limit=60)
    status = world.status("a")
    assert (status.phase, status.reason) == ("Cancelled", "Cancelled")
    assert world.started == ["a-build-1"]


async def test_a_retry_runs_a_build_once_more_and_its_log_begins_anew(world: World) -> None:
    world.project()
    world.build()
    world.plays["support-1-build-1"] = Play(exits={"spanyard-fetch": 0, "install": 1})
    await ended(world)
    await world.until("the log is whole", lambda: world.status().log_complete)
    world.change(BUILDS, "support-1", retry=1)
    await world.until("it succeeds", lambda: world.status().phase == "Succeeded")
    status = world.status()
    assert (status.attempt, status.observed_retry, status.failure) == (2, 1, None)
    assert status.artifact.key.endswith("artifact-2.tar.zst")
    assert world.started == ["support-1-build-1", "support-1-build-2"]


async def test_a_pod_that_vanishes_is_replaced_up_to_a_limit(world: World) -> None:
    world.project()
    world.build()
    for attempt in range(1, 6):
        name = f"support-1-build-{attempt}"
        world.plays[name] = Play(exits={"spanyard-fetch": 0})
        await world.until("an attempt runs", lambda name=name: name in world.pods())
        await world.run(5)
        world.kube.finish_pod(name, NAMESPACE)
        await world.run(3)
    status = world.status()
    assert status.phase == "Failed"
    assert status.failure is not None
    assert status.failure.reason == "TooManyAttempts"
    assert len(world.started) == 5
    await world.until("the log is closed", lambda: any(
        c.type == "LogComplete" for c in world.status().conditions
    ))  # fmt: skip
    assert not world.status().log_complete, "nobody knows how it ended"
    text = (await world.storage.read(f"builds/{NAMESPACE}.support-1/build.log")).decode()
    assert "[spanyard: the pod is gone" in text
    assert "LogIncomplete" in world.told("support-1")


async def test_a_refused_pod_is_tried_again_and_told_then_fails(world: World) -> None:
    world.project()
    world.build()
    refused = KubeError("pods is forbidden: violates PodSecurity", status=403, reason="Forbidden")

    def refuse(verb: str, api: object, name: str) -> None:
        if verb == "create" and api == PODS:
            raise refused

    world.kube.before = refuse
    await world.run(10)
    status = world.status()
    assert (status.phase, status.reason) == ("Queued", "PodRefused")
    await ended(world, limit=60)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == "PodRefused"
    assert "PodSecurity" in status.failure.message
    assert {c.type for c in status.conditions} == {"Ready", "Stalled"}


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ({"directory": {"path": "/home/x"}}, "spec.source.directory"),
        ({"artifact": {"path": "dist"}}, "spec.source.artifact.path"),
    ],
)
async def test_folders_of_a_laptop_are_refused(
    world: World, source: dict[str, object], where: str
) -> None:
    world.project()
    world.build(source=source)
    await ended(world)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == "NotOnThisPlatform"
    assert where in status.failure.message
    assert world.started == []


async def test_a_namespace_whose_name_is_too_long_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, namespace="n" * 51)
    world.project()
    world.build()
    await ended(world)
    assert world.status().reason == "InvalidSpec"
    assert "51 characters" in world.status().message


async def test_a_build_waits_for_its_project(world: World) -> None:
    world.build()
    await world.run(3)
    assert (world.status().phase, world.status().reason) == ("Queued", "ProjectMissing")
    world.project()
    await ended(world)
    assert world.status().phase == "Succeeded"


async def test_one_that_is_deleted_takes_its_objects_with_it(world: World) -> None:
    world.project()
    world.build()
    key = f"builds/{NAMESPACE}.support-1/artifact-1.tar.zst"
    await world.until("it runs", lambda: world.status().phase == "Building")
    await world.storage.write(key, b"packed")
    await world.kube.delete(BUILDS, "support-1", NAMESPACE)
    await world.until("it is gone", lambda: not world.builds(), limit=60)
    assert not await world.storage.exists(key)
    assert world.pods() == []


async def test_a_bucket_that_is_away_keeps_a_build_for_the_limit_and_no_longer(
    tmp_path: Path,
) -> None:
    class Away(DirectoryStorage):
        away = False

        async def _gone(self) -> None:
            if self.away:
                raise StorageError("no route to the bucket")

        async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
            await self._gone()
            async for info in super().list(prefix, after=after):
                yield info

    storage = Away(tmp_path / "bucket")
    world = World(tmp_path, storage=storage)
    world.project()
    world.build()
    await world.until("it is over", lambda: world.status().log_complete)
    storage.away = True
    await world.kube.delete(BUILDS, "support-1", NAMESPACE)
    took = await world.until("it is gone", lambda: not world.builds(), limit=120)
    assert 50 <= took <= 70
    assert "CleanupFailed" in world.told("support-1")


async def test_the_skip_annotation_lets_a_build_go_at_once(world: World) -> None:
    world.project()
    world.build()
    key = f"builds/{NAMESPACE}.support-1/artifact-1.tar.zst"
    await world.until("it runs", lambda: world.status().phase == "Building")
    await world.storage.write(key, b"packed")
    world.kube.change(
        BUILDS, "support-1", NAMESPACE,
        {"metadata": {"annotations": {"spanyard.dev/skip-cleanup": "true"}}},
    )  # fmt: skip
    await world.kube.delete(BUILDS, "support-1", NAMESPACE)
    await world.run(1)
    assert not world.builds()
    assert await world.storage.exists(key)


async def test_pods_of_finished_builds_stay_a_while_and_then_go(world: World) -> None:
    world.project()
    world.build()
    await world.until("it is over", lambda: world.status().log_complete)
    await world.run(300, tick=10)
    assert world.pods() == ["support-1-build-1"]
    await world.run(320, tick=10)
    assert world.pods() == []
    assert world.status().phase == "Succeeded"


async def test_a_life_of_a_build_takes_few_writes(world: World) -> None:
    """Of its status: queued, started, four steps, the end, the log. None while nothing happens."""
    world.project()
    world.build()
    await world.until("it is over", lambda: world.status().log_complete)
    await world.run(700, tick=5)
    writes = dict(world.kube.writes)
    assert writes.pop(("merge", "builds/status")) <= 9
    assert writes.pop(("merge", "projects/status")) <= 5
    assert writes == {
        ("merge", "builds"): 1,  # the finalizer
        ("apply", "serviceaccounts"): 1,
        ("create", "pods"): 1,
        ("delete", "pods"): 1,
        ("create", "events"): 2,
    }
    before = world.kube.writes.total()
    await world.run(3000, tick=100)
    assert world.kube.writes.total() == before


async def test_a_node_that_is_cut_off_does_not_keep_a_build(world: World) -> None:
    """Kubernetes marks its pods and waits for the kubelet, which may never come."""
    world.project()
    world.build()
    world.plays["support-1-build-1"] = Play(exits={"spanyard-fetch": 0})
    await world.run(10)
    await world.kube.delete(PODS, "support-1-build-1", NAMESPACE)
    for _ in range(45):
        world.clock.advance(1.0)
        await world.settle()  # no kubelet
    assert world.pods() == ["support-1-build-1", "support-1-build-2"]
    assert world.status().attempt == 2
    assert "NodeLost" in world.told("support-1")


async def test_a_change_after_the_end_is_seen(world: World) -> None:
    """kstatus waits for observedGeneration, Argo CD shows it as going on."""
    world.project()
    world.build()
    await world.until("it is over", lambda: world.status().log_complete)
    world.change(BUILDS, "support-1", cancel=True)
    await world.run(2)
    assert world.status().phase == "Succeeded"
    assert world.status().observed_generation == 2
    assert {c.observed_generation for c in world.status().conditions} == {2}
    assert world.made == ["support-1-build-1"]


async def test_what_was_decided_stays_though_the_wish_is_taken_back(world: World) -> None:
    world.project()
    world.build()
    world.plays["support-1-build-1"] = Play(exits={"spanyard-fetch": 0})
    await world.run(10)
    world.change(BUILDS, "support-1", cancel=True)
    await world.settle()
    world.deliver()
    await world.run(1)
    assert "Ending" in {c.type for c in world.status().conditions}
    world.change(BUILDS, "support-1", cancel=False)
    await ended(world)
    assert world.status().phase == "Cancelled"


async def test_a_decision_on_an_old_picture_is_refused_and_made_anew(world: World) -> None:
    """By a process that believes to be the leader still, or whose watch is behind."""
    world.project()
    world.build()
    await world.run(3)
    kube, cache = world.kube, world.context.cache
    old = cache.build(NAMESPACE, "support-1")
    assert old is not None
    world.kube.change(BUILDS, "support-1", NAMESPACE, {"status": {"phase": "Succeeded"}})
    failed = life.failed(old, old.status, explain("Timeout"), now=NOW, log_complete=False)
    with pytest.raises(KubeError) as caught:
        await write_status(kube, cache, old, failed)
    assert caught.value.conflict
    assert world.status().phase == "Succeeded"
    now = cache.build(NAMESPACE, "support-1")
    assert now is not None
    assert now.status.phase == "Succeeded", "the next look is at what there is"
