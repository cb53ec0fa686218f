"""Who asks the database next: under virtual time."""

import asyncio
import itertools
from collections.abc import Hashable

import pytest

from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.shared import KEPT_S
from spanyard_gateway.live.turns import ASKER, CREDIT_S, MOST_ASKERS, Turns
from tests.fakes.live_scene import play
from tests.fakes.live_socket import CHANNEL, connected, served


class Asked:
    """Questions that take no time and rest for a second each."""

    def __init__(self, places: int = 1) -> None:
        self.turns, self.order = Turns(places), list[tuple[str, float]]()

    async def ask(self, asker: str, rest: float = 1.0) -> None:
        turn = self.turns.wish(asker)
        try:
            await turn.given
            self.order.append((asker, asyncio.get_running_loop().time()))
        finally:
            self.turns.end(turn, 0.0, rest)

    def of(self, asker: str) -> list[float]:
        return [at for who, at in self.order if who == asker]


def test_rests_follow_one_another_however_many_places_there_are() -> None:
    async def scene() -> None:
        asked, began = Asked(places=4), asyncio.get_running_loop().time()
        await asyncio.gather(*(asked.ask("a") for _ in range(8)))
        assert [at - began for at in asked.of("a")] == pytest.approx(
            [0, 0, 0, 0, 1, 2, 3, 4], abs=0.01
        )

    play(scene())


def test_who_asks_for_little_is_not_behind_a_hundred_who_ask_for_much() -> None:
    async def scene() -> None:
        asked, loop = Asked(), asyncio.get_running_loop()

        async def always(asker: str) -> None:
            while True:
                await asked.ask(asker)

        flood = [asyncio.create_task(always(f"much {n}")) for n in range(100)]
        await asyncio.sleep(150.5)
        began = loop.time()
        for _ in range(5):
            await asked.ask("little", 0.01)
        assert loop.time() - began < 6, "one turn of somebody else before each, not a hundred"
        began = loop.time()
        await asked.ask("little", 2 * CREDIT_S)
        await asked.ask("little", 1.0)
        assert loop.time() - began > 50, "from then on it is one of them"
        before = len(asked.order)
        await asyncio.sleep(400)
        for task in flood:
            task.cancel()
        had = [
            len([1 for who, _ in asked.order[before:] if who == f"much {n}"]) for n in range(100)
        ]
        assert max(had) - min(had) <= 1, "those who ask for as much have as much"

    play(scene())


def test_nobody_waits_without_end_for_strangers_that_keep_coming() -> None:
    async def scene() -> None:
        asked = Asked()

        async def strangers(line: int) -> None:
            for n in range(10_000):
                await asked.ask(f"stranger {line}.{n}", 0.1)

        coming = [asyncio.create_task(strangers(line)) for line in range(10)]
        await asyncio.sleep(1)
        for _ in range(20):
            await asked.ask("reader")
        times = asked.of("reader")
        assert max(b - a for a, b in itertools.pairwise(times)) < 6
        for task in coming:
            task.cancel()

    play(scene())


def test_a_question_that_somebody_else_asks_too_comes_when_the_first_of_them_is_next() -> None:
    async def scene() -> None:
        asked = Asked()
        for _ in range(3):
            await asked.ask("much")
        hurried, rest = asked.turns.wish("much"), asked.turns.wish("much")
        others = [asyncio.create_task(asked.ask(f"other {n}")) for n in range(3)]
        await asyncio.sleep(0)
        asked.turns.hurry(hurried, "other 4")
        asked.turns.hurry(hurried, "other 5")
        await hurried.given
        assert not any(task.done() for task in others[1:])
        assert not rest.given.done()
        asked.turns.end(hurried, 0.0, 1.0)
        await asyncio.gather(*others)
        await rest.given
        asked.turns.end(rest, 0.0, 0.0)

    play(scene())


def test_a_wish_that_is_given_up_leaves_its_place_to_others() -> None:
    async def scene() -> None:
        asked = Asked()
        first = asyncio.create_task(asked.ask("a", 5.0))
        await asyncio.sleep(1)
        given_up = asyncio.create_task(asked.ask("b"))
        await asyncio.sleep(1)
        given_up.cancel()
        await asyncio.gather(first, given_up, return_exceptions=True)
        began = asyncio.get_running_loop().time()
        await asked.ask("c")
        await asked.ask("c")
        assert asyncio.get_running_loop().time() - began == pytest.approx(4, abs=0.01)

    play(scene())


def test_askers_that_have_gone_are_forgotten() -> None:
    async def scene() -> None:
        asked = Asked(places=2)
        held = asked.turns.wish("somebody slow")
        for n in range(3 * MOST_ASKERS):
            await asked.ask(f"asker {n}", 0.001)
        assert len(asked.turns._had) <= MOST_ASKERS + 1
        asked.turns.end(held, 0.0, 0.0)
        await asyncio.sleep(1)
        assert not asked.turns._had

    play(scene())


async def test_a_connection_asks_for_itself_and_a_person_for_all_of_theirs() -> None:
    async with served() as (gateway, url):
        gateway.live.who = lambda request: request.headers.get("x-who", "")
        asked: list[Hashable] = []

        async def begun_since(*_: object) -> dict[str, Reached]:
            asked.append(ASKER.get())
            return {}

        gateway.world.begun_since = begun_since  # type: ignore[method-assign]
        for who in ("", "", "ann", "ann"):
            async with connected(url, headers={"x-who": who}) as client:
                await client.say(type="subscribe", id="a", channel=CHANNEL, history=0)
                await client.hear("live")
            await asyncio.sleep(2 * KEPT_S)  # until then the answer is everybody's
        one, other, *anns = asked
        assert None not in (one, other)
        assert one is not other
        assert anns == ["ann", "ann"]
