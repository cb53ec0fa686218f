"""What clients may say, and who is next: under virtual time."""

import asyncio
import contextlib
from typing import Any

import pytest

from spanyard_gateway.live.intake import LARGE_PART, MESSAGE, RESERVE, SMALL, Intake, TooFastError
from spanyard_gateway.live.socket import SocketLimits
from tests.fakes.live_scene import play

LARGE = 250_000 - MESSAGE
"""A token of 2,000 writers."""


def limits(**changed: float) -> SocketLimits:
    usual: dict[str, Any] = {
        "said_rate": 100_000, "said_burst": 1_000_000,
        "said_rate_of_person": 200_000, "said_burst_of_person": 2_000_000,
        "said_rate_in_all": 1_000_000, "said_burst_in_all": 1_000_000,
        "patience": 10.0,
    }  # fmt: skip
    return SocketLimits(**(usual | changed))


def now() -> float:
    return asyncio.get_running_loop().time()


def test_one_connection_has_its_burst_at_once_and_its_rate_from_then_on() -> None:
    async def scene() -> None:
        async with Intake(limits(patience=60.0)).connection("") as said:
            began, times = now(), []
            for _ in range(14):
                await said.turn(LARGE)
                times.append(now() - began)
        assert times[:5] == [0.0] * 5, "a burst, and one that overdraws it"
        assert times[5:] == pytest.approx([2.5 * n for n in range(1, 10)])

    play(scene())


def test_a_person_is_one_however_many_connections_and_stays_so_when_they_are_made_anew() -> None:
    async def scene() -> None:
        intake, began, count = Intake(limits(said_rate_in_all=10**9)), now(), 0

        async def pours() -> None:
            nonlocal count
            while now() - began < 9.5:
                async with intake.connection("ann") as said:
                    for _ in range(3):
                        await said.turn(LARGE)
                        count += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(pours())
        assert count * 250_000 <= 2_000_000 + 200_000 * (now() - began) + 4 * 250_000
        async with intake.connection("bob") as said:
            at = now()
            await said.turn(LARGE)
            assert now() == at, "another is not held up"
        await asyncio.sleep(60)
        assert not intake._people, "nobody is remembered for ever"

    play(scene())


def test_a_hundred_who_say_much_hold_up_nobody_who_says_little() -> None:
    async def scene() -> None:
        intake, passed = Intake(limits(patience=60.0)), 0

        async def pours() -> None:
            nonlocal passed
            while True:
                async with intake.connection("") as said:  # each time as one who was never here
                    await said.turn(LARGE)
                    passed += 1

        pouring = [asyncio.create_task(pours()) for _ in range(100)]
        began, waits = now(), []
        for _ in range(20):
            await asyncio.sleep(1.1)
            async with intake.connection("") as said:
                at = now()
                for _ in range(3):
                    await said.turn(500)
                waits.append(now() - at)
        took = now() - began
        await stopped(pouring)
        assert max(waits) == 0.0, "little does not wait for what overdraws the rate of all"
        assert 0.8 * took <= passed / 4 <= took + 2.0, "all of the rate is used, and no more"

    play(scene())


def test_those_who_say_little_but_often_wait_like_all_others() -> None:
    async def scene() -> None:
        intake, passed = Intake(limits(patience=60.0)), 0

        async def says() -> None:
            nonlocal passed
            while True:
                async with intake.connection("") as said:
                    await said.turn(SMALL - MESSAGE)
                    passed += SMALL
                    await asyncio.sleep(0)

        saying = [asyncio.create_task(says()) for _ in range(100)]
        await asyncio.sleep(20)
        await stopped(saying)
        most = 20 * 1_000_000 + 1_000_000
        assert most * 0.99 <= passed <= most * (1 + 1 / RESERVE) + 100 * SMALL

    play(scene())


def test_those_who_say_little_but_often_leave_most_to_those_who_say_much() -> None:
    async def scene() -> None:
        intake, large = Intake(limits(patience=60.0)), 0

        async def says(person: str) -> None:
            async with intake.connection(person) as said:
                await said.turn(SMALL - MESSAGE)

        async def comes(person: str) -> None:
            async with asyncio.TaskGroup() as group:
                while True:  # as much as there is for all
                    group.create_task(says(person))
                    await asyncio.sleep(10 * SMALL / 1_000_000)

        async def pours() -> None:
            nonlocal large
            async with intake.connection("") as said:
                while True:
                    await said.turn(LARGE)
                    large += 250_000

        tasks = [asyncio.create_task(comes(f"p{n}")) for n in range(10)]
        tasks += [asyncio.create_task(pours()) for _ in range(10)]
        await asyncio.sleep(20)
        before = large
        await asyncio.sleep(30)
        await stopped(tasks)
        assert large - before >= 0.9 * 30 * (1_000_000 - 1_000_000 / 8) / 2, "half of the rest"

    play(scene())


def test_strangers_that_keep_coming_hold_up_nobody_for_ever() -> None:
    async def scene() -> None:
        intake, large, small = Intake(limits()), 0, 0

        async def comes() -> None:
            async with intake.connection("") as said:
                nonlocal small
                with contextlib.suppress(TooFastError):
                    await said.turn(SMALL - MESSAGE)
                    small += SMALL

        async def pours() -> None:
            nonlocal large
            while True:
                async with intake.connection("") as said:
                    await said.turn(LARGE)  # TooFastError: it waited for 10 s
                    large += 250_000

        tasks = [asyncio.create_task(pours()) for _ in range(2)]
        for _ in range(17_500):  # 60 s of 1.2 times what there is for all
            tasks.append(asyncio.create_task(comes()))
            await asyncio.sleep(SMALL / 1_200_000)
        assert not any(task.done() for task in tasks[:2])
        assert large >= 0.9 * 60 * 1_000_000 / LARGE_PART, "what they may have"
        assert small >= 0.9 * 60 * 1_000_000 * (1 - 1 / LARGE_PART), "and no more"
        await stopped([task for task in tasks if not task.done()])

    play(scene())


def test_who_would_wait_too_long_is_told_and_takes_nobodys_turn() -> None:
    async def scene() -> None:
        intake, began = Intake(limits()), now()

        async def says() -> None:
            async with intake.connection("") as said:
                await said.turn(LARGE)

        outcomes = await asyncio.gather(*(says() for _ in range(100)), return_exceptions=True)
        refused = sum(isinstance(outcome, TooFastError) for outcome in outcomes)
        assert now() - began == pytest.approx(10.0)
        assert 44 <= outcomes.count(None) == 100 - refused <= 46, "burst, and ten seconds"
        at = now()
        await says()
        assert now() - at <= 0.25, "of those who have gone nothing is left"

    play(scene())


def test_where_messages_take_long_fewer_are_taken() -> None:
    async def scene() -> None:
        intake, passed = Intake(limits()), 0

        async def pours() -> None:
            nonlocal passed
            async with intake.connection("") as said:
                while True:
                    await said.turn(LARGE)
                    said.took(0.05)  # at 1 MB/s, 600 kB worth
                    passed += 1

        pouring = [asyncio.create_task(pours()) for _ in range(8)]
        await asyncio.sleep(30)
        await stopped(pouring)
        assert 30 / 0.6 - 1 <= passed <= 30 / 0.6 + 4

    play(scene())


def test_a_gateway_that_stood_for_a_minute_cuts_nobody_off() -> None:
    async def scene() -> None:
        async with Intake(limits()).connection("") as said:
            for _ in range(5):  # all of the burst
                await said.turn(LARGE)
            said.took(60.0)
            began = now()
            await said.turn(0)
            assert now() - began < 5.0

    play(scene())


async def stopped(tasks: "list[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
