"""SimFiles: the Files seam of one process on a simulated disk."""

import errno
from typing import TYPE_CHECKING

from spanyard_core.files import Buffer, FileStat
from tests.sim.inodes import Folder, Inode, disk_error
from tests.sim.process import Process

if TYPE_CHECKING:
    from tests.sim.disk import Disk


class _Handle:
    __slots__ = ("_files", "_inode", "_open", "_path")

    def __init__(self, files: "SimFiles", inode: Inode, path: str) -> None:
        self._files, self._inode, self._path = files, inode, path
        self._open = True
        files.handles[self] = None
        inode.handles += 1

    def _check(self) -> Inode:
        self._files.disk()
        if not self._open:
            raise disk_error(errno.EBADF, self._path)
        return self._inode

    def close(self) -> None:
        disk = self._files.disk()
        if self._open:
            self._open = False
            del self._files.handles[self]
            disk.closed(self._inode)


class SimReadFile(_Handle):
    """An open file of a process."""

    __slots__ = ()

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self._check().data[offset : offset + length])

    def stat(self) -> FileStat:
        inode = self._check()
        return FileStat(inode.number, len(inode.data), inode.mtime_ns)

    def links(self) -> int:
        return self._check().links


class SimAppendFile(_Handle):
    """A file that a process appends to."""

    __slots__ = ()

    def write(self, data: Buffer) -> None:
        inode = self._check()
        self._files.disk().write(inode, data, self._path)

    async def sync(self) -> None:
        inode = self._check()
        await self._files.disk().sync(inode, self._path)
        self._check()

    @property
    def size(self) -> int:
        return len(self._inode.data)

    def truncate(self, size: int) -> None:
        self._check().cut(size)


class SimFiles:
    """The Files seam of one process; raises `ProcessKilled` for ever once that is dead."""

    def __init__(self, disk: "Disk", process: Process | None = None) -> None:
        self._disk = disk
        self._process = process
        self.handles: dict[_Handle, None] = {}
        """Those that are open (a dict keeps their order: runs must repeat)."""
        if process is not None:
            process.at_end(self._release)

    def disk(self) -> "Disk":
        """The disk, as long as the process lives."""
        if self._process is not None:
            self._process.check()
        return self._disk

    def _release(self) -> None:
        # The kernel closes what a process leaves open.
        for handle in self.handles:
            self._disk.closed(handle._inode)
        self.handles.clear()

    def open_read(self, path: str) -> SimReadFile:
        disk = self.disk()
        disk._allow("open", path)
        return SimReadFile(self, disk.inode(path), path)

    def open_append(self, path: str) -> SimAppendFile:
        disk = self.disk()
        disk._allow("open", path)
        try:
            inode = disk.inode(path)
        except FileNotFoundError:
            inode = disk.create(path)
        return SimAppendFile(self, inode, path)

    def listdir(self, path: str) -> list[str]:
        disk = self.disk()
        names = list(disk.folder(path.rstrip("/") or "/").entries)
        disk.rng.shuffle(names)  # no order is promised
        return names

    def stat(self, path: str) -> FileStat:
        found = self.disk().find(path)
        if isinstance(found, Folder):
            return FileStat(found.number, 0, found.mtime_ns, is_dir=True)
        return FileStat(found.number, len(found.data), found.mtime_ns)

    def mkdir(self, path: str) -> None:
        self.disk().mkdir(path)

    def rename(self, source: str, target: str) -> None:
        self.disk().rename(source, target)

    def unlink(self, path: str) -> None:
        self.disk().unlink(path)

    async def sync_dir(self, path: str) -> None:
        await self.disk().sync_dir(path)
        self.disk()

    async def preallocate(self, path: str, size: int) -> None:
        disk = self.disk()
        try:
            inode = disk.inode(path)
        except FileNotFoundError:
            inode = disk.create(path)
        missing = size - len(inode.data)
        if missing > 0:
            if disk.room(path) < missing:
                raise disk_error(errno.ENOSPC, path)
            inode.data.extend(bytes(missing))
        await disk.sync(inode, path)
        self.disk()

    def free_bytes(self, path: str) -> int:
        return self.disk().room(path)

    def is_locked(self, path: str) -> bool:
        return self.disk().is_locked(path)
