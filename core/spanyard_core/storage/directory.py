"""Storage in a directory: `file:///abs/path`. Standard library only.

A write goes to a temporary file in `{root}/.spanyard-tmp`, is synced, and gets its name by
link(2), which fails when the name is taken, or by rename(2), which replaces; then the directories
up to the root are synced. Directories that become empty are removed, so that a listing costs what
is there; a writer whose directory is pruned under it makes it again.
"""

import asyncio
import errno
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.storage import durable
from spanyard_core.storage.keys import TEMP_PART, check_key, check_prefix
from spanyard_core.storage.protocol import ObjectInfo
from spanyard_core.storage.walk import walk

_PAGE = 500
"""Objects listed per visit to a thread: about 2 ms."""
_STALE_SECONDS = 3600.0
"""A temporary file this old was left by a crash; a write takes seconds."""
_RACES = 100
"""How often a directory may be pruned under one writer before it gives up."""
_BLOCK = 1 << 20


class DirectoryStorage:
    """See `Storage`. Blocking calls run in the event loop's thread pool."""

    def __init__(self, root: Path) -> None:
        """`root` is absolute; it is created by the first write."""
        self._url = root.as_uri()
        self._root = os.path.realpath(os.fsencode(root))
        self._temp = os.path.join(self._root, TEMP_PART.encode())
        self._directories = durable.SyncedDirectories(self._root)
        self._swept = False
        self._closed = False

    @property
    def url(self) -> str:
        return self._url

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        await asyncio.to_thread(self._write, self._path(key), key, (data,), if_absent)

    async def write_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        target = self._path(key)
        with path.open("rb") as file:
            await asyncio.to_thread(self._write, target, key, _blocks(file), if_absent)

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return await asyncio.to_thread(self._read, self._path(key), key, start, length)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self._check_open()
        check_prefix(prefix)
        objects = walk(self._root, prefix, after)

        def page() -> tuple[ObjectInfo, ...]:
            with durable.translated("list", f"{self._url}/{prefix}"):
                self._check_inside(os.path.join(self._root, prefix.encode()), prefix)
                return tuple(islice(objects, _PAGE))

        while found := await asyncio.to_thread(page):
            for info in found:
                yield info

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, self._path(key), key)

    async def move(self, source: str, target: str) -> None:
        old, new = self._path(source), self._path(target)
        await asyncio.to_thread(self._move, old, source, new, target)

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._is_object, self._path(key), key)

    async def digest(self, key: str) -> str:
        return await asyncio.to_thread(self._digest, self._path(key), key)

    def local_path(self, key: str) -> Path | None:
        return Path(os.fsdecode(self._path(key)))

    async def close(self) -> None:
        self._closed = True
        self._directories.close()

    # Below: blocking, in a thread.

    def _write(self, path: bytes, key: str, blocks: Iterable[bytes], if_absent: bool) -> None:
        with durable.translated("write", self._name(key)):
            self._prepare()
            temporary = durable.write_temporary(self._temp, blocks)
            try:
                self._give_name(temporary, path, key, if_absent)
            finally:
                _unlink_if_there(temporary)
            self._directories.sync(os.path.dirname(path))

    def _give_name(self, temporary: bytes, path: bytes, key: str, if_absent: bool) -> None:
        parent = os.path.dirname(path)
        for _ in range(_RACES):
            try:
                self._check_inside(path, key)
                durable.make_parents(parent, self._root)
                if if_absent:
                    os.link(temporary, path)
                else:
                    os.rename(temporary, path)
            except FileNotFoundError:
                continue  # the directory was pruned just now
            except (FileExistsError, IsADirectoryError):
                if stat.S_ISDIR(_mode(path)):
                    durable.remove_empty(path)  # not empty: ENOTEMPTY says it
                    continue
                if not if_absent:
                    raise
                # The winner may have died before its fsync; whoever is told "it exists" may
                # delete his own copy, so it must be durable first.
                self._directories.sync(parent)
                raise ObjectExistsError(f"{self._name(key)} exists already") from None
            else:
                return
        raise StorageError(f"cannot write {self._name(key)}: its directory keeps disappearing")

    def _read(self, path: bytes, key: str, start: int, length: int | None) -> bytes:
        with durable.translated("read", self._name(key)):
            descriptor = self._open(path, key)
            try:
                blocks = []
                wanted = os.fstat(descriptor).st_size - start
                wanted = wanted if length is None else min(wanted, length)
                while wanted > 0 and (block := os.pread(descriptor, wanted, start)):
                    blocks.append(block)
                    start += len(block)
                    wanted -= len(block)
                return blocks[0] if len(blocks) == 1 else b"".join(blocks)
            finally:
                os.close(descriptor)

    def _digest(self, path: bytes, key: str) -> str:
        with durable.translated("read", self._name(key)):
            descriptor = self._open(path, key)
            try:
                digest = hashlib.sha256()
                while block := os.read(descriptor, _BLOCK):
                    digest.update(block)
                return digest.hexdigest()
            finally:
                os.close(descriptor)

    def _open(self, path: bytes, key: str) -> int:
        self._check_inside(path, key)
        try:
            # Non-blocking: opening a FIFO that lies there would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"{self._name(key)} does not exist") from None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise ObjectNotFoundError(f"{self._name(key)} is not a file")

    def _delete(self, path: bytes, key: str) -> None:
        with durable.translated("delete", self._name(key)):
            if not self._is_object(path, key):
                return
            parent = os.path.dirname(path)
            _unlink_if_there(path)
            if os.path.isdir(self._root):
                self._directories.sync(parent)
            durable.prune(parent, self._root)

    def _move(self, old: bytes, source: str, new: bytes, target: str) -> None:
        with durable.translated("move", f"{self._name(source)} to {target}"):
            if not self._is_object(old, source):
                self._finish_move(new, source, target)
                return
            for _ in range(_RACES):
                try:
                    self._check_inside(new, target)
                    durable.make_parents(os.path.dirname(new), self._root)
                    os.rename(old, new)
                    break
                except FileNotFoundError:
                    if not self._is_object(old, source):  # somebody else moved it
                        self._finish_move(new, source, target)
                        return
                except IsADirectoryError:
                    durable.remove_empty(new)
            else:
                raise StorageError(f"cannot move to {self._name(target)}: it keeps changing")
            self._directories.sync(os.path.dirname(new))
            self._directories.sync(os.path.dirname(old))
            durable.prune(os.path.dirname(old), self._root)

    def _finish_move(self, new: bytes, source: str, target: str) -> None:
        """An earlier call may have died between its rename and its fsync."""
        if not self._is_object(new, target):
            raise ObjectNotFoundError(f"neither {self._name(source)} nor {target} exists")
        self._directories.sync(os.path.dirname(new))

    def _is_object(self, path: bytes, key: str) -> bool:
        with durable.translated("look at", self._name(key)):
            self._check_inside(path, key)
            return stat.S_ISREG(_mode(path))

    def _prepare(self) -> None:
        durable.make_root(self._root)
        if not os.path.isdir(self._temp):
            durable.make_parents(self._temp, self._root)
        if not self._swept:
            self._swept = True
            self._sweep()

    def _sweep(self) -> None:
        oldest = time.time() - _STALE_SECONDS
        with os.scandir(self._temp) as entries:
            for entry in entries:
                try:
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)
                except FileNotFoundError:
                    continue

    def _check_inside(self, path: bytes, key: str) -> None:
        parent = os.path.dirname(path)
        if os.path.realpath(parent) != parent.rstrip(b"/"):
            raise StorageRefusedError(
                f"{self._name(key)} leads through a symbolic link; keys stay inside the root"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise StorageRefusedError(f"{self._url} is closed")

    def _path(self, key: str) -> bytes:
        self._check_open()
        return os.path.join(self._root, check_key(key).encode())

    def _name(self, key: str) -> str:
        return f"{self._url}/{key}"


def _mode(path: bytes) -> int:
    """The file's mode, or 0 when there is none."""
    try:
        return os.lstat(path).st_mode
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return 0
        raise


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _unlink_if_there(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
