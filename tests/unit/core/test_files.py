"""`write_durably`: its order, and what a crash, a power cut or a full disk leaves of it.

What each file system primitive does is in `tests/contract/test_files.py`.
"""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from spanyard_core.faults import set_hook
from spanyard_core.files import AppendFile, Buffer, Files, SystemFiles, write_durably
from tests.sim.disk import Disk
from tests.sim.diskfiles import SimFiles

TARGET = "/var/data/0001.entry"
PARTS = [b"head", b"x" * 10_000, b"tail"]
WHOLE = b"".join(PARTS)


class Crashed(BaseException):
    """The process is dead from here on."""


class Watched(SimFiles):
    """Records what is asked of the disk; dies before the n-th thing when told to."""

    def __init__(self, disk: Disk, *, dies_at: int = 1 << 30) -> None:
        super().__init__(disk)
        self.asked: list[str] = []
        self.dies_at = dies_at

    def note(self, what: str) -> None:
        if len(self.asked) >= self.dies_at:
            raise Crashed
        self.asked.append(what)

    def open_append(self, path: str) -> AppendFile:  # type: ignore[override]
        self.note(f"open {path}")
        return WatchedAppend(self, super().open_append(path))

    def rename(self, source: str, target: str) -> None:
        self.note(f"rename {source} {target}")
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.note(f"unlink {path}")
        super().unlink(path)

    async def sync_dir(self, path: str) -> None:
        self.note(f"sync_dir {path}")
        await super().sync_dir(path)


class WatchedAppend:
    def __init__(self, files: Watched, inner: AppendFile) -> None:
        self._files, self._inner = files, inner

    def write(self, data: Buffer) -> None:
        self._files.note("write")
        self._inner.write(data)

    async def sync(self) -> None:
        self._files.note("sync")
        await self._inner.sync()

    @property
    def size(self) -> int:
        return self._inner.size

    def truncate(self, size: int) -> None:
        self._inner.truncate(size)

    def close(self) -> None:
        self._files.note("close")
        self._inner.close()


class NoDirectorySync(SimFiles):
    async def sync_dir(self, path: str) -> None:
        return


class NoSync(Watched):
    def open_append(self, path: str) -> AppendFile:  # type: ignore[override]
        return UnsyncedAppend(self, super().open_append(path))


class UnsyncedAppend(WatchedAppend):
    async def sync(self) -> None:
        return


def new_disk(seed: int = 0) -> Disk:
    disk = Disk(rng=random.Random(seed), sync_seconds=0)
    disk.mkdir("/var/data")
    disk.settle()
    return disk


def found(disk: Disk) -> bytes | None:
    files = disk.view()
    if "0001.entry" not in files.listdir("/var/data"):
        return None
    file = files.open_read(TARGET)
    try:
        return file.pread(1 << 20, 0)
    finally:
        file.close()


async def losses(files_of: Callable[[Disk], Files]) -> int:
    """How many of 60 power cuts right after the return lose something."""
    lost = 0
    for seed in range(60):
        disk = new_disk(seed)
        await write_durably(files_of(disk), TARGET, PARTS)
        disk.power_loss(random.Random(seed))
        lost += found(disk) != WHOLE
    return lost


async def test_the_order_is_write_sync_rename_sync_of_the_directory() -> None:
    files = Watched(new_disk())
    await write_durably(files, TARGET, [b"a", b"b"])
    temporary = TARGET + ".tmp"
    assert files.asked == [
        f"unlink {temporary}",
        f"open {temporary}",
        "write",
        "write",
        "sync",
        "close",
        f"rename {temporary} {TARGET}",
        "sync_dir /var/data",
    ]


async def test_what_was_written_survives_a_power_cut() -> None:
    assert await losses(SimFiles) == 0


@pytest.mark.parametrize("files_of", [NoDirectorySync, NoSync])
async def test_the_power_cut_finds_a_left_out_sync(files_of: Callable[[Disk], Files]) -> None:
    assert await losses(files_of) > 5


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("dies_at", range(9))
async def test_a_crash_anywhere_leaves_the_whole_file_or_what_was_there(
    before: bytes | None, dies_at: int
) -> None:
    for seed in range(20):
        disk = new_disk(seed)
        if before is not None:
            await write_durably(disk.view(), TARGET, [before])
        finished = True
        try:
            await write_durably(Watched(disk, dies_at=dies_at), TARGET, [WHOLE])
        except Crashed:
            finished = False
        disk.power_loss(random.Random(seed))
        assert found(disk) in ({WHOLE} if finished else {before, WHOLE})


async def test_a_temporary_file_of_an_earlier_crash_is_not_taken_over() -> None:
    disk = new_disk()
    left = disk.view().open_append(TARGET + ".tmp")
    left.write(b"garbage of yesterday")
    left.close()
    await write_durably(disk.view(), TARGET, PARTS)
    assert found(disk) == WHOLE


@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_full_disk_is_an_error_that_leaves_no_temporary_file(operation: str) -> None:
    disk = new_disk()
    disk.refuse = lambda what, path: errno.ENOSPC if what == operation else None
    with pytest.raises(OSError, match="No space left"):
        await write_durably(disk.view(), TARGET, PARTS)
    assert disk.view().listdir("/var/data") == []


async def test_a_failed_directory_sync_is_not_a_success() -> None:
    disk = new_disk()
    disk.refuse = lambda what, path: errno.EIO if what == "sync_dir" else None
    with pytest.raises(OSError, match="Input/output"):
        await write_durably(disk.view(), TARGET, PARTS)


async def test_fault_points_lie_between_the_steps() -> None:
    files = Watched(new_disk())
    set_hook(files.note)
    try:
        await write_durably(files, TARGET, [b"a"], faults="spool")
    finally:
        set_hook(None)
    assert files.asked[-4:] == [
        "spool.written",
        f"rename {TARGET}.tmp {TARGET}",
        "spool.renamed",
        "sync_dir /var/data",
    ]


async def test_the_real_file_system_does_it_too(tmp_path: Path) -> None:
    target = tmp_path / "x"
    await write_durably(SystemFiles(), str(target), [b"a", memoryview(b"b"), bytearray(b"c")])
    assert target.read_bytes() == b"abc"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
