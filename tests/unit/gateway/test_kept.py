"""Answers that are kept: bounded, asked once for all, and failures are not answers."""

import asyncio

import pytest

from spanyard_gateway.auth.kept import Kept, TooManyWaitingError
from spanyard_gateway.auth.rates import Rates
from tests.fakes.handclock import HandClock


async def test_no_more_answers_are_kept_than_may_be_and_the_oldest_go() -> None:
    kept: Kept[int, int] = Kept(HandClock(), seconds=lambda _: 10, most=3, at_once=2)
    asked: list[int] = []

    async def ask(number: int) -> int:
        asked.append(number)
        return number

    for number in (1, 2, 3, 1, 4):
        assert await kept.get(number, lambda n=number: ask(n)) == number
    assert len(kept) == 3
    assert asked == [1, 2, 3, 4]
    await kept.get(1, lambda: ask(1))
    await kept.get(2, lambda: ask(2))  # went when 4 came: 1 had been used since
    assert asked == [1, 2, 3, 4, 2]


async def test_who_gives_up_takes_the_answer_from_nobody_and_errors_are_asked_again() -> None:
    kept: Kept[str, int] = Kept(HandClock(), seconds=lambda _: 10, most=3, at_once=2)
    go, times = asyncio.Event(), 0

    async def ask() -> int:
        nonlocal times
        times += 1
        await go.wait()
        if times == 1:
            return 7
        raise ValueError("away")

    waiting = [asyncio.create_task(kept.get("a", ask)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    go.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert told[1:] == [7] * 4
    assert times == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            await kept.get("b", ask)
    assert times == 3


async def test_a_flood_of_new_questions_is_bounded_and_leaves_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spanyard_gateway.auth.kept.WAITING", 3)
    kept: Kept[int, int] = Kept(HandClock(), seconds=lambda _: 10, most=9, at_once=1)
    go = asyncio.Event()

    async def known() -> int:
        return 0

    async def slow() -> int:
        await go.wait()
        return 1

    await kept.get(0, known)
    waiting = [asyncio.create_task(kept.get(n, slow)) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaitingError):
        await kept.get(4, slow)
    assert await kept.get(0, slow) == 0
    go.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await kept.get(4, slow) == 1


async def test_an_answer_is_as_old_as_its_question() -> None:
    clock = HandClock()
    kept: Kept[str, bool] = Kept(clock, seconds=lambda _: 10, most=3, at_once=1)

    async def slow() -> bool:
        clock.advance(9)
        return True

    await kept.get("a", slow)
    clock.advance(2)

    async def no() -> bool:
        return False

    assert await kept.get("a", no) is False


def test_a_rate_is_each_ones_own_and_comes_back() -> None:
    clock = HandClock()
    rates = Rates(clock, per_second=2, burst=3)
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    assert rates.take("b")
    clock.advance(0.5)
    assert [rates.take("a"), rates.take("a")] == [True, False]
    clock.advance(100)
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
