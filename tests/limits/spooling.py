"""Watching a collector from outside: its spool on disk, its memory, the pace of its application."""

import random
import time
from base64 import b64encode
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from spanyard_local.crilog import CriLog
from tests.fakes.chain import Collector

GOAL_BYTES = 60_000_000
LIMIT_BYTES = 90_000_000
"""Of the collector's memory: what is asserted, with room for another machine's allocator."""


def on_disk(folder: Path) -> int:
    """Bytes that a folder's files take on disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
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
        print(f"collector: {self.memory / 1e6:.1f} MB memory, {self.spool / 1e6:.1f} MB spool")

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


def check_against_gaps(records: list[dict[str, Any]], written: int) -> list[dict[str, Any]]:
    """Line numbers 0…written-1 are stored once, in order, or missing where a gap was told.

    Gives the gaps that lost something. `records` are a project's, of one container run.
    """
    logs = [record for record in records if record["type"] == "log"]
    numbers = [int(record["message"][:8]) for record in logs]
    assert numbers == sorted(set(numbers)), "twice, or out of order"
    assert [record["seq"] for record in logs] == list(range(1, len(logs) + 1))
    gaps = [r for r in records if r["type"] == "gap" and r["event"] == "gap"]
    lossy = [gap for gap in gaps if gap["cause"] != "spool-full"]
    told = {gap.get("afterSeq", 0) for gap in lossy}
    holes = set()
    following = 0
    for record, number in zip(logs, numbers, strict=True):
        if number != following:
            holes.add(record["seq"] - 1)
        following = number + 1
    if following != written:
        holes.add(len(logs))
    untold = holes - told
    assert not untold, f"lost after {sorted(untold)}, gaps told after {sorted(told)}"
    sure = {gap.get("afterSeq", 0) for gap in lossy if "may have" not in gap["message"]}
    idle = sure - holes
    assert not idle, f"told where nothing is missing: {sorted(holes)}, {lossy}"
    return lossy
