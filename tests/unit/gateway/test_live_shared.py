"""Questions of many listeners, asked once: under virtual time."""

import asyncio
import random
from typing import Any

import pytest

from spanyard_gateway.live import shared
from spanyard_gateway.live.errands import ASK_EVERY_S
from spanyard_gateway.live.records import Block, block_of_lines
from spanyard_gateway.live.shared import (
    AT_ONCE,
    KEPT_S,
    PAGE,
    PAGE_KEPT_S,
    REST_S,
    STEP,
    SharedStored,
)
from tests.fakes.live_scene import Scene, encode, encoded, play
from tests.fakes.live_world import line

WRITER = "p/app/0@e"


class Counted(Scene):
    """A database with 20,000 lines of one writer, that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int | None]] = []
        lines = [line(WRITER, seq, 1.0) for seq in range(1, 20_001)]

        async def between(_: str, __: str, after: int, before: int | None) -> list[Block]:
            self.asked.append((after, before))
            await asyncio.sleep(0.01)
            found = lines[after : min(after + PAGE, (before or 1 << 60) - 1)]
            return [block_of_lines(WRITER, after + 1, b"".join(found))] if found else []

        self.world.between = between  # type: ignore[method-assign, assignment]
        self.stored = SharedStored(self.world)

    async def read(self, after: int, before: int | None = None) -> list[int]:
        """All of it, as a subscription reads it."""
        found: list[int] = []
        while before is None or after < before - 1:
            blocks = await self.stored.between(WRITER, "logs", after, before)
            if not blocks:
                break
            found += [record.seq for block in blocks for record in block.records]
            after = found[-1]
        return found


def test_a_hundred_who_come_back_from_different_places_read_the_same_pages() -> None:
    async def scene() -> None:
        it, rng = Counted(), random.Random(5)
        places = [rng.randrange(18_000) for _ in range(100)]
        found = await asyncio.gather(*(it.read(place, 20_001) for place in places))
        assert found == [[*range(place + 1, 20_001)] for place in places], "each all of its own"
        alone = sum(-(-(20_000 - place) // PAGE) + 1 for place in places)
        assert len(it.asked) <= 20_000 // STEP + 20_000 // PAGE + 1 < alone / 10

    play(scene())


def test_of_a_small_hole_no_more_is_read_than_is_missing() -> None:
    async def scene() -> None:
        it = Counted()
        assert await it.read(300, 304) == [301, 302, 303]
        assert await it.read(300, 1_800) == [*range(301, 1_800)]
        assert it.asked == [(300, 304), (0, 2_001)]

    play(scene())


def test_a_whole_page_is_kept_and_what_may_yet_come_is_asked_for_again() -> None:
    async def scene() -> None:
        it, writer = Counted(), WRITER

        def of(*seqs: int) -> list[Block]:
            return [block_of_lines(writer, n, line(writer, n, 1.0)) for n in seqs]

        for answer, kept_s in (
            (of(1), PAGE_KEPT_S),
            ([], KEPT_S),
            (of(2), KEPT_S),
            (of(1, 3), KEPT_S),
        ):
            asked = 0

            async def between(*_: object, answer: list[Block] = answer) -> list[Block]:
                nonlocal asked
                asked += 1
                return answer

            it.world.between = between  # type: ignore[method-assign]
            for wait, times in ((0.0, 1), (kept_s - 0.1, 1), (0.2, 2)):
                await asyncio.sleep(wait)
                assert await it.stored.between(writer, "logs", 0, None) == answer
                assert asked == times, (answer, wait)
            await asyncio.sleep(PAGE_KEPT_S + 1)

    play(scene())


def test_pages_are_kept_up_to_so_many_bytes_and_without_what_was_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "MOST_BYTES", 2_000_000)

    async def scene() -> None:
        it = Counted()
        for start in range(0, 20_000, PAGE):
            for block in await it.stored.between(WRITER, "logs", start, start + PAGE + 1):
                encode(block)
        kept = [b for k in it.stored._pages._kept.values() for b in k.answer.result()]
        assert 2 < len(kept) < 10
        assert sum(block.size for block in kept) <= 2_000_000
        assert it.stored._pages._size == sum(block.size for block in kept)
        pieces = [piece for block in kept for piece in block.pieces()]
        assert len(pieces) > len(kept)
        assert all(map(encoded, [*kept, *pieces])), "else there were nothing to forget"
        it.stored.forget_encoded()
        assert not any(map(encoded, [*kept, *pieces]))
        await asyncio.sleep(PAGE_KEPT_S + 1)
        assert not it.stored._pages._kept
        assert it.stored._pages._size == 0

    play(scene())


def test_what_was_encoded_of_a_page_with_holes_is_forgotten_too() -> None:
    async def scene() -> None:
        it = Counted()
        holed = [block_of_lines(WRITER, n, line(WRITER, n, 1.0)) for n in (1, 3)]

        async def between(*_: object) -> list[Block]:
            return holed

        it.world.between = between  # type: ignore[method-assign]
        for block in await it.stored.between(WRITER, "logs", 0, None):
            encode(block)
        assert all(map(encoded, holed))
        it.stored.forget_encoded()
        assert not any(map(encoded, holed))

    play(scene())


def test_a_page_that_made_room_and_was_read_again_is_kept_as_long_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "MOST", 2)

    async def scene() -> None:
        it = Counted()
        await it.read(0, PAGE + 1)
        await asyncio.sleep(1)
        await it.read(PAGE, 3 * PAGE + 1)
        assert len(it.stored._pages._kept) == 2, "the oldest made room"
        await asyncio.sleep(PAGE_KEPT_S - 2)
        await it.read(0, PAGE + 1)
        pages = [(start, start + PAGE + 1) for start in (0, PAGE, 2 * PAGE, 0)]
        assert it.asked == pages
        await asyncio.sleep(PAGE_KEPT_S - 1)  # longer ago than that it was read first
        await it.read(0, PAGE + 1)
        assert it.asked == pages

    play(scene())


@pytest.mark.parametrize(("size", "kept"), [(5 << 20, 3), (20 << 20, 1)])
def test_of_large_pages_16_mib_are_kept_or_one_alone(size: int, kept: int) -> None:
    async def scene() -> None:
        it = Counted()
        small = it.world.between

        async def between(*about: Any) -> list[Block]:
            [block] = await small(*about)
            block.size = size
            return [block]

        it.world.between = between  # type: ignore[method-assign]
        for start in range(0, 6 * PAGE, PAGE):
            await it.read(start, start + PAGE + 1)
        assert len(it.stored._pages._kept) == kept
        await it.read(5 * PAGE, 6 * PAGE + 1)
        assert len(it.asked) == 6, "the newest is there"

    play(scene())


def test_what_a_page_lacks_is_asked_for_each_time_and_a_whole_page_is_there_for_longer() -> None:
    async def scene() -> None:
        it = Counted()

        async def between(*_: object) -> list[Block]:
            return [block_of_lines(WRITER, n, line(WRITER, n, 1.0)) for n in there]

        it.world.between = between  # type: ignore[method-assign]
        for there in ([], [2], [1, 3], [1, 2, 3]):
            found = await it.stored.between(WRITER, "logs", 0, 4)
            assert [block.first for block in found] == there, "what was stored meanwhile"
            await asyncio.sleep(ASK_EVERY_S)
        whole = block_of_lines(WRITER, 1, b"".join(line(WRITER, n, 1.0) for n in (1, 2, 3)))

        async def once(*_: object) -> list[Block]:
            return [whole]

        it.world.between = once  # type: ignore[method-assign]
        assert await it.stored.between(WRITER, "logs", 0, 4) == [whole]
        it.world.between = between  # type: ignore[method-assign]
        await asyncio.sleep(4.5)
        assert await it.stored.between(WRITER, "logs", 0, 4) == [whole], "from memory"

    play(scene())


def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    async def scene() -> None:
        it, began = Counted(), asyncio.get_running_loop().time()
        gone = [asyncio.create_task(it.read(n * PAGE)) for n in range(10)]
        # Two wait for the same, and one of them stays.
        stays = [
            asyncio.create_task(it.stored.between(WRITER, "logs", 19_000, None)) for _ in range(2)
        ]
        await asyncio.sleep(0.001)
        for task in (*gone, stays[0]):
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        [block] = await stays[1]
        assert (block.first, block.last) == (19_001, 20_000)
        assert len(it.asked) == AT_ONCE + 1, "those that were being asked, and who stays"
        rests = AT_ONCE * PAGE * REST_S + 0.1
        assert asyncio.get_running_loop().time() - began <= rests, "and nobody rests for them"
        await asyncio.sleep(10)
        assert await it.read(19_900) == [*range(19_901, 20_001)], "a place is nobody's for ever"
        again = [asyncio.create_task(it.read(n * PAGE)) for n in range(AT_ONCE + 2)]
        assert len(await asyncio.gather(*again)) == AT_ONCE + 2

    play(scene())


def test_a_question_that_was_given_up_is_asked_anew_by_whoever_comes_next() -> None:
    async def scene() -> None:
        it = Counted()
        before = [asyncio.create_task(it.read(n * PAGE)) for n in range(AT_ONCE)]
        await asyncio.sleep(0)
        waits = asyncio.create_task(it.stored.between(WRITER, "logs", 19_000, None))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.sleep(0)
        come = []
        for _ in range(3):
            # The first before the one that was given up has ended, the others after.
            come.append(asyncio.create_task(it.stored.between(WRITER, "logs", 19_000, None)))
            await asyncio.sleep(0.001)
        come.pop().cancel()
        await asyncio.gather(*before)
        assert [block.first for [block] in await asyncio.gather(*come)] == [19_001] * 2
        assert it.asked.count((19_000, None)) == 1, "all who came next share it"

    play(scene())
