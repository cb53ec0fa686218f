"""What the gateway knows of resources while the Kubernetes API comes and goes; virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spanyard_core.kube import BUILDS, PROJECTS, Api, KubeError, KubeUnavailableError
from spanyard_core.resources.kinds import API_VERSION
from spanyard_gateway.kube_cache import STALE_S, KubeCache
from tests.fakes.kube import FakeKube
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import run


def project(name: str, namespace: str = "team") -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Project",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
    }


def away(verb: str, api: Api, name: str) -> None:
    raise KubeUnavailableError("no route to host")


def fine(verb: str, api: Api, name: str) -> None:
    pass


def history(
    story: Callable[[FakeKube, KubeCache], Coroutine[Any, Any, None]], *namespaces: str
) -> None:
    """Run a story beside a cache that watches."""

    async def whole() -> None:
        clock = SimClock(WallClock())
        kube = FakeKube(clock)
        cache = KubeCache(kube, clock, namespaces=namespaces)
        running = asyncio.create_task(cache.run())
        try:
            await story(kube, cache)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(whole())


def names(cache: KubeCache) -> list[str]:
    return [f"{r.metadata.namespace}.{r.metadata.name}" for r in cache.all("Project")]


def test_what_changes_is_known_a_moment_later() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        with pytest.raises(KubeUnavailableError, match="has not told the projects yet"):
            cache.all("Project")
        kube.put(PROJECTS, project("b"))
        await asyncio.sleep(1)
        kube.put(PROJECTS, project("a"))
        await asyncio.sleep(1)
        assert names(cache) == ["team.a", "team.b"]
        assert cache.stale_seconds == 0
        await kube.delete(PROJECTS, "b", "team")
        await asyncio.sleep(1)
        assert names(cache) == ["team.a"]

    history(story)


def test_an_outage_is_borne_for_a_while_and_then_said() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        kube.put(PROJECTS, project("a"))
        await asyncio.sleep(60)
        kube.before = away
        await asyncio.sleep(STALE_S - 5)
        assert names(cache) == ["team.a"], "old, and not too old"
        assert 0 < cache.stale_seconds <= STALE_S
        await asyncio.sleep(30)
        with pytest.raises(KubeUnavailableError, match=r"has not answered for \d\d s: no route"):
            cache.all("Project")
        assert cache.find("Project", "team.a") is not None

    history(story)


def test_what_went_and_came_during_an_outage_is_known_after_it() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        for name in ("a", "b"):
            kube.put(PROJECTS, project(name))
        await asyncio.sleep(10)
        kube.before = away
        await asyncio.sleep(120)
        kube.before = fine
        await kube.delete(PROJECTS, "a", "team")
        kube.put(PROJECTS, project("c"))
        await asyncio.sleep(20)
        assert names(cache) == ["team.b", "team.c"]
        assert cache.stale_seconds == 0

    history(story)


def test_a_right_that_is_missing_is_said_and_asked_for_again() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        def refused(verb: str, api: Api, name: str) -> None:
            if api == BUILDS:
                raise KubeError("you cannot list builds", status=403, reason="Forbidden")

        kube.before = refused
        await asyncio.sleep(10)
        with pytest.raises(KubeUnavailableError, match="you cannot list builds"):
            cache.all("Build")
        kube.before = fine
        await asyncio.sleep(30)
        assert cache.all("Build") == []

    history(story)


def test_only_the_namespaces_that_are_named_are_watched() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        for namespace in ("one", "two", "three"):
            kube.put(PROJECTS, project("p", namespace))
        await asyncio.sleep(5)
        assert names(cache) == ["one.p", "two.p"]

    history(story, "one", "two")


def test_an_object_that_cannot_be_read_does_not_hide_the_others() -> None:
    async def story(kube: FakeKube, cache: KubeCache) -> None:
        kube.put(PROJECTS, project("a") | {"spec": {"displayName": 7}})
        kube.put(PROJECTS, project("b"))
        await asyncio.sleep(5)
        assert names(cache) == ["team.b"]

    history(story)
