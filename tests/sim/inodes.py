"""What lies on the simulated disk: files and directories, each as seen and as it survives."""

import os
import random
from dataclasses import dataclass, field

BLOCK = 4096


class Inode:
    """A file's bytes as readers see them, and how much of them survives."""

    __slots__ = ("data", "doomed", "handles", "links", "mtime_ns", "number", "shadow", "synced")

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()
        self.synced = 0
        """data[:synced] survives, unless `shadow` says otherwise."""
        self.shadow: bytes | None = None
        """What survives, where a truncation was not synced yet."""
        self.doomed: list[tuple[int, int]] = []
        """Bytes that were dirty when a sync failed: the kernel has marked them clean, later syncs
        succeed, and they are not on the disk (what Linux does after EIO)."""
        self.links = 0
        self.handles = 0
        self.mtime_ns = 0

    def cut(self, size: int) -> None:
        """Truncate (or extend with zeros) what readers see."""
        if size < self.synced and self.shadow is None:
            self.shadow = bytes(self.data[: self.synced])
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))
        self.synced = min(self.synced, size)
        self.doomed = [(a, min(b, size)) for a, b in self.doomed if a < size]

    def make_durable(self, size: int) -> None:
        """The first `size` bytes were written back."""
        self.synced = max(self.synced, min(size, len(self.data)))
        self.shadow = None

    def survive(self, rng: random.Random, *, zeros: bool) -> None:
        """The power is back."""
        kept = self.shadow is not None and rng.random() < 0.5
        data = bytearray(self.shadow or b"") if kept else self.data
        certain = len(data) if kept else self.synced
        size = rng.choice((certain, len(data), rng.randint(certain, len(data))))
        whole = len(data)
        del data[size:]
        if zeros and size < whole and rng.random() < 0.3:
            # The journal knew the size, the blocks never came.
            data.extend(bytes(rng.randint(1, whole - size)))
        for first, end in () if kept else self.doomed:
            data[first:end] = bytes(max(0, min(end, len(data)) - first))
        self.data, self.synced, self.shadow, self.doomed = data, len(data), None, []
        self.handles = 0


@dataclass(slots=True, eq=False)
class Change:
    """Names removed and names set, all or nothing; of one directory, or a rename across two."""

    removed: list[tuple["Folder", str]]
    added: list[tuple["Folder", str, "Inode | Folder"]]

    @property
    def folders(self) -> set["Folder"]:
        return {f for f, _ in self.removed} | {f for f, _, _ in self.added}


@dataclass(slots=True, eq=False)
class Folder:
    """A directory: its entries as seen, as they survive, and the changes in between."""

    number: int
    mtime_ns: int = 0
    entries: dict[str, "Inode | Folder"] = field(default_factory=dict)
    durable: dict[str, "Inode | Folder"] = field(default_factory=dict)


def disk_error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def apply(change: Change) -> None:
    for folder, name in change.removed:
        folder.durable.pop(name, None)
    for folder, name, target in change.added:
        folder.durable[name] = target
