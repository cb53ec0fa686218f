"""Applications: they write log lines and span files, and never wait for anybody."""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field

from spanyard_core.clock import rfc3339
from tests.sim.chronicle import Chronicle
from tests.sim.clock import WallClock
from tests.sim.disk import Disk
from tests.sim.inodes import Inode
from tests.sim.kubelet import Container
from tests.sim.oracle import HALF, Oracle, Written


@dataclass(slots=True)
class Manners:
    """How an application behaves; drawn per history."""

    pause: float = 0.5
    """Mean seconds between two bursts."""
    burst: int = 5
    """Most lines at once."""
    json_share: float = 0.3
    partial: float = 0.2
    """Share of lines that come in several CRI pieces."""
    long: float = 0.02
    """Share of lines of some 20 kB."""
    hang: float = 0.3
    """Most seconds between two pieces of one line."""
    empty: float = 0.0
    torn: float = 0.1
    """Share of bursts of which only a part is written when somebody looks."""


class Logger:
    """One stream of one container's application."""

    def __init__(
        self,
        container: Container,
        stream: str,
        oracle: Oracle,
        rng: random.Random,
        manners: Manners,
        chronicle: Chronicle,
    ) -> None:
        self.container, self._stream, self._oracle = container, stream, oracle
        self._rng, self._manners = rng, manners
        self._note = chronicle.note

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self._manners.pause))
            for _ in range(self._rng.randint(1, self._manners.burst)):
                await self._line()

    async def _line(self) -> None:
        rng, manners = self._rng, self._manners
        stream = self._stream
        text = self._oracle.text(f"{self.container.restart}")
        if rng.random() < manners.long:
            text += "x" * rng.randint(10_000, 30_000)
        elif rng.random() < 0.5:
            text += " " + "".join(rng.choices("abcdefgh ", k=rng.randint(1, 80))).strip()
        if rng.random() < manners.json_share:
            text = json.dumps({"level": rng.choice(("info", "error")), "msg": text, "n": 1})
        if rng.random() >= manners.partial:
            self.container.piece(stream, text, full=True)
            return
        pieces = rng.randint(2, 4)
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(pieces - 1))
        for a, b in zip([0, *cuts[:-1]], cuts, strict=True):
            self.container.piece(stream, text[a:b], full=False)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.uniform(0, manners.hang))
        self.container.piece(stream, text[cuts[-1] :], full=True)


@dataclass(slots=True, eq=False)
class SpanFile:
    """A span file being written, by the contract in docs/span-files.md."""

    disk: Disk
    oracle: Oracle
    wall: WallClock
    folder: str
    pod_uid: str
    signal: str
    stem: str
    owner: object
    inode: Inode | None = None
    lines: int = 0
    half: bytes = b""
    """Rest of a line of which a part is written already."""
    half_record: Written | None = None
    path: str = field(default="")

    def open(self) -> None:
        self.disk.mkdir(self.folder)
        self.path = f"{self.folder}/{self.stem}.jsonl"
        self.inode = self.disk.create(self.path)
        self.inode.handles += 1
        self.disk.lock(self.path, self.owner)

    @property
    def track(self) -> str:
        return f"{self.pod_uid}/{self.signal}/{self.stem}"

    def write(self, rng: random.Random, *, torn: bool = False, bad: bool = False) -> None:
        """Write one event; `torn`: only a part now, the rest with the next one; `bad`: nonsense."""
        assert self.inode is not None
        self.finish_half()
        text = self.oracle.text(self.signal)
        now = rfc3339(self.wall.time_ns())
        event: dict[str, object]
        if self.signal == "spans":
            event = {
                "type": "span",
                "id": f"{rng.getrandbits(64):016x}",
                "traceId": f"{rng.getrandbits(4) + 1:032x}",
                "name": text,
                "startTime": now,
                "endTime": now if rng.random() < 0.8 else None,
                "attributes": {"k": rng.randint(0, 9)},
            }
        elif self.signal == "metrics":
            event = {
                "type": "metric",
                "name": text,
                "kind": "counter",
                "value": rng.randint(0, 99),
                "timestamp": now,
            }
        else:
            event = {"type": "log", "timestamp": now, "level": "info", "message": text}
        line = json.dumps(event).encode() + b"\n"
        if bad:
            line = f"{text} is no event\n".encode()
        cut = rng.randrange(1, len(line)) if torn else len(line)
        self.half = line[cut:]
        self.disk.write(self.inode, line[:cut], self.path)
        whole = len(self.inode.data) + len(self.half)
        record = self.oracle.track(self.track, self.signal).add(  # type: ignore[arg-type]
            text, len(line), self.wall.time_ns(), (self.inode, whole)
        )
        record.raw = (line.decode(),)
        self.half_record = record if torn and not bad else None
        if bad:
            record.owed, record.note = False, HALF
        elif torn:
            # Owed as soon as it is whole; without its newline it still counts, once its writer is
            # gone, when it is whole JSON.
            record.owed = len(self.half) <= 1
            record.note = "" if record.owed else HALF
        self.lines += 1

    def finish_half(self) -> None:
        if self.half and self.inode is not None:
            self.disk.write(self.inode, self.half, self.path)
            self.half = b""
            if self.half_record is not None:
                self.half_record.owed, self.half_record.note = True, ""
                self.half_record = None

    def cut(self, size: int) -> None:
        """Somebody truncates the file, against the contract."""
        assert self.inode is not None
        self.inode.cut(size)
        self.half, self.half_record = b"", None
        for record in self.oracle.track(self.track, self.signal).records:  # type: ignore[arg-type]
            if record.ends[0][1] > size:
                record.owed, record.note = False, "truncated"

    def rotate(self) -> None:
        """Orderly end: renamed, then the lock is given back."""
        self.finish_half()
        # Absent: given up by the collector, or taken by a power cut.
        with contextlib.suppress(FileNotFoundError):
            self.disk.rename(self.path, f"{self.folder}/{self.stem}.closed.jsonl")
        self.die()

    def die(self) -> None:
        """The lock is free."""
        self.disk.unlock(self.owner)
        if self.inode is not None:
            self.disk.closed(self.inode)
            self.inode = None


class SpanWriter:
    """One process with a span file per signal, which dies now and then and comes back."""

    def __init__(
        self,
        disk: Disk,
        oracle: Oracle,
        wall: WallClock,
        rng: random.Random,
        chronicle: Chronicle,
        *,
        folder: str,
        pod_uid: str,
        signals: tuple[str, ...] = ("spans", "logs", "metrics"),
        pause: float = 0.7,
        rotate_at: int = 40,
        bad: float = 0.0,
    ) -> None:
        """`bad` is the share of lines that are no events."""
        self._disk, self._oracle, self._wall, self._rng = disk, oracle, wall, rng
        self._note = chronicle.note
        self._folder, self._pod_uid, self._signals = folder, pod_uid, signals
        self._pause, self._rotate_at, self._bad = pause, rotate_at, bad
        self.open: dict[str, SpanFile] = {}

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self._pause))
            signal = self._rng.choice(self._signals)
            file = self.open.get(signal) or self._open(signal)
            for _ in range(self._rng.randint(1, 4)):
                file.write(
                    self._rng,
                    torn=self._rng.random() < 0.1,
                    bad=self._rng.random() < self._bad,
                )
            if file.lines >= self._rotate_at:
                self._note(f"span file {file.path} is full")
                file.rotate()
                del self.open[signal]
            if self._rng.random() < 0.01:
                self._note("the program that writes span files is killed")
                self.die()

    def _open(self, signal: str) -> SpanFile:
        start = self._wall.time_ns()
        stem = f"{start}-{self._rng.getrandbits(64):016x}"
        file = SpanFile(
            self._disk,
            self._oracle,
            self._wall,
            f"{self._folder}/{signal}",
            self._pod_uid,
            signal,
            stem,
            object(),
        )
        file.open()
        self.open[signal] = file
        return file

    def die(self) -> None:
        """kill -9: locks are free, files stay as they are."""
        for file in self.open.values():
            file.die()
        self.open.clear()

    def end(self) -> None:
        """The orderly end of the program."""
        for file in self.open.values():
            file.rotate()
        self.open.clear()
