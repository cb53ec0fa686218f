"""A machine's disk as bad as a real one: what is not synced may be gone after a power cut.

Files are inodes; names live in directories; both have a state that everybody sees (the page
cache) and a state that survives the power. `SimFiles` is the Files seam of one process on it.

What a power cut leaves, as journalling file systems do: of a file's unsynced bytes any prefix,
possibly followed by zeros up to the size that the journal knew; of the unsynced changes of
directories either a prefix in order (ext4, XFS) or any mixture (what POSIX allows). A rename is
one change: never half of it. Syncing a file says nothing about its name, nor does the name of a
new directory hold before its parent is synced.
"""

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable, Sequence
from posixpath import dirname, split

from spanyard_core.files import Buffer
from tests.sim.clock import WallClock
from tests.sim.diskfiles import SimFiles
from tests.sim.inodes import Change, Folder, Inode, apply, disk_error
from tests.sim.process import Process


class Disk:
    """One machine's file system, shared by its processes."""

    def __init__(
        self,
        wall: WallClock | None = None,
        *,
        rng: random.Random | None = None,
        sync_seconds: float = 0.002,
    ) -> None:
        self.wall = wall
        self.rng = rng or random.Random(0)
        self.sync_seconds = sync_seconds
        self.capacity: dict[str, int] = {}
        """Mount point → bytes; elsewhere there is room without end."""
        self.refuse: Callable[[str, str], int | None] = lambda operation, path: None
        """Asked before each of `write`, `sync`, `sync_dir`, `rename`, `open`; gives an errno."""
        self._numbers = iter(range(100, 1 << 60))
        self._free_numbers: list[int] = []
        self._root = Folder(2)
        self._changes: list[Change] = []
        self._locks: dict[Inode, object] = {}
        self._folders: dict[str, Folder] = {"/": self._root}

    # -- names ---------------------------------------------------------------------------------

    def folder(self, path: str) -> Folder:
        known = self._folders.get(path)
        if known is not None:
            return known
        at: Inode | Folder = self._root
        for part in path.strip("/").split("/"):
            if not isinstance(at, Folder):
                raise disk_error(errno.ENOTDIR, path)
            found = at.entries.get(part)
            if found is None:
                raise disk_error(errno.ENOENT, path)
            at = found
        if not isinstance(at, Folder):
            raise disk_error(errno.ENOTDIR, path)
        self._folders[path] = at
        return at

    def find(self, path: str) -> "Inode | Folder":
        parent, name = split(path.rstrip("/"))
        if not name:
            return self._root
        found = self.folder(parent).entries.get(name)
        if found is None:
            raise disk_error(errno.ENOENT, path)
        return found

    def inode(self, path: str) -> Inode:
        found = self.find(path)
        if isinstance(found, Folder):
            raise disk_error(errno.EISDIR, path)
        return found

    def mkdir(self, path: str) -> None:
        at = self._root
        for part in path.strip("/").split("/"):
            found = at.entries.get(part)
            if found is None:
                found = Folder(self._new_number())
                self._change([], [(at, part, found)])
            if not isinstance(found, Folder):
                raise disk_error(errno.EEXIST, path)
            at = found

    def create(self, path: str) -> Inode:
        parent, name = split(path)
        folder = self.folder(parent)
        inode = Inode(self._new_number())
        inode.mtime_ns = self._now()
        self._change([], [(folder, name, inode)])
        return inode

    def link(self, source: str, target: str) -> None:
        inode = self.inode(source)
        parent, name = split(target)
        folder = self.folder(parent)
        if name in folder.entries:
            raise disk_error(errno.EEXIST, target)
        self._change([], [(folder, name, inode)])

    def rename(self, source: str, target: str) -> None:
        self._allow("rename", source)
        inode = self.inode(source)
        from_parent, from_name = split(source)
        to_parent, to_name = split(target)
        from_folder, to_folder = self.folder(from_parent), self.folder(to_parent)
        there = to_folder.entries.get(to_name)
        if isinstance(there, Folder):
            raise disk_error(errno.EISDIR, target)
        if there is inode:
            return  # two names of one file: rename(2) does nothing
        self._change([(from_folder, from_name)], [(to_folder, to_name, inode)])

    def unlink(self, path: str) -> None:
        parent, name = split(path)
        try:
            folder = self.folder(parent)
        except FileNotFoundError:
            return
        found = folder.entries.get(name)
        if isinstance(found, Folder):
            raise disk_error(errno.EISDIR, path)
        if found is not None:
            self._change([(folder, name)], [])

    def _change(
        self,
        removed: list[tuple[Folder, str]],
        added: list[tuple[Folder, str, Inode | Folder]],
    ) -> None:
        # A replaced name is a removal too, so that links are counted in one place.
        change = Change(removed, added)
        gone = [folder.entries.pop(name) for folder, name in removed]
        for folder, name, target in added:
            if name in folder.entries:
                gone.append(folder.entries[name])
            folder.entries[name] = target
            if isinstance(target, Inode):
                target.links += 1
        now = self._now()
        for folder in change.folders:
            folder.mtime_ns = now
        for target in gone:
            if isinstance(target, Inode):
                target.links -= 1
                self._forget(target)
        self._changes.append(change)

    def sync_folder(self, folder: Folder) -> None:
        """All changes of this directory survive from now on.

        So do the earlier ones of another directory that a rename ties to it: a journal cannot
        keep the later of two changes without the earlier.
        """
        tied, chosen = {folder}, []
        for change in reversed(self._changes):
            if tied & change.folders:
                tied |= change.folders
                chosen.append(change)
        for change in reversed(chosen):
            apply(change)
        self._changes = [c for c in self._changes if c not in chosen]

    # -- bytes ---------------------------------------------------------------------------------

    def room(self, path: str) -> int:
        """Bytes that may still be written below the mount of `path`."""
        mount = self._mount(path)
        if mount is None:
            return 1 << 50
        return max(0, self.capacity[mount] - self.used(mount))

    def used(self, path: str) -> int:
        """Bytes of all files below `path`. Deleted ones that somebody holds open do not count."""
        seen: dict[int, int] = {}

        def walk(folder: Folder) -> None:
            for target in folder.entries.values():
                if isinstance(target, Folder):
                    walk(target)
                else:
                    seen[target.number] = len(target.data)

        with contextlib.suppress(FileNotFoundError):
            walk(self.folder(path.rstrip("/") or "/"))
        return sum(seen.values())

    def write(self, inode: Inode, data: Buffer, path: str) -> None:
        """Append; a full disk takes what fits and then fails, as write(2) does."""
        refused = self.refuse("write", path)
        room = self.room(path) if self.capacity else 1 << 50
        if refused is not None:
            room = min(room, self.rng.randint(0, len(data)))
        inode.data += memoryview(data)[:room] if room < len(data) else data
        inode.mtime_ns = self._now()
        if refused is not None or room < len(data):
            raise disk_error(refused or errno.ENOSPC, path)

    async def sync(self, inode: Inode, path: str) -> None:
        """What was written before the call is durable after it; not what comes meanwhile."""
        size = len(inode.data)
        await asyncio.sleep(self.sync_seconds)
        refused = self.refuse("sync", path)
        if refused is not None:
            if inode.synced < len(inode.data):
                inode.doomed.append((inode.synced, len(inode.data)))
            raise disk_error(refused, path)
        inode.make_durable(size)

    async def sync_dir(self, path: str) -> None:
        folder = self.folder(path.rstrip("/") or "/")
        await asyncio.sleep(self.sync_seconds)
        self._allow("sync_dir", path)
        self.sync_folder(folder)

    # -- locks ---------------------------------------------------------------------------------

    def lock(self, path: str, owner: object) -> None:
        """`owner` takes flock on the file, for as long as it lives."""
        self._locks[self.inode(path)] = owner

    def unlock(self, owner: object) -> None:
        self._locks = {i: o for i, o in self._locks.items() if o is not owner}

    def is_locked(self, path: str) -> bool:
        return self.inode(path) in self._locks

    # -- the world -----------------------------------------------------------------------------

    def power_loss(self, rng: random.Random, *, zeros: Callable[[str], bool] | None = None) -> None:
        """Everything in memory is gone. Processes must have been killed before.

        `zeros` says for which paths the unsynced end may come back as zeros.
        """
        if rng.random() < 0.5:
            survivors = self._changes[: rng.randint(0, len(self._changes))]
        else:
            survivors = [c for c in self._changes if rng.random() < 0.5]
        for change in survivors:
            apply(change)
        self._changes.clear()
        self._locks.clear()
        self._folders = {"/": self._root}
        links: dict[Inode, int] = {}
        numbers: set[int] = set()

        def restore(folder: Folder, path: str) -> None:
            folder.entries = dict(folder.durable)
            for name, target in folder.entries.items():
                if isinstance(target, Folder):
                    restore(target, f"{path}{name}/")
                    continue
                if target not in links:
                    target.survive(rng, zeros=zeros is not None and zeros(path + name))
                    if target.number in numbers:  # given to a new file, and the old one is back
                        target.number = next(self._numbers)
                    numbers.add(target.number)
                links[target] = target.links = links.get(target, 0) + 1

        restore(self._root, "/")
        self._free_numbers = [n for n in self._free_numbers if n not in numbers]

    def crash(self) -> None:
        """Every process of the machine was killed, the kernel lives: the page cache stays."""
        self._locks.clear()

    def settle(self) -> None:
        """The kernel wrote everything back, as it does after half a minute."""
        for change in self._changes:
            apply(change)
        self._changes.clear()
        for inode in self.files():
            inode.make_durable(len(inode.data))

    def files(self) -> list[Inode]:
        found: dict[int, Inode] = {}

        def walk(folder: Folder) -> None:
            for target in folder.entries.values():
                if isinstance(target, Folder):
                    walk(target)
                else:
                    found[target.number] = target

        walk(self._root)
        return list(found.values())

    def view(self, process: Process | None = None) -> "SimFiles":
        """The Files seam for one process."""
        return SimFiles(self, process)

    # -- inside --------------------------------------------------------------------------------

    def _mount(self, path: str) -> str | None:
        best = None
        for mount in self.capacity:
            inside = path == mount or path.startswith(mount.rstrip("/") + "/")
            if inside and (best is None or len(mount) > len(best)):
                best = mount
        return best

    def _allow(self, operation: str, path: str) -> None:
        refused = self.refuse(operation, path)
        if refused is not None:
            raise disk_error(refused, path)

    def _now(self) -> int:
        return self.wall.time_ns() if self.wall is not None else 0

    def _new_number(self) -> int:
        # ext4 gives a freed number to the next file at once.
        return self._free_numbers.pop() if self._free_numbers else next(self._numbers)

    def _forget(self, inode: Inode) -> None:
        if inode.links == 0 and inode.handles == 0:
            self._free_numbers.append(inode.number)

    def closed(self, inode: Inode) -> None:
        inode.handles -= 1
        self._forget(inode)


def write_whole(disk: Disk, path: str, parts: Sequence[Buffer]) -> None:
    """The world puts a file there, parents included (test set-up, applications, the kubelet)."""
    disk.mkdir(dirname(path))
    inode = disk.create(path)
    for part in parts:
        disk.write(inode, part, path)
