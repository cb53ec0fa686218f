"""A collector's parts on a simulated machine, for tests under virtual time."""

import functools
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from spanyard_core.chunks import Source as SourceRange
from spanyard_core.chunks import check_chunk, decode_facts, decoded_blocks
from spanyard_core.records import LogLine, Signal
from spanyard_sidecar.budget import DiskBudget
from spanyard_sidecar.entries import EntryHead
from spanyard_sidecar.gaps import Book
from spanyard_sidecar.history import SpoolHistory
from spanyard_sidecar.metrics import CollectorMetrics
from spanyard_sidecar.model import Block, End, Identity, Source, SourceIndex, Sources, State, Stored
from spanyard_sidecar.pipeline import Pipeline, PipelineSettings
from spanyard_sidecar.ring import Ring
from spanyard_sidecar.spool import Spool, SpoolSettings
from spanyard_sidecar.uploader import Uploader
from tests.sim.bucket import Bucket
from tests.sim.clock import START_NS, SimClock, WallClock
from tests.sim.disk import Disk
from tests.sim.loop import run

IDENTITY = Identity(project="ns.app", deployment="app", pod="app-1", pod_uid="pod-uid")
DIRECTORY = "/pod/spool"


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test under virtual time."""

    @functools.wraps(test)
    def sync(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return sync


class FakeSource:
    """Records given by the test; remembers what it was told."""

    def __init__(
        self,
        writer: str,
        *,
        signal: Signal = "logs",
        container: str = "app",
        state: State | None = None,
        project: str = "ns.app",
    ) -> None:
        self.writer = writer
        self.signal = signal
        self.container = container
        self.seq = state["seq"] if state else 0
        self.project = project
        self.blocks: list[Block] = []
        self.last: Block | None = None
        self.given: list[str] = []
        self.told: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.ends = False
        self.closed = False
        self.reads = 0
        self._planned = self.seq

    def add(self, *texts: str, cut: bool = False, file: str = "", gaps: Any = ()) -> "FakeSource":
        """Plan one block of records."""
        self.blocks.append(self.block(*texts, cut=cut, file=file, gaps=gaps))
        return self

    def block(self, *texts: str, cut: bool = False, file: str = "", gaps: Any = ()) -> Block:
        first = self._planned + 1
        lines = b"".join(
            msgspec.json.encode(
                LogLine(
                    project=self.project,
                    writer=self.writer,
                    seq=seq,
                    timestamp="2026-11-21T14:45:00.000000000Z",
                    level="info",
                    message=text,
                )
            )
            + b"\n"
            for seq, text in enumerate(texts, first)
        )
        self._planned += len(texts)
        where = SourceRange(file, first * 10, self._planned * 10 + 10) if file else None
        return Block(
            lines=lines,
            records=len(texts),
            first=first,
            time_ns=START_NS,
            range=where,
            gaps=gaps,
            cut=cut,
        )

    def read(self, budget: int) -> Block | None:
        self.reads += 1
        if self.error is not None:
            raise self.error
        if not self.blocks:
            return None
        block = self.blocks.pop(0)
        self.seq += block.records
        return block

    def state(self) -> State:
        return {"seq": self.seq}

    @property
    def ended(self) -> bool:
        return self.ends and not self.blocks

    def finish(self) -> Block | None:
        block, self.last = self.last, None
        if block is not None:
            self.seq += block.records
        return block

    def end(self) -> End:
        return End(self.seq, self.seq * 10)

    def stored(self, state: State) -> None:
        self.told.append(("stored", state["seq"]))

    def uploaded(self, state: State) -> None:
        self.told.append(("uploaded", state["seq"]))

    def close(self) -> None:
        self.closed = True


class OldSource(FakeSource):
    """A source that an earlier epoch may have read."""

    first_time: int | None = START_NS - 1_000_000_000
    continued: tuple[str, Stored] | None = None

    def first_time_ns(self) -> int | None:
        return self.first_time

    def fingerprints(self) -> Sequence[str]:
        return ["newest", "oldest"]

    def go_on_from(self, fingerprint: str, stored: Stored) -> None:
        self.continued = (fingerprint, stored)

    def begin_anew(self) -> None:
        self.continued = None


class FakeSources:
    """Finds the sources that the test put in."""

    def __init__(self, *sources: Source) -> None:
        self.coming = list(sources)
        self.error: Exception | None = None
        self.gone: list[str] = []
        self.seen: dict[str, State] = {}

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        self.seen = dict(states)
        if self.error is not None:
            raise self.error
        found, self.coming = self.coming, []
        return found

    def forgotten(self, states: Mapping[str, State]) -> list[str]:
        return [writer for writer in self.gone if writer in states]


class Machine:
    """Disk, bucket, clock; and the parts of a collector, made again at each `start`."""

    def __init__(self, *, limit: int = 64 << 20, seed: int = 1) -> None:
        self.wall = WallClock()
        self.disk = Disk(self.wall, rng=random.Random(seed), sync_seconds=0.001)
        self.disk.mkdir("/pod")
        self.disk.settle()
        self.bucket = Bucket(self.wall.time_ns)
        self.rng = random.Random(seed)
        self.clock = SimClock(self.wall)
        self.limit = limit
        self.hints: list[str] = []
        self.spool: Spool
        self.book: Book
        self.ring: Ring
        self.pipeline: Pipeline
        self.uploader: Uploader
        self.metrics: CollectorMetrics

    async def start(
        self,
        *kinds: Sources,
        index: SourceIndex | None = None,
        spool: SpoolSettings | None = None,
        ring_lines: int = 10_000,
        **settings: Any,
    ) -> "Machine":
        """Recover the spool and make everything new, as a restart does."""
        self.metrics = CollectorMetrics()
        self.budget = DiskBudget(self.limit)
        self.spool = await Spool.open(
            self.disk.view(),
            DIRECTORY,
            clock=self.clock,
            rng=self.rng,
            budget=self.budget,
            settings=spool,
        )
        self.book = Book(self.spool, IDENTITY, self.clock)
        self.ring = Ring(lines=ring_lines, disk=SpoolHistory(self.spool))
        self.pipeline = Pipeline(
            kinds,
            self.book,
            self.ring,
            clock=self.clock,
            rng=self.rng,
            metrics=self.metrics,
            index=index,
            settings=PipelineSettings(**settings),
        )
        self.uploader = Uploader(
            self.book,
            self.bucket.view(),
            clock=self.clock,
            rng=self.rng,
            metrics=self.metrics,
            hinter=self,
            uploaded=self.pipeline.uploaded,
        )
        return self

    def tell(self, keys: Sequence[str]) -> None:
        """A Hinter."""
        self.hints.extend(keys)

    async def upload_all(self) -> None:
        while self.spool.pending:
            await self.uploader.upload(next(iter(self.spool.pending)))

    def heads(self) -> list[EntryHead]:
        """Heads of all entries on disk."""
        found = []
        for n in self.spool.on_disk_entries():
            with self.spool.opened(n) as entry:
                found.append(entry.head)
        return found

    def spooled(self, writer: str) -> list[dict[str, Any]]:
        """Lines of a writer in the spool, in order."""
        found = []
        for n in self.spool.on_disk_entries():
            with self.spool.opened(n) as entry:
                for item in entry.head.objects:
                    if item.facts.writer == writer:
                        found += lines_of(entry.read(item))
        return found

    def stored(self, writer: str) -> list[dict[str, Any]]:
        """Lines of a writer in the bucket, by seq; checks every object on the way."""
        found = []
        for key, stored in self.bucket.objects.items():
            facts = check_chunk(stored.data)
            assert facts.name.key() == key
            if facts.writer == writer:
                lines = lines_of(stored.data)
                assert [line["seq"] for line in lines] == list(range(facts.first, facts.last + 1))
                assert {line["writer"] for line in lines} == {writer}
                found += lines
        return sorted(found, key=lambda line: int(line["seq"]))

    def events(self, subject: str, *, where: str = "spool") -> list[str]:
        """Begin, end and gap lines about a writer as short texts."""
        lines = (self.spooled if where == "spool" else self.stored)(subject + "/meta")
        return [f"{line['event']} {line.get('cause', '')}".strip() for line in lines]


def lines_of(data: bytes) -> list[dict[str, Any]]:
    """The JSON lines of an object."""
    _, at = decode_facts(data)
    text = b"".join(decoded_blocks(data[at:]))
    return [msgspec.json.decode(line) for line in text.splitlines()]


def messages(lines: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in lines]
