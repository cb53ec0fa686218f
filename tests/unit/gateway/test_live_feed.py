"""What a feed remembers of a pod: its newest blocks and its open spans, and no more than that."""

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest

from spanyard_gateway.live import feed as feeds
from spanyard_gateway.live import records
from spanyard_gateway.live.feed import Feed
from spanyard_gateway.live.inlet import Dropped, Inlet, Item, Joined, Reached
from spanyard_gateway.live.records import Block, LogRecord, SpanRecord
from spanyard_gateway.live.upstream import LivePod, UpstreamError, UpstreamEvent, UpToDate
from tests.fakes.live_scene import encode, encoded, play
from tests.sim.clock import SimClock, WallClock

POD = LivePod("pod", "pod", "local", "support")
KEPT = 2_000


def in_virtual_time(scene: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test whose seconds are those of a simulated loop: a slow machine changes nothing."""

    @functools.wraps(scene)
    def test(**fixtures: Any) -> None:
        play(scene(**fixtures))

    return test


class Said:
    """An `Upstream` that says all of it at once, and then nothing."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        yield self._events()

    async def _events(self) -> AsyncIterator[UpstreamEvent]:
        for block in self._blocks:
            yield block
        yield UpToDate()
        await asyncio.Event().wait()


async def _nothing_stored(pod: LivePod) -> Mapping[str, Reached]:
    return {}


@contextlib.asynccontextmanager
async def fed(*blocks: Block, keep: int = KEPT) -> AsyncIterator[Feed]:
    made = Feed(
        POD, Said(blocks), _nothing_stored, SimClock(WallClock()), random.Random(1), keep=keep
    )
    task = asyncio.create_task(made.run())
    try:
        await asyncio.wait_for(made.ready.wait(), 10)
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def joined(feed: Feed) -> Sequence[Block]:
    """What one who comes now is given."""
    inlet = Inlet(1)
    feed.join(inlet)
    [given] = [item for item in inlet.waiting_now() if isinstance(item, Joined)]
    feed.leave(inlet)
    return given.blocks


def lines(first: int, writer: str = "pod/app/0@e") -> Block:
    record = LogRecord(first, "2026-11-21T10:00:00Z", "info", "m")
    return Block(writer, first, 1, [record], 100)


def span(seq: int, id_: str) -> Block:
    record = SpanRecord(seq, id_, "t", "ask", "2026-11-21T10:00:00Z", None)
    return Block("pod/spans@e", seq, 1, [record], 1)


@in_virtual_time
async def test_of_more_than_it_keeps_the_newest_is_there_before_and_after_a_round() -> None:
    async with fed(*map(lines, range(1, 201))) as feed:
        for _ in range(2):
            blocks = joined(feed)
            assert blocks[-1].last == 200
            assert sum(block.size for block in blocks) <= KEPT
            await asyncio.sleep(0.1)
        feed._take(lines(201))
        await asyncio.sleep(0.1)
        assert joined(feed)[-1].last == 201
        assert sum(block.size for block in joined(feed)) <= KEPT


async def _heard(inlet: Inlet, seconds: float) -> list[Item]:
    """What one hears who needs so long for each message."""
    heard: list[Item] = []
    with contextlib.suppress(TimeoutError):
        while True:
            heard.append(await asyncio.wait_for(inlet.get(), 1.0))
            await asyncio.sleep(seconds)
    return heard


@in_virtual_time
async def test_what_comes_all_at_once_is_too_much_for_nobody_who_keeps_up() -> None:
    """Whoever does not keep up is told, and holds up nobody."""
    burst = [lines(n) for n in range(1, 401)]
    for block in burst:
        block.size = 10_000

    async with fed(keep=8 << 20) as feed:
        quick, slow = Inlet(1 << 20), Inlet(1 << 20)
        for inlet in (quick, slow):
            feed.join(inlet)
        began = asyncio.get_running_loop().time()
        listening = [asyncio.create_task(_heard(*each)) for each in ((quick, 0.0), (slow, 0.5))]
        for block in burst:
            feed._take(block)
        heard = await listening[0]
        assert not [item for item in heard if isinstance(item, Dropped)]
        assert sum(item.count for item in heard if isinstance(item, Block)) == 400
        assert asyncio.get_running_loop().time() - began < 1.0 + 0.2
        dropped = [item for item in await listening[1] if isinstance(item, Dropped)]
        assert dropped, "it had no room for all of it"


@in_virtual_time
async def test_who_comes_later_is_given_few_blocks_and_what_was_encoded_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "MERGE_AT", 8)
    async with fed(lines(1), keep=8 << 20) as feed:
        joined(feed)  # there is somebody; who comes now is given few already
        for n in range(2, 50):
            feed._take(lines(n))
            await asyncio.sleep(0.01)
        blocks = joined(feed)
        assert [record.seq for block in blocks for record in block.records] == [*range(1, 50)]
        assert len(blocks) < 20
        blocks[0].size = 2 * records.MESSAGE_BYTES
        encode(blocks[0])
        pieces = blocks[0].pieces()
        assert len(pieces) > 1
        assert all(map(encoded, [blocks[0], *pieces])), "else there were nothing to forget"
        feed.forget_encoded()
        assert not any(map(encoded, [blocks[0], *pieces]))


@in_virtual_time
async def test_few_blocks_are_given_as_they_are_and_many_in_few() -> None:
    async with fed(keep=8 << 20) as feed:

        def rounds(*numbers: int, writer: str = "pod/app/0@e") -> None:
            for n in numbers:
                feed._take(lines(n, writer))
                feed._taken()

        rounds(*range(1, 21))
        few = joined(feed)
        assert len(few) == 20
        assert all(a is b for a, b in zip(few, joined(feed), strict=True)), "encoded once for all"
        rounds(*range(21, 201))
        [block] = joined(feed)
        assert [record.seq for record in block.records] == [*range(1, 201)]


@in_virtual_time
async def test_blocks_of_many_writers_stay_many_and_are_not_looked_through_for_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []

    def counted(blocks: Iterable[Block]) -> list[Block]:
        found = records.merged(blocks)
        looked.append(len(found))
        return found

    async with fed(keep=8 << 20) as feed:
        for n in range(500):
            feed._take(lines(1, f"pod/{n}/0@e"))
        feed._taken()
        monkeypatch.setattr(feeds, "merged", counted)
        for _ in range(10):
            assert len(joined(feed)) == 500
        assert looked == [500]


@in_virtual_time
async def test_what_a_round_was_encoded_to_is_forgotten_after_it() -> None:
    async with fed(keep=8 << 20) as feed:
        inlet = Inlet(1 << 20)
        feed.join(inlet)
        assert isinstance(await inlet.get(), Joined)
        while not isinstance(item := await inlet.get(), Block):
            feed._take(lines(1))
        encode(item)
        assert encoded(item)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not encoded(item)
        assert [block.last for block in joined(feed)] == [1], "it is kept all the same"


@in_virtual_time
async def test_of_one_who_speaks_seldom_the_newest_is_kept_as_long_as_that_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "MERGE_AT", 8)
    monkeypatch.setattr(records, "MESSAGE_BYTES", 1_000)
    async with fed(keep=20_000) as feed:
        for n in range(1, 3_001):
            feed._take(lines(n))
            if n % 20 == 0:
                feed._take(lines(n // 20, "pod/side/0@e"))
            if n % 5 == 0:
                await asyncio.sleep(0.001)
                blocks = joined(feed)
                kept = sum(block.count for block in blocks)
                seldom = [b.last for b in blocks if b.writer == "pod/side/0@e"]
                assert n < 20 or max(seldom) == n // 20, "printed a moment ago"
        assert kept < 250, "and what is old was let go"


@in_virtual_time
async def test_a_span_that_is_told_again_is_an_update_while_it_is_among_the_newest_open_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "OPEN_SPANS", 10)
    starts = [span(n, f"s{n}") for n in range(1, 21)]
    async with fed(*starts, span(21, "s20"), span(22, "s1")) as feed:
        await asyncio.sleep(0.1)
        assert set().union(*(block.updates for block in joined(feed))) == {21}


@in_virtual_time
async def test_a_pod_that_names_writers_without_end_makes_nothing_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "MOST_WRITERS", 10)
    blocks = [
        Block(f"pod/{n}/0@e", 1, 1, [LogRecord(1, "2026-11-21T10:00:00Z", "info", "m")], 1)
        for n in range(30)
    ]
    async with fed(*blocks) as feed:
        assert list(feed.reached) == [f"pod/{n}/0@e" for n in range(20, 30)]


class Breaking(Said):
    """Says one more, and breaks, before it has said all."""

    said = 0

    async def _events(self) -> AsyncIterator[UpstreamEvent]:
        self.said += 1
        yield lines(self.said)
        if self.said < 30:
            raise UpstreamError("the connection broke")
        yield UpToDate()
        await asyncio.Event().wait()


@in_virtual_time
async def test_connections_that_break_before_all_is_said_pile_up_nothing() -> None:
    clock = SimClock(WallClock())
    made = Feed(POD, Breaking(()), _nothing_stored, clock, random.Random(1), keep=1 << 20)
    inlet = Inlet(1)
    made.join(inlet)
    inlet.waiting_now()
    task = asyncio.create_task(made.run())
    await asyncio.sleep(300)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    given = [item for item in inlet.waiting_now() if isinstance(item, Joined)]
    assert [sum(block.count for block in each.blocks) for each in given] == [30]
