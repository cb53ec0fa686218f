"""Files: the seam through which the data path touches the disk.

Reading is synchronous (the page cache answers in microseconds); what waits for the disk is a
coroutine, so that the real implementation may use a thread and the simulator virtual time.
Durability is spelled out in primitives (write, sync, rename, sync_dir), because their order is
what the power-loss tests check; `write_durably` is the one place that puts them together.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spanyard_core.faults import fault_point

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class FileStat:
    """What identifies and measures a file. Device numbers change over a reboot: not here."""

    inode: int
    size: int
    mtime_ns: int
    is_dir: bool = False


class ReadFile(Protocol):
    """An open file; keeps its bytes readable after rename and unlink."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; empty at the end."""
        ...

    def stat(self) -> FileStat: ...

    def links(self) -> int:
        """Number of names that the file still has; 0 = deleted, pinned only by us."""
        ...

    def close(self) -> None: ...


class AppendFile(Protocol):
    """A file that grows at its end. `write` may fail halfway (ENOSPC): `size` tells."""

    def write(self, data: Buffer) -> None:
        """Append all of `data` or raise OSError; visible to readers at once, durable after sync."""
        ...

    async def sync(self) -> None:
        """Data and size are durable when it returns."""
        ...

    @property
    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Files(Protocol):
    """One machine's file system. Paths are absolute strings. Raises OSError like `os`."""

    def open_read(self, path: str) -> ReadFile: ...

    def open_append(self, path: str) -> AppendFile:
        """Open for appending, made when absent (its directory entry is durable after sync_dir)."""
        ...

    def listdir(self, path: str) -> list[str]: ...

    def stat(self, path: str) -> FileStat: ...

    def mkdir(self, path: str) -> None:
        """Make the directory and its parents; present is fine."""
        ...

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None:
        """Remove the file; an absent one is fine."""
        ...

    async def sync_dir(self, path: str) -> None:
        """Entries of the directory are durable when it returns."""
        ...

    async def preallocate(self, path: str, size: int) -> None:
        """Make the file `path` occupy `size` bytes of disk (the reserve for a full disk)."""
        ...

    def free_bytes(self, path: str) -> int:
        """Bytes that an unprivileged process may still write below `path`."""
        ...

    def is_locked(self, path: str) -> bool:
        """Whether a living process holds `flock` on the file."""
        ...


class _RealReadFile:
    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def stat(self) -> FileStat:
        s = os.fstat(self._fd)
        return FileStat(s.st_ino, s.st_size, s.st_mtime_ns)

    def links(self) -> int:
        return os.fstat(self._fd).st_nlink

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _RealAppendFile:
    __slots__ = ("_fd", "_size")

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            n = os.write(self._fd, view)
            self._size += n
            view = view[n:]

    async def sync(self) -> None:
        # 1–10 ms on a disk: off the loop, so that answers of other requests go on.
        await asyncio.to_thread(_fdatasync, self._fd)

    @property
    def size(self) -> int:
        return self._size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._size = size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _fdatasync(fd: int) -> None:
    # macOS has no fdatasync; its fsync does not flush the drive's cache, F_FULLFSYNC does.
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    elif hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


class SystemFiles:
    """The machine's file system."""

    def open_read(self, path: str) -> ReadFile:
        return _RealReadFile(path)

    def open_append(self, path: str) -> AppendFile:
        return _RealAppendFile(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def stat(self, path: str) -> FileStat:
        s = os.stat(path)
        return FileStat(s.st_ino, s.st_size, s.st_mtime_ns, stat.S_ISDIR(s.st_mode))

    def mkdir(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def sync_dir(self, path: str) -> None:
        await asyncio.to_thread(_sync_dir, path)

    async def preallocate(self, path: str, size: int) -> None:
        await asyncio.to_thread(_preallocate, path, size)

    def free_bytes(self, path: str) -> int:
        s = os.statvfs(path)
        return s.f_bavail * s.f_frsize

    def is_locked(self, path: str) -> bool:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return True
            raise
        else:
            return False
        finally:
            os.close(fd)  # gives the lock back


def _sync_dir(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _preallocate(path: str, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.pwrite(fd, b"\0" * size, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


async def write_durably(
    files: Files, path: str, parts: Sequence[Buffer], *, faults: str = ""
) -> None:
    """Write a file whole: temporary name, sync, rename, sync of the directory.

    After it returns, the file is there with all its bytes, also after a power cut; before, it is
    there whole or not at all. A temporary file that a crash leaves is `path + ".tmp"`. `faults`
    is the prefix of the fault points passed in between.
    """
    temporary = path + ".tmp"
    files.unlink(temporary)
    out = files.open_append(temporary)
    try:
        for part in parts:
            out.write(part)
        await out.sync()
    except BaseException:
        out.close()
        with contextlib.suppress(OSError):
            files.unlink(temporary)  # a full disk must not stay full because of us
        raise
    out.close()
    if faults:
        fault_point(f"{faults}.written")
    files.rename(temporary, path)
    if faults:
        fault_point(f"{faults}.renamed")
    await files.sync_dir(os.path.dirname(path))
