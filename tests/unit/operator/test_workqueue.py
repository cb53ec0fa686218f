"""The work queue: each key once at a time, none forgotten, failures later and later."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.kube import KubeError, KubeUnavailableError
from spanyard_operator.workqueue import Again, Key, WorkQueue
from tests.fakes.handclock import HandClock

A, B = Key("Build", "team", "a"), Key("Build", "team", "b")


def queue() -> tuple[WorkQueue, HandClock]:
    clock = HandClock()
    return WorkQueue(clock, random.Random(1)), clock


async def test_a_key_that_is_added_often_is_worked_on_once() -> None:
    made, _ = queue()
    seen: list[Key] = []

    async def work(key: Key) -> None:
        seen.append(key)

    for _ in range(5):
        made.add(A)
    made.add(B)
    while await made.step(work):
        pass
    assert seen == [A, B]


async def test_a_key_that_is_added_while_it_is_worked_on_comes_once_more_and_never_beside() -> None:
    made, _ = queue()
    at_once = most = 0
    seen: list[Key] = []

    async def work(key: Key) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if len(seen) < 1:
            made.add(key)
            made.add(key)
        seen.append(key)
        await asyncio.sleep(0)
        at_once -= 1

    made.add(A)
    running = asyncio.create_task(made.run(work, workers=4))
    while len(seen) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (seen, most) == ([A, A], 1)


async def test_what_fails_comes_again_later_and_later_and_a_success_forgets_it() -> None:
    made, clock = queue()
    delays: list[float] = []
    fails = 12

    async def work(key: Key) -> None:
        if len(delays) < fails:
            raise KubeUnavailableError("away")

    made.add(A)
    await made.step(work)
    while made.next_due() is not None:
        due = made.next_due()
        assert due is not None
        delays.append(due)
        clock.advance(due)
        await made.step(work)
    assert len(delays) == fails
    assert 0.1 <= delays[0] <= 0.2
    assert 30 <= delays[-1] <= 60
    assert made.results["Build", "unavailable"] == fails
    made.add(A)
    delays.clear()
    await made.step(work)
    assert (made.next_due() or 9) <= 0.2


async def test_the_server_says_how_long_to_wait() -> None:
    made, _ = queue()

    async def work(key: Key) -> None:
        raise KubeUnavailableError("too many requests", retry_after=17.0)

    made.add(A)
    await made.step(work)
    assert made.next_due() == 17.0


async def test_kinds_of_trouble_are_counted_apart_and_stop_nobody() -> None:
    made, _ = queue()
    errors = iter([
        KubeError("modified", status=409, reason="Conflict"),
        KubeError("forbidden", status=403, reason="Forbidden"),
        ZeroDivisionError("ours"),
    ])  # fmt: skip

    async def work(key: Key) -> Again | None:
        if key == A:
            raise next(errors)
        return Again(5.0)

    for _ in range(3):
        made.add(A)
        await made.step(work)
    made.add(B)
    await made.step(work)
    assert dict(made.results) == {
        ("Build", "conflict"): 1, ("Build", "error"): 2, ("Build", "again"): 1,
    }  # fmt: skip
    assert made.later == 2


async def test_an_earlier_time_wins_and_a_look_decides_anew() -> None:
    made, clock = queue()
    looks: list[float] = []

    async def work(key: Key) -> None:
        looks.append(clock.now)

    made.add_after(A, 10)
    made.add_after(A, 3)
    made.add_after(A, 7)
    assert made.next_due() == 3
    clock.advance(3)
    assert await made.step(work)
    assert made.next_due() is None, "what was wanted before the look counts no more"


async def test_what_is_looked_at_often_leaves_nothing_behind() -> None:
    made, clock = queue()

    async def work(key: Key) -> Again:
        return Again(600)

    for _ in range(1_000):
        made.add(A)
        assert await made.step(work)
        clock.advance(0.1)
    assert made.later == 1
    assert len(made._due) < 100
    assert made.next_due() == pytest.approx(599.9)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40))
async def test_no_key_is_ever_forgotten(adds: list[tuple[str, int]]) -> None:
    made, clock = queue()
    pending: set[str] = set()

    async def work(key: Key) -> None:
        pending.discard(key.name)

    for name, after in adds:
        pending.add(name)
        key = Key("Build", "team", name)
        if after:
            made.add_after(key, after)
        else:
            made.add(key)
        if after == 3:
            await made.step(work)
    for _ in range(4):
        clock.advance(1)
        while await made.step(work):
            pass
    assert not pending
    assert made.idle
