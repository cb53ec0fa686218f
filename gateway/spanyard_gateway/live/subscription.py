"""One subscription: history, then live, without a gap and without a repeat.

Three places have records: the database what is stored, the collector what it read last, and the
connection to it what comes now. All three number a writer's records alike. So there is one rule: a
writer's records are passed on in the order of their numbers, each once; what a block skips is
fetched from the database, and what is not there within `PATIENCE_S` is told as dropped, with its
count and cause. What a filter leaves out is counted. So for each writer: passed on, left out and
dropped together are all there was.

A writer that waits for the database holds up nobody but itself (`errands.py`).
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from spanyard_core.clock import Clock
from spanyard_core.errors import DatabaseError, SpanyardError
from spanyard_gateway.live.channels import Channel, Filter, key_of, picks_of
from spanyard_gateway.live.errands import Errands
from spanyard_gateway.live.history import in_order, rows_of, runs
from spanyard_gateway.live.inlet import Begun, Dropped, Gone, Inlet, Item, Joined, Reached, Told
from spanyard_gateway.live.messages import Resume, records, said, said_again
from spanyard_gateway.live.records import Block, LogRecord, Record, entry_json
from spanyard_gateway.live.stored import Row, Stored, Target

TELL_S = 1.0
"""What a filter leaves out is told this often, where nothing else tells it."""
MOST_HISTORY = 10_000
MOST_RESUMED = 2_000
"""Writers in a resume token: of those that ended long ago nothing more comes."""

MOST_KNOWN = 50_000
"""Writers that are remembered of those that came, 5 MB; beyond, as in `feed.MOST_WRITERS`."""

MANY = 100
"""Records after which others have their turn: to look at and write many takes some 3 ms, and a page that
others have read too is passed on without waiting for anything."""

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
        self._key = key_of(wish.channel, wish.filter), target, wish.id
        """Who has the same gets the same bytes."""
        self._seen: dict[str, int] = dict(wish.resume.seen) if wish.resume else {}
        self._everything = wish.resume is not None
        """Whether writers that were never heard of are passed on from their first record."""
        self._left: dict[str, int] = {}
        """Writer → records that the filter left out and nobody was told of."""
        self._before: set[str] = set()
        """Pods that were there at the beginning, when it was not known how far they were."""
        self._pods: set[str] = set()
        """Of which a collector is, or was, listened to."""
        self.holds: Callable[[int], None] = lambda _: None
        """Told how many writers of the token nobody knows, once that is known, and when they are
        forgotten."""
        self._errands = Errands(self, stored, clock, wish.resume)
        self._behind_ms: int | None = clock.time_ns() // 1_000_000
        """All that came until then was passed on; None: there is nothing that was not."""
        self.dropped: dict[str, int] = {}
        """Cause → records that this client was told of as dropped."""

    @property
    def target(self) -> Target:
        return self._target

    @property
    def channel(self) -> Channel:
        return self._wish.channel

    def seen(self, writer: str) -> int:
        """The last number of the writer that is accounted for."""
        return self._seen.get(writer, 0)

    def unknown(self, writers: Collection[str]) -> None:
        """Neither the database nor a collector knows these writers of the token."""
        self.holds(len(writers))

    def forget(self, writers: Mapping[str, int]) -> None:
        """These, of a token, have not been heard of for long. Only those of pods that are here may
        still come: of the others a record that comes after all is passed on from the first."""
        kept = 0
        for writer, seq in writers.items():
            if writer.partition("/")[0] in self._pods:
                kept += 1
            elif self._seen.get(writer) == seq:
                del self._seen[writer]
        self.holds(kept)

    def resume(self) -> Resume:
        """Where a client that has read everything until now would go on."""
        first = max(0, len(self._seen) - MOST_RESUMED)
        return Resume(self.at(), dict(itertools.islice(self._seen.items(), first, None)))

    def at(self) -> int:
        """The time of `resume()`, which never passes one of which anything is still to be passed on
        or told."""
        now = self._clock.time_ns() // 1_000_000
        return min(now, self._behind_ms or now, self._errands.since_ms or now)

    async def run(self, joined: Sequence[Item], reached: dict[str, Reached]) -> None:
        """Pass on until cancelled. `joined`: what the first feeds had; `reached`: how far they were.

        Raises an ExceptionGroup of what failed.
        """
        self._pods = {item.pod for item in joined if isinstance(item, Joined)}
        self._before = set(self._pods)
        self._before -= {item.pod for item in joined if isinstance(item, Begun)}
        joined = [item for item in joined if not isinstance(item, Begun)]  # `reached` says it too
        async with asyncio.TaskGroup() as group:
            self._errands.group = group
            if self._wish.resume is not None:
                await self._errands.catch_up(self._seen, reached)
            else:
                await self._history(joined, reached)
            self._everything = True
            # Let go of each: what is kept here would stay in memory for as long as anybody listens.
            waiting, joined = deque(joined), ()
            while waiting:
                await self._take(waiting.popleft())
            while self._left:  # errands may leave out more while it is told
                await self._tell_left()
            await self._say(said("live", id=self._wish.id, resume=self.resume()))
            await self._live()

    async def _live(self) -> None:
        told = self._clock.monotonic()
        while True:
            arrived = await self._next()
            if arrived is not None:
                came, all_of_it = self._clock.time_ns() // 1_000_000, self._inlet.empty
                await self._take(arrived)
                arrived = None  # the next may be long in coming
                if all_of_it:
                    self._behind_ms = came
            now = self._clock.monotonic()
            if now - told >= TELL_S:
                told = now
                await self._tell_left()
                # Not for each block: questions would make a fast client look slow.
                self._errands.look_after()

    async def _next(self) -> Item | None:
        if not self._inlet.empty:
            return await self._inlet.get()
        self._behind_ms = None
        try:
            if not (self._errands.any or self._left):
                return await self._inlet.get()
            async with asyncio.timeout(TELL_S):
                return await self._inlet.get()
        except TimeoutError:
            return None
        finally:
            self._behind_ms = self._clock.time_ns() // 1_000_000

    # --- live --------------------------------------------------------------------------------

    async def _take(self, item: Item) -> None:
        if isinstance(item, Block):
            await self._advance(item)
        elif isinstance(item, Joined):
            self._pods.add(item.pod)
            for block in item.blocks:
                await self._advance(block)
        elif isinstance(item, Begun):
            self._begun(item)
        elif isinstance(item, Dropped):
            if item.signal in self.channel.signals and not self._errands.hold(item):
                await self.drop(item.writer, item.first, item.last, "slow-client")
        elif isinstance(item, Told):
            await self._say(said_again(self._wish.id, item.message))
        else:
            self._gone(item)

    async def _advance(self, block: Block) -> None:
        """Pass on what is new of the block; before it what it skips."""
        if not self.channel.wants(block) or self._errands.hold(block):
            return
        writer = block.writer
        if writer not in self._seen and not self._everything:
            self._seen[writer] = block.first - 1
        fresh = block.after(self.seen(writer))
        if fresh is None:
            return
        if fresh.first > self.seen(writer) + 1 and not self._errands.full:
            self._errands.begin(fresh)
            return
        await self.drop(writer, 1, fresh.first - 1, "too-many-holes")
        await self.pass_on(fresh)

    def _begun(self, begun: Begun) -> None:
        was_there = begun.pod in self._before
        self._before.discard(begun.pod)
        for writer, reached in begun.writers.items():
            if reached.signal not in self.channel.signals or reached.last <= self.seen(writer):
                continue
            if writer in self._seen or not was_there:
                self._seen.setdefault(writer, 0)
                self._errands.owe(writer, reached)
            elif self._wish.resume is None:
                # Told by a slow database now, stored before this began: counted, not shown.
                self._seen[writer] = self._left[writer] = reached.last

    def _gone(self, gone: Gone) -> None:
        for writer, reached in gone.writers.items():
            if reached.signal in self.channel.signals and writer in self._seen:
                self._errands.until_end(writer, reached)

    def _reached(self, writer: str, last: int) -> None:
        self._seen.pop(writer, None)  # whoever spoke last stands last: tokens have room for so many
        self._seen[writer] = last
        if len(self._seen) > MOST_KNOWN and (silent := next(iter(self._seen))) not in self._left:
            del self._seen[silent]

    async def pass_on(self, block: Block) -> None:
        """All of the block: the writer's next records."""
        for whole in block.pieces():
            # While one was written, an errand of the writer may have been begun and passed on the next.
            piece = whole.after(self.seen(whole.writer))
            if piece is None:
                continue
            items, count = piece.picked(self._picks, self._key[0])
            left = piece.count - count
            self._reached(piece.writer, piece.last)
            if count:
                left += self._left.pop(piece.writer, 0)
                await self._say(self._said(piece, left, items))
            else:
                self._left[piece.writer] = self._left.get(piece.writer, 0) + left
            if piece.count > MANY:
                await self._clock.sleep(0)

    def _said(self, piece: Block, left: int, items: bytes) -> bytes:
        def encode() -> bytes:
            kind = _kind(self.channel, piece.records[0], piece.updates)
            return records(kind, self._head(piece.writer), piece.first, piece.last, left, items)

        return piece.said((*self._key, left), encode)

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

    async def drop(self, writer: str, first: int, last: int, reason: str) -> None:
        """Tell that they will not come; of what was passed on already nothing is told."""
        while True:
            if writer in self._seen or self._everything:
                first = self.seen(writer) + 1  # what a block skipped is gone with it
            if first > last:
                return
            if writer not in self._left:
                break
            await self._tell_left_of(writer)  # meanwhile some of it may be passed on
        self._reached(writer, last)
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

    async def partial(self, error: SpanyardError) -> None:
        """Tell that a part cannot be had now."""
        reason = "database-away" if isinstance(error, DatabaseError) else "away"
        await self._say(said("partial", id=self._wish.id, reason=reason, message=str(error)))

    # --- history -----------------------------------------------------------------------------

    async def _history(self, joined: Sequence[Item], reached: dict[str, Reached]) -> None:
        """The newest records of all writers, in the order of time; numbers grow per writer."""
        blocks = [
            block
            for item in joined
            for block in (item.blocks if isinstance(item, Joined) else [item])
            if isinstance(block, Block) and self.channel.wants(block)
        ]
        count = max(0, min(self._wish.history, MOST_HISTORY))
        # Pods that have ended are in no feed, and would be new to who resumes within a minute.
        ended = await self._errands.passed_before()
        if count:
            rows = await self._newest_of(blocks, count)
            if len(rows) < count:
                rows = await self._stored_before(blocks, count) + rows
            for run in runs(in_order(rows)[-count:]):
                await self._say_run(run)
        for writer, there in reached.items():
            if there.signal in self.channel.signals:
                self._seen[writer] = there.last
        for block in blocks:
            self._seen[block.writer] = max(self.seen(block.writer), block.last)
        for writer, there in ended.items():
            self._seen.setdefault(writer, there.last)

    async def _newest_of(self, blocks: Sequence[Block], count: int) -> list[Row]:
        """Of each writer's records at most as many as there may be among the newest of all.

        Feeds keep 8 MB per pod, so a project's may be a million: others have their turn meanwhile.
        """
        found: dict[str, list[Row]] = {}
        for block in reversed(blocks):
            rows = found.setdefault(block.writer, [])
            if len(rows) < count:
                rows += reversed(rows_of(block, self._picks))
                await self._clock.sleep(0)
        return [row for rows in found.values() for row in reversed(rows)]

    async def _stored_before(self, blocks: Sequence[Block], count: int) -> list[Row]:
        below: dict[str, int] = {}
        for block in blocks:
            below.setdefault(block.writer, block.first)
        try:
            return await self._stored.newest(
                self._target, self.channel.signals, self._wish.filter, count, below
            )
        except SpanyardError as error:
            await self.partial(error)
            return []

    async def _say_run(self, run: Sequence[Row]) -> None:
        head = {**self._head(run[0].writer), "history": True}
        kind = _kind(self.channel, run[0].record, frozenset())
        items = b",".join(entry_json(row.record) for row in run)
        first, last = run[0].record.seq, run[-1].record.seq
        self._seen[run[0].writer] = max(self.seen(run[0].writer), last)
        await self._say(records(kind, head, first, last, 0, items))


def _kind(channel: Channel, record: Record, updates: "frozenset[int] | set[int]") -> str:
    if isinstance(record, LogRecord):
        return "build:log" if channel.kind == "build" else "server:log"
    if record.end_time is not None:
        return "span:ended"
    return "span:updated" if record.seq in updates else "span:started"
