"""What every file system behind the Files seam does, on the machine's and on the simulator's."""

import asyncio
import errno
import fcntl
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanyard_core.files import Files, SystemFiles, write_durably
from tests.sim.disk import Disk
from tests.sim.inodes import Inode

Lock = Callable[[str], Callable[[], None]]


class Machine:
    """A file system under test, with what only the world can do on it."""

    def __init__(self, files: Files, root: str, lock: Lock) -> None:
        self.files, self.root, self.lock = files, root, lock

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def put(self, name: str, data: bytes) -> str:
        file = self.files.open_append(self.path(name))
        file.write(data)
        file.close()
        return self.path(name)

    def bytes_of(self, name: str) -> bytes:
        file = self.files.open_read(self.path(name))
        try:
            return file.pread(1 << 20, 0)
        finally:
            file.close()


@pytest.fixture(params=["system", "simulated"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    if request.param == "system":

        def lock(path: str) -> Callable[[], None]:
            descriptor = os.open(path, os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return lambda: os.close(descriptor)

        yield Machine(SystemFiles(), str(tmp_path), lock)
        return
    disk = Disk(rng=random.Random(1), sync_seconds=0)
    disk.mkdir("/var/data")

    def sim_lock(path: str) -> Callable[[], None]:
        owner = object()
        disk.lock(path, owner)
        return lambda: disk.unlock(owner)

    yield Machine(disk.view(), "/var/data", sim_lock)


def test_what_was_appended_is_read_back_from_any_offset(machine: Machine) -> None:
    path = machine.put("a", b"hello ")
    machine.put("a", b"world")
    file = machine.files.open_read(path)
    assert file.pread(100, 0) == b"hello world"
    assert file.pread(5, 6) == b"world"
    assert file.pread(5, 9) == b"ld"
    assert file.pread(5, 11) == b""
    assert file.pread(5, 999) == b""
    assert file.stat().size == 11
    file.close()


def test_an_append_handle_counts_the_whole_file(machine: Machine) -> None:
    machine.put("a", b"12345")
    file = machine.files.open_append(machine.path("a"))
    assert file.size == 5
    file.write(memoryview(b"678"))
    file.write(bytearray(b"9"))
    file.write(b"")
    assert file.size == 9
    file.truncate(4)
    assert file.size == 4
    file.write(b"x")
    file.close()
    assert machine.bytes_of("a") == b"1234x"


def test_an_open_file_stays_readable_after_rename_and_unlink(machine: Machine) -> None:
    path = machine.put("a", b"old")
    file = machine.files.open_read(path)
    inode = machine.files.stat(path).inode
    machine.files.rename(path, machine.path("b"))
    assert machine.files.stat(machine.path("b")).inode == inode
    assert file.links() == 1
    machine.files.unlink(machine.path("b"))
    assert file.links() == 0
    assert file.pread(10, 0) == b"old"
    assert file.stat().inode == inode
    file.close()
    with pytest.raises(FileNotFoundError):
        machine.files.stat(machine.path("b"))


def test_an_inode_number_is_not_given_away_while_somebody_holds_the_file(machine: Machine) -> None:
    path = machine.put("a", b"old")
    file = machine.files.open_read(path)
    machine.files.unlink(path)
    machine.put("a", b"new")
    assert machine.files.stat(path).inode != file.stat().inode
    file.close()


def test_rename_replaces_what_is_there(machine: Machine) -> None:
    a, b = machine.put("a", b"1"), machine.put("b", b"2")
    held = machine.files.open_read(b)
    machine.files.rename(a, b)
    assert machine.bytes_of("b") == b"1"
    assert held.pread(10, 0) == b"2"
    assert held.links() == 0
    held.close()
    assert sorted(machine.files.listdir(machine.root)) == ["b"]


def test_rename_of_an_absent_file_says_so(machine: Machine) -> None:
    with pytest.raises(FileNotFoundError):
        machine.files.rename(machine.path("none"), machine.path("b"))


def test_rename_into_an_absent_directory_says_so_and_changes_nothing(machine: Machine) -> None:
    a = machine.put("a", b"1")
    with pytest.raises(FileNotFoundError):
        machine.files.rename(a, machine.path("none/b"))
    assert machine.bytes_of("a") == b"1"


def test_unlink_of_an_absent_file_is_fine(machine: Machine) -> None:
    machine.files.unlink(machine.path("none"))


def test_open_and_stat_of_an_absent_file_say_so(machine: Machine) -> None:
    with pytest.raises(FileNotFoundError):
        machine.files.open_read(machine.path("none"))
    with pytest.raises(FileNotFoundError):
        machine.files.stat(machine.path("none"))
    with pytest.raises(FileNotFoundError):
        machine.files.open_append(machine.path("none/a"))
    with pytest.raises(FileNotFoundError):
        machine.files.listdir(machine.path("none"))


def test_a_file_is_no_directory(machine: Machine) -> None:
    a = machine.put("a", b"1")
    with pytest.raises(NotADirectoryError):
        machine.files.listdir(a)
    with pytest.raises(NotADirectoryError):
        machine.files.open_read(f"{a}/b")


def test_directories_are_made_with_their_parents_and_may_be_there(machine: Machine) -> None:
    machine.files.mkdir(machine.path("x/y/z"))
    machine.files.mkdir(machine.path("x/y/z"))
    machine.files.mkdir(machine.path("x/q"))
    assert sorted(machine.files.listdir(machine.path("x"))) == ["q", "y"]
    assert machine.files.stat(machine.path("x/y")).is_dir
    machine.put("x/y/z/a", b"1")
    assert not machine.files.stat(machine.path("x/y/z/a")).is_dir
    assert machine.files.listdir(machine.path("x/y/z")) == ["a"]


def test_a_lock_is_seen_while_its_holder_lives(machine: Machine) -> None:
    path = machine.put("a", b"1")
    assert not machine.files.is_locked(path)
    release = machine.lock(path)
    assert machine.files.is_locked(path)
    assert machine.files.is_locked(path)  # asking leaves it as it is
    release()
    assert not machine.files.is_locked(path)


async def test_sync_and_sync_dir_return(machine: Machine) -> None:
    machine.put("a", b"1")
    file = machine.files.open_append(machine.path("a"))
    file.write(b"2")
    await file.sync()
    file.close()
    await machine.files.sync_dir(machine.root)
    assert machine.bytes_of("a") == b"12"


async def test_preallocate_takes_room_and_never_shrinks(machine: Machine) -> None:
    path = machine.path("reserve")
    await machine.files.preallocate(path, 10_000)
    assert machine.files.stat(path).size == 10_000
    await machine.files.preallocate(path, 5_000)
    assert machine.files.stat(path).size == 10_000
    assert machine.files.free_bytes(machine.root) > 0


async def test_write_durably_leaves_the_file_alone(machine: Machine) -> None:
    await write_durably(machine.files, machine.path("a"), [b"1", b"2"])
    await write_durably(machine.files, machine.path("a"), [b"3"])
    assert machine.bytes_of("a") == b"3"
    assert machine.files.listdir(machine.root) == ["a"]


def test_a_closed_handle_refuses(machine: Machine) -> None:
    path = machine.put("a", b"1")
    file = machine.files.open_read(path)
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pread(1, 0)
    appending = machine.files.open_append(path)
    appending.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        appending.write(b"x")


class TestPowerLoss:
    """What only the simulator can show."""

    @staticmethod
    async def _outcomes(steps: str, rounds: int = 60) -> set[tuple[str, ...]]:
        """Every content of the directory that some power cut leaves after `steps`."""
        found = set()
        for seed in range(rounds):
            disk = Disk(sync_seconds=0)
            disk.mkdir("/d")
            disk.settle()
            files = disk.view()
            tmp = files.open_append("/d/tmp")
            for step in steps:
                match step:
                    case "w":
                        tmp.write(b"x" * 100)
                    case "s":
                        await tmp.sync()
                    case "r":
                        files.rename("/d/tmp", "/d/final")
                    case "d":
                        await files.sync_dir("/d")
            disk.power_loss(random.Random(seed))
            files = disk.view()
            found.add(
                tuple(sorted(f"{n}:{files.stat(f'/d/{n}').size}" for n in files.listdir("/d")))
            )
        return found

    async def test_a_file_written_by_the_book_survives(self) -> None:
        assert await self._outcomes("wsrd") == {("final:100",)}

    async def test_without_the_directory_sync_old_name_new_name_or_nothing(self) -> None:
        assert await self._outcomes("wsr") == {(), ("tmp:100",), ("final:100",)}

    async def test_without_the_file_sync_the_new_name_may_hold_less(self) -> None:
        sizes = {int(entry[0].split(":")[1]) for entry in await self._outcomes("wrd")}
        assert {0, 100} < sizes

    async def test_bytes_written_while_a_sync_runs_are_not_covered_by_it(self) -> None:
        left = set()
        for seed in range(30):
            disk = Disk(sync_seconds=0.001)
            disk.mkdir("/d")
            file = disk.view().open_append("/d/a")
            file.write(b"x" * 10)
            syncing = asyncio.create_task(file.sync())
            await asyncio.sleep(0)
            file.write(b"y" * 10)
            await syncing
            await disk.view().sync_dir("/d")
            await disk.view().sync_dir("/")
            disk.power_loss(random.Random(seed))
            left.add(disk.view().stat("/d/a").size)
        assert {10, 20} < left
        assert min(left) == 10

    async def test_a_new_directory_needs_its_parent_synced(self) -> None:
        left = set()
        for seed in range(20):
            disk = Disk(sync_seconds=0)
            files = disk.view()
            files.mkdir("/d")
            await write_durably(files, "/d/a", [b"1"])
            disk.power_loss(random.Random(seed))
            left.add(tuple(disk.view().listdir("/")))
        assert left == {(), ("d",)}

    async def test_bytes_of_a_failed_sync_are_lost_though_a_later_one_succeeds(self) -> None:
        disk = Disk(sync_seconds=0)
        disk.mkdir("/d")
        files = disk.view()
        file = files.open_append("/d/a")
        file.write(b"good")
        await file.sync()
        file.write(b"lost")
        disk.refuse = lambda operation, path: errno.EIO if operation == "sync" else None
        with pytest.raises(OSError, match="Input/output error"):
            await file.sync()
        disk.refuse = lambda operation, path: None
        file.write(b"more")
        await file.sync()
        disk.settle()
        disk.power_loss(random.Random(1))
        assert bytes(disk.inode("/d/a").data) == b"good\0\0\0\0more"

    async def test_truncating_before_the_sync_may_be_undone(self) -> None:
        left = set()
        for seed in range(30):
            disk = Disk(sync_seconds=0)
            disk.mkdir("/d")
            files = disk.view()
            file = files.open_append("/d/a")
            file.write(b"12345678")
            await file.sync()
            disk.settle()
            file.truncate(4)
            file.write(b"x")
            disk.power_loss(random.Random(seed))
            left.add(bytes(disk.inode("/d/a").data))
        assert {b"12345678", b"1234", b"1234x"} <= left

    def test_a_killed_process_leaves_the_page_cache(self) -> None:
        disk = Disk()
        disk.mkdir("/d")
        disk.view().open_append("/d/a").write(b"1")
        disk.crash()
        assert disk.view().stat("/d/a").size == 1

    def test_a_full_disk_takes_what_fits(self) -> None:
        disk = Disk()
        disk.mkdir("/d")
        disk.capacity["/d"] = 10
        file = disk.view().open_append("/d/a")
        with pytest.raises(OSError, match="No space left"):
            file.write(b"x" * 12)
        assert file.size == 10
        assert disk.view().free_bytes("/d") == 0
        disk.mkdir("/e")
        disk.view().open_append("/e/a").write(b"x" * 100)

    def test_a_freed_inode_number_is_the_next_files(self) -> None:
        disk = Disk()
        disk.mkdir("/d")
        files = disk.view()
        files.open_append("/d/a").close()
        number = files.stat("/d/a").inode
        files.unlink("/d/a")
        files.open_append("/d/b").close()
        assert files.stat("/d/b").inode == number
        assert isinstance(disk.find("/d/b"), Inode)
