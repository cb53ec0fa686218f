"""One subscription: history, then live, without a gap and without a repeat.

Three places have records: the database what is stored, the collector what it read last, and the
connection to it what comes now. All three number a writer's records alike. So there is one rule: a
writer's records are passed on in the order of their numbers, each once; what a block skips is
fetched from the database, and what is not there within `PATIENCE_S` is told as dropped, with its
count and cause. What a filter leaves out is counted. So for each writer: passed on, left out and
dropped together are all there was.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from spanyard_core.clock import Clock
from spanyard_core.errors import DatabaseError, SpanyardError
from spanyard_gateway.live.channels import Channel, Filter, picks_of
from spanyard_gateway.live.inlet import Dropped, Gone, Inlet, Item, Joined, Reached
from spanyard_gateway.live.messages import Resume, records, said
from spanyard_gateway.live.records import (
    Block,
    LiveSignal,
    LogRecord,
    Record,
    SpanRecord,
    entry_json,
    picked,
)
from spanyard_gateway.live.stored import Row, Stored, Target

log = logging.getLogger("spanyard.gateway")

PATIENCE_S = 15.0
"""For what was read and is not stored yet: flush interval (5 s), upload and load take 7."""
ASK_EVERY_S = 0.5
END_S = 30.0
"""How long a pod that is gone is looked after in the database, until the ends of its writers."""
TELL_S = 1.0
"""What a filter leaves out is told this often, where nothing else tells it."""
MESSAGE_BYTES = 256 * 1024
MOST_HISTORY = 10_000
MOST_RESUMED = 2_000
"""Writers in a resume token: of those that ended long ago nothing more comes."""

Say = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asked for."""

    id: str
    channel: Channel
    filter: Filter
    history: int = 0
    resume: Resume | None = None


class Subscription:
    """See the module. `inlet` is joined to the feeds by the hub, before `run` and while it runs."""

    def __init__(
        self, wish: Wish, target: Target, inlet: Inlet, stored: Stored, clock: Clock, say: Say
    ) -> None:
        self._wish = wish
        self._target = target
        self._inlet = inlet
        self._stored = stored
        self._clock = clock
        self._say = say
        self._picks = picks_of(wish.channel, wish.filter)
        self._seen: dict[str, int] = dict(wish.resume.seen) if wish.resume else {}
        self._everything = wish.resume is not None
        """Whether writers that were never heard of are passed on from their first record."""
        self._left: dict[str, int] = {}
        """Writer → records that the filter left out and nobody was told of."""
        self._ends: dict[str, tuple[LiveSignal, float]] = {}
        """Writers of pods that are gone → until when the database is asked for more of them."""
        self.dropped: dict[str, int] = {}
        """Cause → records that this client was told of as dropped."""

    def resume(self) -> Resume:
        """Where a client that has read everything until now would go on."""
        seen = self._seen
        if len(seen) > MOST_RESUMED:
            seen = dict(list(seen.items())[-MOST_RESUMED:])
        return Resume(self._clock.time_ns() // 1_000_000, dict(seen))

    async def run(self, joined: Sequence[Item], reached: dict[str, Reached]) -> None:
        """Pass on until cancelled. `joined`: what the first feeds had; `reached`: how far they were."""
        if self._wish.resume is not None:
            await self._catch_up(self._wish.resume, reached)
        else:
            await self._history(joined, reached)
        self._everything = True
        # Let go of each: what is kept here would stay in memory for as long as anybody listens.
        waiting, joined = deque(joined), ()
        while waiting:
            await self._take(waiting.popleft())
        await self._tell_left()
        await self._say(said("live", id=self._wish.id, resume=self.resume()))
        told = self._clock.monotonic()
        while True:
            arrived = await self._next()
            if arrived is not None:
                await self._take(arrived)
                arrived = None  # the next may be long in coming
            now = self._clock.monotonic()
            if now - told >= TELL_S:
                told = now
                await self._tell_left()
                # Not for each block: questions would make a fast client look slow.
                await self._look_after_ends()

    async def _next(self) -> Item | None:
        if not (self._ends or self._left):
            return await self._inlet.get()
        try:
            async with asyncio.timeout(TELL_S):
                return await self._inlet.get()
        except TimeoutError:
            return None

    # --- live --------------------------------------------------------------------------------

    async def _take(self, item: Item) -> None:
        if isinstance(item, Block):
            await self._advance(item)
        elif isinstance(item, Joined):
            for block in item.blocks:
                await self._advance(block)
        elif isinstance(item, Dropped):
            if item.signal in self._wish.channel.signals:
                await self._drop(item.writer, item.first, item.last, "slow-client")
        else:
            await self._gone(item)

    async def _advance(self, block: Block) -> None:
        """Pass on what is new of the block; before it what it skips."""
        if not self._wish.channel.wants(block):
            return
        writer = block.writer
        if writer not in self._seen and not self._everything:
            self._seen[writer] = block.first - 1
        seen = self._seen.get(writer, 0)
        fresh = block.after(seen)
        if fresh is None:
            return
        if fresh.first > seen + 1:
            await self._fill(writer, block.signal, fresh.first)
        await self._pass_on(fresh)

    async def _pass_on(self, block: Block) -> None:
        for piece in _pieces(block):
            items, count = picked(piece, self._picks)
            left = piece.count - count
            self._seen[piece.writer] = piece.last
            if not count:
                self._left[piece.writer] = self._left.get(piece.writer, 0) + left
                continue
            left += self._left.pop(piece.writer, 0)
            await self._say_records(piece, left, items)

    async def _say_records(self, piece: Block, left: int, items: bytes) -> None:
        kind = _kind(self._wish.channel, piece.records[0], piece.updates)
        await self._say(
            records(kind, self._head(piece.writer), piece.first, piece.last, left, items)
        )

    def _head(self, writer: str) -> dict[str, str]:
        target = self._target
        head = {"id": self._wish.id, "writer": writer}
        if target.build:
            head["buildId"] = target.build
        elif target.deployment:
            head["serverId"] = f"{target.namespace}.{target.deployment}"
        else:
            head["projectId"] = target.project_id
        return head

    async def _tell_left(self) -> None:
        for writer in list(self._left):
            await self._tell_left_of(writer)

    async def _tell_left_of(self, writer: str) -> None:
        count = self._left.pop(writer, 0)
        if count:
            last = self._seen[writer]
            await self._say(said("passed", id=self._wish.id, writer=writer, last=last, left=count))

    async def _drop(self, writer: str, first: int, last: int, reason: str) -> None:
        if writer in self._seen or self._everything:
            first = self._seen.get(writer, 0) + 1  # what a block skipped is gone with it
        if first > last:
            return
        await self._tell_left_of(writer)
        self._seen[writer] = last
        self.dropped[reason] = self.dropped.get(reason, 0) + last - first + 1
        await self._say(
            said(
                "dropped",
                id=self._wish.id,
                writer=writer,
                first=first,
                last=last,
                count=last - first + 1,
                reason=reason,
            )
        )

    # --- what the database has ---------------------------------------------------------------

    async def _fill(self, writer: str, signal: LiveSignal, before: int) -> None:
        """Pass on the writer's stored records before `before`; drop, told, what does not come."""
        deadline = self._clock.monotonic() + PATIENCE_S
        reason = "not-stored"
        while self._seen.get(writer, 0) + 1 < before:
            try:
                blocks = await self._stored.between(
                    writer, signal, self._seen.get(writer, 0), before
                )
                reason = "not-stored"
            except SpanyardError:
                blocks, reason = [], "database-away"
            for block in blocks:
                # Before a stored record the missing ones are in quarantine, or were taken out.
                await self._drop(writer, 1, block.first - 1, "not-stored")
                await self._pass_on(block)
            if not blocks:
                if self._clock.monotonic() >= deadline:
                    await self._drop(writer, 1, before - 1, reason)
                    return
                await self._clock.sleep(ASK_EVERY_S)

    async def _rest(self, writer: str, signal: LiveSignal) -> None:
        """Pass on what is stored of the writer beyond what was passed on. Raises SpanyardError."""
        while blocks := await self._stored.between(writer, signal, self._seen.get(writer, 0), None):
            for block in blocks:
                await self._drop(writer, 1, block.first - 1, "not-stored")
                await self._pass_on(block)

    async def _gone(self, gone: Gone) -> None:
        until = self._clock.monotonic() + END_S
        for writer, reached in gone.writers.items():
            if reached.signal in self._wish.channel.signals and writer in self._seen:
                self._ends[writer] = (reached.signal, until)

    async def _look_after_ends(self) -> None:
        for writer, (signal, until) in list(self._ends.items()):
            try:
                await self._rest(writer, signal)
                over = await self._stored.end_of(writer)
            except SpanyardError:
                over = None
            if (over is not None and over <= self._seen.get(writer, 0)) or (
                self._clock.monotonic() >= until
            ):
                del self._ends[writer]

    async def _catch_up(self, resume: Resume, reached: dict[str, Reached]) -> None:
        """Everything stored since the client was here; of writers that the feeds know, up to them."""
        signals = self._wish.channel.signals
        try:
            wanted = dict(
                await self._stored.begun_since(self._target, signals, resume.at - MARGIN_MS)
            )
        except SpanyardError as error:
            await self._partial(error)
            return
        wanted |= {w: r for w, r in reached.items() if r.signal in signals and w in self._seen}
        for writer, there in wanted.items():
            if there.last > self._seen.get(writer, 0):
                await self._rest_or_partial(writer, there.signal)

    async def _rest_or_partial(self, writer: str, signal: LiveSignal) -> None:
        try:
            await self._rest(writer, signal)
        except SpanyardError as error:
            await self._partial(error)

    async def _partial(self, error: SpanyardError) -> None:
        away = isinstance(error, DatabaseError)
        await self._say(
            said(
                "partial",
                id=self._wish.id,
                reason="database-away" if away else "away",
                message=str(error),
            )
        )

    # --- history -----------------------------------------------------------------------------

    async def _history(self, joined: Sequence[Item], reached: dict[str, Reached]) -> None:
        """The newest records of all writers, in the order of time; numbers grow per writer."""
        blocks = [
            block
            for item in joined
            for block in (item.blocks if isinstance(item, Joined) else [item])
            if isinstance(block, Block) and self._wish.channel.wants(block)
        ]
        count = max(0, min(self._wish.history, MOST_HISTORY))
        if count:
            rows = _rows(blocks, self._picks)
            if len(rows) < count:
                rows = await self._stored_before(blocks, count) + rows
            for run in _runs(_merged(rows)[-count:]):
                await self._say_run(run)
        for writer, there in reached.items():
            if there.signal in self._wish.channel.signals:
                self._seen[writer] = there.last
        for block in blocks:
            self._seen[block.writer] = max(self._seen.get(block.writer, 0), block.last)

    async def _stored_before(self, blocks: Sequence[Block], count: int) -> list[Row]:
        below: dict[str, int] = {}
        for block in blocks:
            below.setdefault(block.writer, block.first)
        try:
            return await self._stored.newest(
                self._target, self._wish.channel.signals, self._wish.filter, count, below
            )
        except SpanyardError as error:
            await self._partial(error)
            return []

    async def _say_run(self, run: Sequence[Row]) -> None:
        head = {**self._head(run[0].writer), "history": True}
        kind = _kind(self._wish.channel, run[0].record, frozenset())
        items = b",".join(entry_json(row.record) for row in run)
        first, last = run[0].record.seq, run[-1].record.seq
        self._seen[run[0].writer] = max(self._seen.get(run[0].writer, 0), last)
        await self._say(records(kind, head, first, last, 0, items))


MARGIN_MS = 60_000
"""What was planned just before the client left may have become visible after."""


def _kind(channel: Channel, record: Record, updates: "frozenset[int] | set[int]") -> str:
    if isinstance(record, LogRecord):
        return "build:log" if channel.kind == "build" else "server:log"
    if record.end_time is not None:
        return "span:ended"
    return "span:updated" if record.seq in updates else "span:started"


def _pieces(block: Block) -> Iterator[Block]:
    """The block in messages: of one type each, and not much larger than MESSAGE_BYTES."""
    if block.signal == "logs":
        most = max(1, block.count * MESSAGE_BYTES // max(block.size, 1))
        if most >= block.count:
            yield block
            return
        for first in range(block.first, block.last + 1, most):
            piece = block.after(first - 1)
            piece = piece.before(first + most) if piece is not None else None
            assert piece is not None
            yield piece
        return
    start = 0
    spans = [r for r in block.records if isinstance(r, SpanRecord)]
    for i in range(1, len(spans) + 1):
        if i == len(spans) or _state(spans[i], block) != _state(spans[start], block):
            piece = block.after(block.first + start - 1)
            piece = piece.before(block.first + i) if piece is not None else None
            assert piece is not None
            yield piece
            start = i


def _state(span: SpanRecord, block: Block) -> tuple[bool, bool]:
    return span.end_time is None, span.seq in block.updates


def _rows(blocks: Sequence[Block], picks: Callable[[Record], bool] | None) -> list[Row]:
    return [
        Row(block.writer, record)
        for block in blocks
        for record in block.records
        if picks is None or picks(record)
    ]


def _time(record: Record) -> str:
    return record.timestamp if isinstance(record, LogRecord) else record.start_time


def _merged(rows: Sequence[Row]) -> list[Row]:
    """By time; a writer's records stay in the order of their numbers."""
    writers: dict[str, dict[int, Row]] = {}
    for row in rows:
        writers.setdefault(row.writer, {})[row.record.seq] = row

    def timed(own: dict[int, Row]) -> Iterator[tuple[str, str, int, Row]]:
        latest = ""
        for seq in sorted(own):
            latest = max(latest, _time(own[seq].record))
            yield latest, own[seq].writer, seq, own[seq]

    return [row for *_, row in heapq.merge(*(timed(own) for own in writers.values()))]


def _is_open(record: Record) -> bool:
    return isinstance(record, SpanRecord) and record.end_time is None


def _runs(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Neighbours that go into one message."""
    run: list[Row] = []
    for row in rows:
        if run and (
            row.writer != run[0].writer
            or len(run) >= 500
            or _is_open(row.record) != _is_open(run[0].record)
        ):
            yield run
            run = []
        run.append(row)
    if run:
        yield run
