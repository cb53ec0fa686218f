"""A replica under virtual time: health, restarts, back-off, the end."""

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import ObjectNotFoundError, StorageError
from spanyard_local.servers.health import Rules
from spanyard_local.servers.ports import Target
from spanyard_local.servers.probe import Look
from spanyard_local.servers.replica import Plan, Replica, World
from spanyard_local.shimmed import CommandNotFoundError, ExitStatus, ShimSpec
from tests.fakes.pods import FakePods
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import run

PORT = 4000


@dataclass
class FakeProcess:
    """A process that ends when it is told to."""

    spec: ShimSpec
    pid: int = 1
    stopped: float | None = None
    _end: "asyncio.Future[ExitStatus]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, **status: Any) -> None:
        self._end.set_result(ExitStatus(**status))

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._end)

    async def stop(self, grace: float | None = None) -> ExitStatus:
        self.stopped = grace
        if not self._end.done():
            self.end(signal=15, stopped=True, tail=["last words"])
        return await self._end


class Stage:
    """A replica and the world around it."""

    def __init__(self, folder: Path) -> None:
        self.processes: list[FakeProcess] = []
        self.starts: list[float] = []
        self.events: list[str] = []
        self.released: list[Target] = []
        self.trouble = ""
        """What looks find."""
        self.listens: Sequence[int] | None = None
        self.start_error: Exception | None = None
        self.fetch_errors: list[Exception] = []
        self.fetched = 0
        self.changes = 0
        self.pods = FakePods(folder)
        self.clock = SimClock(WallClock())
        self.port_errors: list[OSError] = []
        self._ports = iter(range(PORT, PORT + 100))
        world = World(
            pods=self.pods,
            clock=self.clock,
            rng=random.Random(1),
            event=lambda kind, reason, message: self.events.append(reason),
            release=self._release,
            start=self._start,
            look=self._look,
            listens=lambda pid: self.listens,
            port=self._port,
        )
        plan = Plan(
            namespace="local",
            deployment="shop",
            project="local.shop",
            resource_uid="u",
            revision=3,
            command="exec node x",  # as people write it, too: that is one `exec`, not two
            environment={"A": "1", "PORT": "80"},
            fetch=self._fetch,
            health=Rules(
                path="/h", period=5.0, timeout=2.0, failure_threshold=3, startup_timeout=60.0
            ),
        )
        self.replica = Replica(plan, world, changed=self._changed, grace=30.0)

    def _changed(self) -> None:
        self.changes += 1

    def _port(self) -> int:
        if self.port_errors:
            raise self.port_errors.pop(0)
        return next(self._ports)

    async def _fetch(self, folder: Path) -> None:
        self.fetched += 1
        if self.fetch_errors:
            raise self.fetch_errors.pop(0)

    async def _release(self, target: Target, limit: float) -> None:
        assert not self.processes[-1]._end.done()  # requests are answered before it ends
        self.released.append(target)

    async def _start(self, spec: ShimSpec) -> FakeProcess:
        if self.start_error:
            raise self.start_error
        self.processes.append(FakeProcess(spec))
        self.starts.append(self.clock.monotonic())
        return self.processes[-1]

    async def _look(self, port: int, path: str, timeout: float) -> Look:
        return Look(Target("127.0.0.1", port), self.trouble)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(10_000):
            while not what():
                await asyncio.sleep(0.01)

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Stage], Awaitable[None]]], Stage]:
    """Play a scene under virtual time, with the replica stopped in order at its end."""

    def playing(scene: Callable[[Stage], Awaitable[None]]) -> Stage:
        stage: list[Stage] = []

        async def main() -> None:
            stage.append(Stage(tmp_path))
            task = asyncio.create_task(stage[0].replica.run())
            await scene(stage[0])
            stage[0].replica.stop()
            await task

        run(main())
        return stage[0]

    return playing


Play = Callable[[Callable[[Stage], Awaitable[None]]], Stage]


def test_it_runs_in_a_pod_of_its_own_with_port_and_telemetry(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.pods.env = {"OTEL_SERVICE_NAME": "shop"}
        await it.until(lambda: it.replica.ready)
        spec = it.process.spec
        assert list(spec.command) == ["/bin/sh", "-c", "exec node x"]
        assert spec.environment == {"A": "1", "PORT": "4000", "OTEL_SERVICE_NAME": "shop"}
        assert spec.pod.startswith("shop-3-")
        assert (spec.container, spec.restart) == ("server", 0)
        assert it.replica.target == Target("127.0.0.1", PORT)

    it = play(scene)
    assert it.process.stopped == 30.0
    assert it.released == [Target("127.0.0.1", PORT)]
    assert it.pods.pods[0].ended
    assert it.events == ["Healthy"]


def test_restarts_back_off_from_half_a_second_to_thirty_and_begin_anew_after_a_steady_minute(
    play: Play,
) -> None:
    async def scene(it: Stage) -> None:
        for n in range(9):
            await it.until(lambda n=n: len(it.processes) == n + 1)  # type: ignore[misc]
            it.process.end(exit_code=1)
        await it.until(lambda: len(it.processes) == 10)
        await asyncio.sleep(120)  # ready all the time
        it.process.end(exit_code=1)
        await it.until(lambda: len(it.processes) == 11)
        delays = [b - a for a, b in zip(it.starts, it.starts[1:], strict=False)]
        expected = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        for delay, wanted in zip(delays, expected, strict=False):
            assert wanted * 0.89 <= delay <= wanted + 0.2
        assert 120 <= delays[-1] <= 121
        assert it.replica.restarts == 10
        assert [p.spec.restart for p in it.processes] == list(range(11))  # in one pod

    it = play(scene)
    assert len(it.pods.pods) == 1
    assert it.fetched == 1


def test_a_failure_is_told_until_it_is_ready_again(play: Play) -> None:
    async def scene(it: Stage) -> None:
        await it.until(lambda: it.replica.ready)
        it.trouble = "GET /h answered 500"
        it.process.end(exit_code=3, tail=["boom"])
        await it.until(lambda: len(it.processes) == 2)
        assert not it.replica.ready
        assert it.replica.failure is not None
        assert it.replica.failure.last_lines == ["boom"]
        it.trouble = ""
        await it.until(lambda: it.replica.ready)
        assert it.replica.failure is None

    assert play(scene).events == ["Healthy", "Restarted", "Healthy"]


def test_three_bad_looks_take_it_from_traffic_and_nine_start_it_again(play: Play) -> None:
    async def scene(it: Stage) -> None:
        await it.until(lambda: it.replica.ready)
        it.trouble = "GET /h answered 500"
        sick = it.clock.monotonic()
        await it.until(lambda: not it.replica.ready)
        assert 10 <= it.clock.monotonic() - sick <= 15.1
        assert it.process.stopped is None
        await it.until(lambda: it.replica.restarts == 1)
        assert 40 <= it.clock.monotonic() - sick <= 46
        assert it.replica.failure is not None
        assert "9 times in a row" in it.replica.failure.message
        assert it.replica.failure.last_lines == ["last words"]

    assert play(scene).events == ["Healthy", "Unhealthy", "Restarted"]


def test_it_gets_traffic_again_when_it_recovers_in_time(play: Play) -> None:
    async def scene(it: Stage) -> None:
        await it.until(lambda: it.replica.ready)
        it.trouble = "GET /h answered 500"
        await it.until(lambda: not it.replica.ready)
        it.trouble = ""
        await it.until(lambda: it.replica.ready)
        assert it.replica.restarts == 0

    assert play(scene).events == ["Healthy", "Unhealthy", "Healthy"]


def test_one_that_never_gets_ready_is_started_again_after_the_startup_timeout(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.trouble = "nobody listens on port 4000"
        it.listens = [3000]
        await it.until(lambda: len(it.processes) == 2)
        assert 60 <= it.starts[1] - it.starts[0] <= 61
        failure = it.replica.failure
        assert failure is not None
        assert failure.reason == "NeverReady"
        assert "listens on 3000" in failure.message

    play(scene)


def test_a_port_that_another_process_opened_is_not_taken_for_ours_at_once(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.listens = []
        await it.until(lambda: len(it.processes) == 1)
        await asyncio.sleep(1)
        assert not it.replica.ready
        it.process.end(exit_code=1, tail=["Address already in use"])
        await it.until(lambda: len(it.processes) == 2)
        assert it.starts[1] - it.starts[0] < 1.2  # another port, without a back-off
        assert it.process.spec.environment["PORT"] == "4001"
        await it.until(lambda: it.replica.ready)  # then it is in a container, and ours
        assert it.clock.monotonic() - it.starts[1] >= 2

    play(scene)


def test_ports_that_are_always_taken_are_tried_with_a_back_off_in_the_end(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.trouble = "nobody listens"
        for n in range(6):
            await it.until(lambda n=n: len(it.processes) == n + 1)  # type: ignore[misc]
            it.process.end(exit_code=1, tail=["EADDRINUSE"])
        assert it.starts[2] - it.starts[0] < 0.2
        assert it.starts[5] - it.starts[2] > 1
        assert it.replica.failure is not None
        assert it.replica.failure.reason == "PortTaken"

    play(scene)


def test_a_command_that_is_not_there_is_not_tried_again(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.start_error = CommandNotFoundError("no sh")
        await asyncio.sleep(100)
        assert it.replica.hopeless

    it = play(scene)
    assert it.processes == []


def test_a_machine_without_descriptors_for_a_moment_is_waited_for(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.port_errors = [OSError(errno.EMFILE, "Too many open files")]
        await it.until(lambda: it.replica.failure is not None)
        failure = it.replica.failure
        assert failure is not None
        assert failure.reason == "InternalError"
        assert "Too many open files" in failure.message
        await it.until(lambda: it.replica.ready)
        assert it.replica.failure is None

    play(scene)


def test_storage_that_is_away_is_waited_for_and_an_artifact_that_is_gone_is_not(
    play: Play,
) -> None:
    async def scene(it: Stage) -> None:
        it.fetch_errors = [StorageError("away"), StorageError("away")]
        await it.until(lambda: it.replica.ready)
        assert it.fetched == 3

    play(scene)


def test_an_artifact_that_is_gone_is_not_waited_for(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.fetch_errors = [ObjectNotFoundError("k")]
        await it.until(lambda: it.replica.hopeless)
        assert it.replica.failure is not None
        assert it.replica.failure.reason == "ArtifactInvalid"

    assert play(scene).fetched == 1


@pytest.mark.parametrize("when", ["in a back-off", "before it is ready", "hopeless"])
def test_it_ends_at_once_whatever_it_is_at(play: Play, when: str) -> None:
    began: list[float] = []

    async def scene(it: Stage) -> None:
        it.trouble = "not yet"
        if when == "hopeless":
            it.start_error = CommandNotFoundError("no sh")
            await it.until(lambda: it.replica.hopeless)
        else:
            await it.until(lambda: len(it.processes) == 1)
            if when == "in a back-off":
                it.process.end(exit_code=1)
                await asyncio.sleep(0.2)
        began.append(it.clock.monotonic())

    it = play(scene)
    assert it.pods.pods[0].ended
    assert "Killed" not in it.events


def test_output_that_is_not_stored_at_the_end_is_told(play: Play) -> None:
    async def scene(it: Stage) -> None:
        it.pods.drains = False
        await it.until(lambda: it.replica.ready)

    assert play(scene).events == ["Healthy", "LogIncomplete"]


def test_output_that_is_lost_is_told(play: Play) -> None:
    async def scene(it: Stage) -> None:
        await it.until(lambda: it.replica.ready)
        it.process.end(exit_code=1, lost_lines=3, notes=["3 lines of output are lost"])
        await it.until(lambda: len(it.processes) == 2 and it.replica.ready)
        it.process.end(signal=9, reason="ShimLost", notes=["its last output may be lost"])
        await it.until(lambda: len(it.processes) == 3 and it.replica.ready)
        it.process.end(exit_code=1, notes=["1 of its processes outlived it"])
        await it.until(lambda: len(it.processes) == 4 and it.replica.ready)

    assert play(scene).events.count("LogIncomplete") == 2
