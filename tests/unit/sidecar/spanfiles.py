"""Both ends of a span file, for tests: a process that writes one, a collector that reads them."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanyard_core.files import SystemFiles
from spanyard_sidecar.model import Block, Identity
from spanyard_sidecar.spanfile import SpanFileSource
from spanyard_sidecar.spanfiles import SpanFileSources
from tests.fakes.handclock import HandClock

IDENTITY = Identity("team.app", uid="u", deployment="app", pod="app-0", pod_uid="uid")
T = "2026-11-21T14:45:00.5Z"


def log(message: str, **more: Any) -> bytes:
    event = {"type": "log", "timestamp": T, "level": "info", "message": message, **more}
    return json.dumps(event).encode() + b"\n"


class Writer:
    """A process with one span file."""

    def __init__(
        self, root: Path, stem: str = "1795272300000000000-abcdefgh", signal: str = "logs"
    ):
        self.folder = root / signal
        self.folder.mkdir(exist_ok=True)
        self.stem = stem
        self.path = self.folder / f"{stem}.jsonl"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        os.fchmod(self._fd, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def truncate(self, size: int = 0) -> None:
        os.ftruncate(self._fd, size)

    def rename(self) -> None:
        self.path = self.path.rename(self.folder / f"{self.stem}.closed.jsonl")

    def die(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        self.rename()
        self.die()


class Reader:
    """A collector's span files."""

    def __init__(self, root: Path, *, limit: int = 1_000_000, epoch: str = "e") -> None:
        self.clock = HandClock()
        self.epoch = epoch
        self.kind = SpanFileSources(SystemFiles(), self.clock, IDENTITY, str(root), limit=limit)
        self.sources: list[SpanFileSource] = []

    def scan(self, states: dict[str, Any] | None = None) -> list[SpanFileSource]:
        self.clock.advance(1)
        found = self.kind.scan(states or {}, self.epoch)
        sources = [source for source in found if isinstance(source, SpanFileSource)]
        self.sources += sources
        return sources

    def blocks(self, source: SpanFileSource) -> Iterator[Block]:
        while (block := source.read(1 << 20)) is not None:
            yield block
        self.clock.advance(1)

    def read(self, source: SpanFileSource) -> list[dict[str, Any]]:
        return [json.loads(x) for b in self.blocks(source) for x in b.lines.splitlines()]

    def close(self) -> None:
        for source in self.sources:
            source.close()


def one(reader: Reader, line: bytes, signal: str, root: Path) -> dict[str, Any]:
    """What becomes of one line."""
    writer = Writer(root, f"{len(reader.sources) + 1}-abcdefgh", signal)
    writer.write(line + b"\n")
    writer.die()
    (source,) = reader.scan()
    (record,) = reader.read(source)
    return record
