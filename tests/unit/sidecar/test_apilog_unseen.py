"""Capture `api`, runs that end while nobody looks: none is taken for another."""

import pytest

from tests.fakes.pod_logs import FakePodLogs
from tests.unit.sidecar.api_capture import collecting, gaps, one_server, stored
from tests.unit.sidecar.machine import Machine, virtual


@virtual
async def test_a_run_that_came_and_went_unseen_is_told() -> None:
    async with one_server() as (machine, kube):
        await kube.say("server", "zero")
        await machine.clock.sleep(10)
        kube.away = True
        for text in ("one", "two"):
            await kube.start("server")
            await kube.say("server", text)
        await machine.clock.sleep(10)
        kube.away = False
        await machine.clock.sleep(60)
    assert stored(machine, "server/0") == ["zero"]
    assert gaps(machine, "server/0") == ["gap unreadable"]
    assert stored(machine, "server/1") == ["one"]
    assert stored(machine, "server/2") == ["two"]


@pytest.mark.parametrize("lag", [0.1, 0.8, 1.4, 2.0, 5.0])
@pytest.mark.parametrize("first_life", [6, 12])
def test_a_run_that_crashes_at_once_is_not_taken_for_the_one_before_however_late_the_status(
    lag: float, first_life: int
) -> None:
    @virtual
    async def check() -> None:
        machine = Machine()
        kube = FakePodLogs(machine.clock, lag=lag)
        async with collecting(machine, kube):
            for run, life in enumerate([first_life, 1.5, 1.5]):
                await kube.start("server")
                await kube.say("server", *(f"{run} {n}" for n in range(3)))
                await machine.clock.sleep(life)
                if run:
                    await kube.stop("server", backing_off=True)
                    await machine.clock.sleep(12)
        for run in range(3):
            assert stored(machine, f"server/{run}") == [f"{run} {n}" for n in range(3)]
            assert not gaps(machine, f"server/{run}")

    check()


@pytest.mark.parametrize("followed", [True, False])
def test_a_run_that_the_runtime_removed_is_complete_if_it_was_followed_to_its_end(
    *, followed: bool
) -> None:
    @virtual
    async def check() -> None:
        async with one_server() as (machine, kube):
            await kube.say("server", *"abc")
            await machine.clock.sleep(10)
            kube.away = not followed
            await kube.say("server", "d")
            await kube.stop("server")
            await machine.clock.sleep(0.1)
            await kube.start("server")
            kube.runs["server"][0].removed = True
            await machine.clock.sleep(5)
            kube.away = False
            await machine.clock.sleep(60)
        assert stored(machine, "server/0") == (list("abcd") if followed else list("abc"))
        assert gaps(machine, "server/0") == ([] if followed else ["gap unreadable"])

    check()
