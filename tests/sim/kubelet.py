"""Containers that log in the CRI format, and the kubelet that rotates their files.

The runtime appends to `{restart}.log`. The kubelet renames it to `{restart}.log.{time}`, later
tells the runtime to open a new one (the old one grows until then), compresses all rotated files
but the youngest (`.tmp`, then `.gz`, then the original is removed: for a moment both are there),
and deletes the oldest beyond its limit. A rename whose reopening fails is undone. Nothing of it is
ever synced.
"""

import asyncio
import contextlib
import gzip
import json
import random
from dataclasses import dataclass, field
from posixpath import dirname

from spanyard_core.clock import rfc3339
from tests.sim.chronicle import Chronicle
from tests.sim.clock import WallClock
from tests.sim.disk import Disk
from tests.sim.inodes import Folder, Inode
from tests.sim.oracle import Oracle, Track, Written


def cri_time(ns: int, zone: str) -> str:
    """As Go writes RFC3339Nano: trailing zeros trimmed, `Z` or the local offset."""
    hours = {"Z": 0, "+02:00": 2, "-07:00": -7}[zone]
    text = rfc3339(ns + hours * 3_600_000_000_000)[:-1].rstrip("0").rstrip(".")
    return text + zone


def message_of(line: str) -> str:
    """What a collector stores of the line as its message."""
    return str(json.loads(line)["msg"]) if line.startswith("{") else line


@dataclass(slots=True)
class Half:
    """A line of one stream whose end has not been written yet."""

    text: str = ""
    size: int = 0
    ns: int = 0
    ends: list[tuple[Inode, int]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Container:
    """One run of one container, as the runtime sees it."""

    disk: Disk
    oracle: Oracle
    track: Track
    wall: WallClock
    folder: str
    restart: int
    zone: str = "Z"
    running: bool = True
    _inode: Inode | None = None
    _halves: dict[str, Half] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.restart}.log"

    def reopen(self) -> None:
        """The kubelet's signal after a rotation; also the start."""
        self.disk.mkdir(self.folder)
        self._release()
        try:
            self._inode = self.disk.inode(self.path)
        except FileNotFoundError:
            self._inode = self.disk.create(self.path)
        self._inode.handles += 1

    def _release(self) -> None:
        if self._inode is not None:
            self.disk.closed(self._inode)
            self._inode = None

    def piece(self, stream: str, text: str, *, full: bool) -> Written | None:
        """Write one CRI line; `full` ends the application's line. None while it is not ended."""
        if self._inode is None:
            self.reopen()
        assert self._inode is not None
        ns = self.wall.time_ns()
        line = f"{cri_time(ns, self.zone)} {stream} {'F' if full else 'P'} {text}\n".encode()
        self.disk.write(self._inode, line, self.path)
        half = self._halves.setdefault(stream, Half())
        half.text += text
        half.size += len(line)
        half.ns = half.ns or ns
        half.ends.append((self._inode, len(self._inode.data)))
        half.lines.append(line.decode())
        if not full:
            return None
        record = self.track.add(message_of(half.text), half.size, half.ns, *half.ends)
        record.raw = (half.text, *half.lines)
        self._halves[stream] = Half()
        return record

    def stop(self) -> None:
        """The container has ended; what it left unended stays so."""
        self.running = False
        for half in self._halves.values():
            # A power cut may leave the beginning of a CRI line, which is no line by itself.
            self.track.fragments += [half.text, *half.lines] if half.lines else []
        self._halves.clear()
        self._release()


class Kubelet:
    """Rotates the log files of one pod."""

    def __init__(
        self,
        disk: Disk,
        wall: WallClock,
        rng: random.Random,
        chronicle: Chronicle,
        *,
        max_size: int,
        max_files: int,
    ) -> None:
        self._disk, self._wall, self._rng = disk, wall, rng
        self._note = chronicle.note
        self.max_size, self.max_files = max_size, max_files
        self._stamp = 0
        self.containers: list[Container] = []

    async def rotate(self, container: Container) -> None:
        """One visit to one container's files."""
        try:
            found = self._disk.inode(container.path)
        except FileNotFoundError:
            return
        if len(found.data) < self.max_size:
            return
        await self._tidy(container)
        target = f"{container.path}.{self._time()}"
        self._note(f"kubelet rotates {container.path} to {target}")
        try:
            self._disk.rename(container.path, target)
        except FileNotFoundError:
            return  # a power cut came between
        await asyncio.sleep(self._rng.choice((0, 0.001, 0.05, 1.0)))
        if self._rng.random() < 0.1:
            self._note(f"kubelet undoes the rotation of {container.path}")
            with contextlib.suppress(FileNotFoundError):  # a power cut came between
                self._disk.rename(target, container.path)
        elif container.running:
            container.reopen()

    async def _tidy(self, container: Container) -> None:
        """Before each rotation: remove leftovers, delete the oldest, compress the others."""
        rotated = [n for n in self._names(container.folder) if self._of(container, n)]
        packed = {n[:-3] for n in rotated if n.endswith(".gz")}
        for name in rotated:
            if name.endswith(".tmp") or name in packed:
                self._disk.unlink(f"{container.folder}/{name}")
        logs = sorted({n.removesuffix(".gz") for n in rotated if not n.endswith(".tmp")})
        excess = max(0, len(logs) - (self.max_files - 2))
        for name in logs[:excess]:
            self._note(f"kubelet deletes {container.folder}/{name}")
            self._disk.unlink(f"{container.folder}/{name}")
            self._disk.unlink(f"{container.folder}/{name}.gz")
        if excess:
            # Nobody syncs this; but a deletion that a power cut undoes brings back a file that
            # the collector has forgotten, and is read again: a known limitation.
            self._disk.sync_folder(self._disk.folder(container.folder))
        for name in logs[excess:]:
            if name not in packed:
                await self._compress(f"{container.folder}/{name}")

    async def _compress(self, path: str) -> None:
        try:
            data = bytes(self._disk.inode(path).data)
        except FileNotFoundError:
            return
        out = self._disk.create(f"{path}.tmp")
        packed = gzip.compress(data, 1, mtime=0)
        self._disk.write(out, packed[: len(packed) // 2], path)
        await asyncio.sleep(self._rng.choice((0, 0.02)))
        if out.links == 0:
            return
        self._disk.write(out, packed[len(packed) // 2 :], path)
        self._disk.rename(f"{path}.tmp", f"{path}.gz")
        await asyncio.sleep(self._rng.choice((0, 0, 0.3)))
        self._disk.unlink(path)
        self._disk.sync_folder(self._disk.folder(dirname(path)))

    def _names(self, folder: str) -> list[str]:
        found: Folder = self._disk.folder(folder)
        return sorted(found.entries)

    @staticmethod
    def _of(container: Container, name: str) -> bool:
        return name.startswith(f"{container.restart}.log.")

    def _time(self) -> str:
        # The kubelet's names have whole seconds; it never rotates twice in one.
        second = max(self._stamp + 1, self._wall.time_ns() // 1_000_000_000)
        self._stamp = second
        text = rfc3339(second * 1_000_000_000)
        return text[:10].replace("-", "") + "-" + text[11:19].replace(":", "")
