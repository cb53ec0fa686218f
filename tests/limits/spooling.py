"""Watching a collector from outside: its spool on disk, its memory, the pace of its application."""

import random
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from stat import S_ISREG
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from tests.fakes.chain import Collector
from tests.fakes.crilog import CriLog

GOAL_BYTES = 60_000_000
LIMIT_BYTES = 90_000_000
"""Of the collector's memory: what is asserted, with room for another machine's allocator."""


def on_disk(folder: Path) -> int:
    """Bytes that a folder's files take on disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
            if S_ISREG(status.st_mode):  # a folder's own block is no file of the spool
                total += status.st_blocks * 512
        except FileNotFoundError:
            continue  # gone since it was listed
    return total


class Watch:
    """Samples the spool and the memory of a collector until its block ends."""

    def __init__(self, collector: Collector, spool: Path) -> None:
        self._collector = collector
        self._spool = spool
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watch over the collector")
        self.spool = 0
        """Most bytes that the spool took."""
        self.memory = 0
        """Most bytes resident."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self.memory = max(self.memory, self._collector.memory())
            except (FileNotFoundError, ProcessLookupError, AssertionError):
                continue  # it has ended
            self.spool = max(self.spool, on_disk(self._spool))


class Chatter:
    """An application that prints lines at a steady rate, whatever becomes of them.

    Each begins with its number in 8 digits; what follows does not compress well.
    """

    def __init__(self, log: CriLog, *, rate: int, width: int = 100) -> None:
        self._log = log
        self._rate = rate
        self._width = width
        self._stop = Event()
        self._rng = random.Random(1)
        self._thread = Thread(target=self._run, name="application")
        self.written = 0
        self.slowest = 0.0
        """Seconds of the slowest write."""
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._stop.is_set():
            due = int((time.monotonic() - begin) * self._rate) - self.written
            if due <= 0:
                self._stop.wait(0.005)
                continue
            due = min(due, 5_000)
            noise = b64encode(self._rng.randbytes(due * self._width)).decode()
            lines = "".join(
                f"{self.written + i:08d} {noise[i * self._width : (i + 1) * self._width]}\n"
                for i in range(due)
            )
            before = time.monotonic()
            self._log.write("stdout", lines.encode())
            self.slowest = max(self.slowest, time.monotonic() - before)
            self.written += due
        self.seconds = time.monotonic() - begin


@dataclass(frozen=True)
class Lines:
    """Numbered lines as stored, in the order of their writer, with the gaps that were told."""

    numbers: Sequence[int]
    gaps: Sequence[Mapping[str, Any]]
    """Those that lost something."""
    written: int

    @property
    def holes(self) -> set[int]:
        """Seqs after which numbers are missing."""
        found = set()
        following = 0
        for seq, number in enumerate(self.numbers, 1):
            if number != following:
                found.add(seq - 1)
            following = number + 1
        return found | ({len(self.numbers)} if following != self.written else set())

    def problems(self) -> list[str]:
        """Lines that are twice, out of order, or lost untold; gaps told where nothing is lost.

        A gap that only says that something may have been lost is none of these.
        """
        problems = []
        if any(a >= b for a, b in pairwise(self.numbers)):
            problems.append("twice, or out of order")
        told = {gap.get("afterSeq", 0) for gap in self.gaps}
        sure = {gap.get("afterSeq", 0) for gap in self.gaps if "may have" not in gap["message"]}
        if untold := self.holes - told:
            problems.append(f"lost after {sorted(untold)}, gaps told after {sorted(told)}")
        if idle := sure - self.holes:
            said = [gap for gap in self.gaps if gap.get("afterSeq", 0) in idle]
            problems.append(f"gaps told after {sorted(idle)}, where nothing is missing: {said}")
        return problems


def check_against_gaps(records: list[dict[str, Any]], written: int) -> Sequence[Mapping[str, Any]]:
    """Lines 0…written-1 are stored once, in order, or missing where a gap was told.

    Gives the gaps that lost something. `records` are a project's, of one container run.
    """
    logs = [record for record in records if record["type"] == "log"]
    assert [record["seq"] for record in logs] == list(range(1, len(logs) + 1))
    gaps = [
        record
        for record in records
        if record["type"] == "gap" and record["event"] == "gap" and record["cause"] != "spool-full"
    ]
    lines = Lines([int(record["message"][:8]) for record in logs], gaps, written)
    problems = lines.problems()
    assert problems == []
    return gaps
