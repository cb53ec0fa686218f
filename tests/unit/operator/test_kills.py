"""The operator killed between any two requests, or without an answer: every build ends, none runs twice, none is forgotten.

A kill strikes before a request is made or after it was made and before its answer is seen, at random
of a seed; the next operator knows only what the API server and the bucket know.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.kube import BUILDS, PODS, Api, KubeUnavailableError
from spanyard_core.resources.kinds import FINISHED
from spanyard_operator.names import BUILD
from tests.fakes.operator_world import NAMESPACE, Play, World

pytestmark = pytest.mark.slow

BUILDS_OF_A_RUN = 8


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket answers in the loop: whose thread is faster would be no matter of the seed."""

    async def in_the_loop(work: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        found = work(*args)
        await asyncio.sleep(0)
        return found

    monkeypatch.setattr(asyncio, "to_thread", in_the_loop)


class KilledError(BaseException):
    """SIGKILL: nothing catches it."""


class Killer:
    """Kills at random requests of a seed, about one in `every`."""

    def __init__(self, world: World, rng: random.Random, every: int) -> None:
        self._world = world
        self._rng = rng
        self._every = every
        self.kills = 0
        self.places: set[tuple[str, str, str]] = set()
        world.kube.before = lambda verb, api, name: self._maybe("before", verb, api)
        world.kube.after = lambda verb, api, name: self._maybe("after", verb, api)

    def _maybe(self, when: str, verb: str, api: Api) -> None:
        if self._rng.random() * self._every < 1:
            self.places.add((when, verb, api.plural))
            if self._rng.random() < 0.3:
                raise KubeUnavailableError("connection reset by peer")
            self.kills += 1
            raise KilledError

    def stop(self) -> None:
        self._world.kube.before = self._world.kube.after = lambda verb, api, name: None


async def run(world: World, seconds: float) -> None:
    """Time passes; whenever the operator is killed, another one begins a moment later."""
    passed = 0.0
    while passed < seconds:
        world.clock.advance(1.0)
        passed += 1.0
        world.kubelet()
        try:
            await world.settle()
        except KilledError:
            world.operator()
        except KubeUnavailableError:
            continue  # of the first listing, which is tried again
        finally:
            alive = Counter(
                pod["metadata"]["labels"][BUILD]
                for pod in world.kube.all(PODS)
                if pod["status"].get("phase") in {"Pending", "Running"}
                and not pod["metadata"].get("deletionTimestamp")
            )
            assert all(count == 1 for count in alive.values()), alive


def play(rng: random.Random) -> Play:
    what = rng.random()
    steps = ["spanyard-fetch", "install", "build", "spanyard-publish"]
    if what < 0.6:
        return Play(exits=dict.fromkeys(steps, 0), took=rng.choice((1.0, 3.0)))
    if what < 0.85:
        failing = rng.randrange(4)
        exits = dict.fromkeys(steps[:failing], 0) | {steps[failing]: 1}
        return Play(exits=exits, took=rng.choice((1.0, 3.0)))
    return Play(exits={"spanyard-fetch": 0})  # hangs: cancelled, lost or out of time


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("policy", ["Parallel", "Serial", "SerialLatestOnly"])
async def test_every_build_ends_and_none_runs_twice(tmp_path: Path, seed: int, policy: str) -> None:
    rng = random.Random(f"{policy} {seed}")
    world = World(tmp_path, seed=seed)
    world.workers = 4
    world.project(concurrencyPolicy=policy)
    killer = Killer(world, rng, every=rng.choice((5, 12, 20)))
    most_at_once = 0
    vanished: list[str] = []
    for number in range(BUILDS_OF_A_RUN):
        name = f"b{number}"
        for attempt in range(1, 7):
            world.plays[f"{name}-build-{attempt}"] = play(rng)
        world.build(name, timeout="40s")
        await run(world, rng.choice((0, 1, 5)))
        running = sum(phase == "Building" for phase in world.phases().values())
        most_at_once = max(most_at_once, running)
        if rng.random() < 0.3:
            world.change(BUILDS, f"b{rng.randrange(number + 1)}", cancel=True)
        if rng.random() < 0.3 and (pods := world.pods()):
            vanished.append(rng.choice(pods))
            world.kube.finish_pod(vanished[-1], NAMESPACE)  # with its node
    await run(world, 500)
    killer.stop()
    world.operator()
    await run(world, 300)
    for build in world.builds():
        status = build.status
        assert status.phase in FINISHED, (build.metadata.name, status)
        mine = f"{build.metadata.name}-build-"
        pods = [name for name in world.made if name.startswith(mine)]
        # One that vanished before anybody could say that it ran is made once more.
        once = [name for at, name in enumerate(pods) if name not in pods[:at]]
        assert once == [f"{mine}{n + 1}" for n in range(status.attempt)]
        assert len(pods) - len(once) <= sum(name in vanished for name in set(pods))
        ended = status.log_complete or any(c.type == "LogComplete" for c in status.conditions)
        assert ended, (build.metadata.name, status)
        assert not any(c.type in {"Ending", "PodAccepted"} for c in status.conditions)
    assert killer.kills > 2
    if policy != "Parallel":
        assert most_at_once <= 1


async def test_kills_strike_everywhere(tmp_path: Path) -> None:
    """So that the tests above mean something."""
    places: set[tuple[str, str, str]] = set()
    for seed in range(8):
        rng = random.Random(seed)
        world = World(tmp_path / str(seed), seed=seed)
        world.project()
        killer = Killer(world, rng, every=6)
        for number in range(4):
            world.build(f"b{number}")
        await run(world, 60)
        places |= killer.places
    for verb, plural in (
        ("create", "pods"), ("merge", "builds"), ("merge", "projects"), ("get", "builds"),
    ):  # fmt: skip
        assert ("before", verb, plural) in places
    for verb, plural in (("create", "pods"), ("merge", "builds"), ("merge", "projects")):
        assert ("after", verb, plural) in places
