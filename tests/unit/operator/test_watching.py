"""Cache and watches: what is seen, what is news to whom, what has gone."""

from pathlib import Path
from typing import Any

import pytest

from spanyard_core.kube import BUILDS, NAMESPACES, PODS, PROJECTS
from spanyard_operator.cache import Cache, slim
from spanyard_operator.names import BUILD, COMPONENT, MANAGED_BY
from spanyard_operator.workqueue import Key
from tests.fakes.operator_world import NAMESPACE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def build(version: int, uid: str = "u1", phase: str = "Queued", **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "spanyard.dev/v1alpha1",
        "kind": "Build",
        "metadata": {
            "name": "b", "namespace": NAMESPACE, "uid": uid, "resourceVersion": str(version),
        },
        "spec": {"project": "p", "source": {"git": {"url": "https://x.example/y.git"}}},
        "status": {"observedGeneration": 0, "phase": phase, **status},
    }  # fmt: skip


def pod(version: int = 1, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "b-build-1", "namespace": NAMESPACE, "uid": "p1",
            "resourceVersion": str(version), "managedFields": [{"x": "y" * 10_000}],
            "labels": {MANAGED_BY: "spanyard", COMPONENT: "build", BUILD: "b", **labels},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "env": [{"a": 1}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    }  # fmt: skip


def test_an_older_version_is_ignored() -> None:
    cache = Cache()
    assert cache.put(BUILDS, build(10, phase="Building"))
    assert not cache.put(BUILDS, build(9))
    assert not cache.put(BUILDS, build(10))
    found = cache.build(NAMESPACE, "b")
    assert found is not None
    assert found.status.phase == "Building"
    assert cache.put(BUILDS, build(11, phase="Failed"))


def test_versions_are_numbers_and_not_texts() -> None:
    cache = Cache()
    cache.put(BUILDS, build(9, phase="Building"))
    assert cache.put(BUILDS, build(10, phase="Failed"))


def test_one_made_again_under_the_name_takes_its_place() -> None:
    cache = Cache()
    cache.put(BUILDS, build(10, phase="Succeeded"))
    assert cache.put(BUILDS, build(8, uid="u2"))
    assert not cache.drop(BUILDS, build(11)), "that was the one before"
    assert cache.build(NAMESPACE, "b") is not None
    assert len(cache.builds(NAMESPACE, "p")) == 1


def test_what_has_gone_does_not_come_back_by_a_late_listing() -> None:
    cache = Cache()
    cache.put(BUILDS, build(10))
    assert cache.drop(BUILDS, build(12))
    assert not cache.put(BUILDS, build(11))
    assert cache.build(NAMESPACE, "b") is None
    assert cache.builds(NAMESPACE, "p") == []


def test_children_are_found_by_their_labels() -> None:
    cache = Cache()
    cache.put(BUILDS, build(1))
    cache.put(PODS, pod())
    owner = cache.build(NAMESPACE, "b")
    assert owner is not None
    assert [one["metadata"]["name"] for one in cache.children(PODS, owner)] == ["b-build-1"]
    cache.drop(PODS, pod())
    assert cache.children(PODS, owner) == []
    assert len(cache) == 1


def test_what_nobody_reads_is_not_kept() -> None:
    kept = slim(PODS, pod())
    assert len(str(kept)) < 700
    assert kept["spec"]["containers"] == [{"name": "c", "image": "i"}]
    enforced = {"pod-security.kubernetes.io/enforce": "restricted", "team": "x"}
    space = {"metadata": {"name": "n", "labels": enforced, "annotations": {"a": "b"}}}
    assert slim(NAMESPACES, space)["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


def queued(world: World) -> list[str]:
    return sorted(str(key) for key in world.context.queue._ready)


def test_a_phase_is_news_to_deployments_and_a_step_is_not(world: World) -> None:
    world.deployment("web", follow=True, project="p")
    world.deployment("other", image="x", project="p")
    world.deliver()
    ours = [f"Build {NAMESPACE}/b", f"Deployment {NAMESPACE}/web", f"Project {NAMESPACE}/p"]
    watches, queue = world.watches, world.context.queue

    def told(type_: str, found: dict[str, Any]) -> list[str]:
        queue._ready.clear()
        queue._waiting.clear()
        watches.seen(BUILDS, type_, found)
        return queued(world)

    assert told("ADDED", build(101)) == ours
    assert told("MODIFIED", build(102, phase="Building")) == ours
    assert told("MODIFIED", build(103, phase="Building", step="fetch")) == [ours[0], ours[2]]
    assert told("MODIFIED", build(103, phase="Building", step="fetch")) == []
    assert told("DELETED", build(104)) == ours


def test_an_answer_to_a_write_of_ours_is_news_to_others_when_the_watch_tells_it(
    world: World,
) -> None:
    world.watches.seen(BUILDS, "ADDED", build(101))
    world.context.queue._ready.clear()
    world.context.queue._waiting.clear()
    world.context.cache.put(BUILDS, build(102, phase="Building"), answer=True)
    assert queued(world) == []
    world.watches.seen(BUILDS, "MODIFIED", build(102, phase="Building"))
    assert queued(world) == [f"Build {NAMESPACE}/b", f"Project {NAMESPACE}/p"]
    world.context.queue._ready.clear()
    world.context.queue._waiting.clear()
    world.watches.seen(BUILDS, "MODIFIED", build(102, phase="Building"))
    assert queued(world) == [], "once"


def test_a_project_that_comes_wakes_those_that_wait_for_it(world: World) -> None:
    world.watches.seen(BUILDS, "ADDED", build(101))
    world.context.queue._ready.clear()
    world.context.queue._waiting.clear()
    made = {
        "apiVersion": "spanyard.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "p", "namespace": NAMESPACE, "uid": "pr", "resourceVersion": "102"},
        "spec": {},
    }  # fmt: skip
    world.watches.seen(PROJECTS, "ADDED", made)
    assert queued(world) == [f"Build {NAMESPACE}/b", f"Project {NAMESPACE}/p"]


async def test_a_comparison_finds_what_a_watch_missed(world: World) -> None:
    world.project("p")
    world.build("kept", project="p")
    world.build("gone", project="p")
    await world.watches.compare(world.kube)
    while world.context.queue._ready:
        world.context.queue._waiting.discard(world.context.queue._ready.popleft())
    await world.kube.delete(BUILDS, "gone", NAMESPACE)
    world.build("new", project="p")
    assert await world.watches.compare(world.kube) == 2
    assert {b.metadata.name for b in world.context.cache.builds()} == {"kept", "new"}
    assert Key("Build", NAMESPACE, "gone") in world.context.queue._waiting
    assert Key("Project", NAMESPACE, "p") in world.context.queue._waiting
    assert await world.watches.compare(world.kube) == 0


async def test_an_operator_that_begins_queues_builds_in_the_order_of_their_making(
    world: World,
) -> None:
    """Within a second the time of creation does not tell; versions do."""
    world.project("p", concurrencyPolicy="Serial")
    for name in ("z", "m", "a"):
        world.build(name, project="p")

    def ticking() -> int:
        world.clock.wall_ns += 1000
        return world.clock.wall_ns

    world.clock.time_ns = ticking  # type: ignore[method-assign]
    await world.until("all are over", lambda: set(world.phases().values()) == {"Succeeded"})
    assert world.made == ["z-build-1", "m-build-1", "a-build-1"]
