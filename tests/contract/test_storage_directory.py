"""What a directory promises beyond the contract: full disks, foreign files, laziness."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import (
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.storage import Storage, digest_of, open_storage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on demand"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[Storage]:
    opened = open_storage(root.as_uri())
    yield opened
    await opened.close()


async def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix, after=after)]


def temporaries(root: Path) -> list[Path]:
    return list((root / ".spanyard-tmp").iterdir())


class TestFailures:
    async def test_a_full_disk_is_said_and_leaves_nothing(
        self, storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await storage.write("before", b"1")
        write = os.write
        written = 0

        def full(descriptor: int, data: memoryview) -> int:
            nonlocal written
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = write(descriptor, data[:3])
            return written

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="cannot write .*/a/k: no space left") as caught:
            await storage.write("a/k", b"0123456789", if_absent=True)
        assert not isinstance(caught.value, StorageRefusedError)
        assert await keys(storage) == ["before"]
        assert temporaries(root) == []
        monkeypatch.setattr(os, "write", write)
        await storage.write("a/k", b"0123456789", if_absent=True)
        assert await storage.read("a/k") == b"0123456789"

    async def test_short_writes_are_continued(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
        await storage.write("k", b"0123456789" * 10)
        assert await storage.read("k") == b"0123456789" * 10

    async def test_a_failed_sync_stores_nothing(
        self, storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        await storage.write("before", b"1")
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="Input/output error"):
            await storage.write("k", b"1")
        assert await keys(storage) == ["before"]
        assert temporaries(root) == []

    @pytest.mark.parametrize(
        ("code", "told"), [(errno.EACCES, "permission"), (errno.EROFS, "read-only")]
    )
    async def test_what_waiting_will_not_mend_is_a_refusal(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, code: int, told: str
    ) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refused)
        with pytest.raises(StorageRefusedError, match=told):
            await storage.write("k", b"1", if_absent=True)

    async def test_an_object_cannot_hold_objects_and_the_other_way_round(
        self, storage: Storage
    ) -> None:
        await storage.write("a", b"1")
        with pytest.raises(StorageRefusedError, match="a part of the path is an object"):
            await storage.write("a/b", b"2")
        with pytest.raises(StorageRefusedError, match="a part of the path is an object"):
            await storage.write("a/b/c", b"2", if_absent=True)
        await storage.write("d/e", b"3")
        for if_absent in (True, False):
            with pytest.raises(StorageRefusedError, match="longer keys lie below it"):
                await storage.write("d", b"4", if_absent=if_absent)
        with pytest.raises(StorageRefusedError, match="longer keys lie below it"):
            await storage.move("a", "d")
        assert await keys(storage) == ["a", "d/e"]

    async def test_an_empty_directory_that_a_crash_left_is_no_object(
        self, storage: Storage, root: Path
    ) -> None:
        (root / "a").mkdir(parents=True)
        await storage.write("a", b"1", if_absent=True)
        (root / "b").mkdir()
        await storage.write("b", b"2")
        (root / "c").mkdir()
        await storage.move("a", "c")
        assert await storage.read("b") == b"2"
        assert await storage.read("c") == b"1"

    async def test_temporary_files_are_invisible_and_old_ones_are_removed(
        self, storage: Storage, root: Path
    ) -> None:
        folder = root / ".spanyard-tmp"
        folder.mkdir(parents=True)
        (folder / "old").write_bytes(b"left by a crash")
        (folder / "new").write_bytes(b"being written elsewhere")
        os.utime(folder / "old", (time.time() - 7200,) * 2)
        outer = open_storage(root.parent.as_uri())
        assert await keys(storage) == []
        assert await keys(outer) == []
        await storage.write("k", b"1")
        assert temporaries(root) == [folder / "new"]
        assert await keys(outer) == [f"{root.name}/k"]
        await outer.close()


class TestForeignFiles:
    async def test_symbolic_links_lead_nowhere(
        self, storage: Storage, root: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"not yours")
        await storage.write("k", b"1")
        (root / "folder").symlink_to(outside)
        (root / "file").symlink_to(outside / "secret")
        calls: list[Callable[[], Any]] = [
            lambda: storage.read("folder/secret"),
            lambda: storage.digest("folder/secret"),
            lambda: storage.read("file"),
            lambda: storage.exists("folder/secret"),
            lambda: storage.delete("folder/secret"),
            lambda: storage.move("folder/secret", "x"),
            lambda: storage.move("k", "folder/x"),
            lambda: storage.write("folder/x", b"2"),
            lambda: storage.write("folder/sub/x", b"2", if_absent=True),
            lambda: keys(storage, "folder/"),
        ]
        for call in calls:
            with pytest.raises(StorageRefusedError, match="symbolic link"):
                await call()
        assert await keys(storage) == ["k"]
        assert [path.name for path in outside.iterdir()] == ["secret"]

    async def test_a_root_that_is_reached_through_a_link_works(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        storage = open_storage((tmp_path / "link").as_uri())
        await storage.write("a/k", b"1", if_absent=True)
        assert await keys(storage) == ["a/k"]
        assert (tmp_path / "real" / "a" / "k").read_bytes() == b"1"
        await storage.close()

    async def test_pipes_are_not_objects_and_block_nobody(
        self, storage: Storage, root: Path
    ) -> None:
        await storage.write("k", b"1")
        os.mkfifo(root / "pipe")
        async with asyncio.timeout(60):
            with pytest.raises(ObjectNotFoundError):
                await storage.read("pipe")
            assert not await storage.exists("pipe")
            assert await keys(storage) == ["k"]

    async def test_a_name_that_is_not_utf8_is_not_an_object(
        self, storage: Storage, root: Path
    ) -> None:
        await storage.write("k", b"1")
        if sys.platform == "linux":  # macOS refuses such names itself
            Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"?")
        assert await keys(storage) == ["k"]


NAMED: dict[str, Callable[[Storage, str], Awaitable[None]]] = {
    "write": lambda storage, key: storage.write(key, b"1"),
    "create": lambda storage, key: storage.write(key, b"1", if_absent=True),
    "move": lambda storage, key: storage.move("source", key),
}
"""Ways in which an object gets its name."""


class TestDirectories:
    async def test_empty_ones_are_removed_up_to_the_root(
        self, storage: Storage, root: Path
    ) -> None:
        await storage.write("a/b/c/k", b"1")
        await storage.write("a/l", b"2")
        await storage.move("a/b/c/k", "d/k")
        assert sorted(path.name for path in root.iterdir()) == [".spanyard-tmp", "a", "d"]
        assert [path.name for path in (root / "a").iterdir()] == ["l"]
        await storage.delete("d/k")
        await storage.delete("a/l")
        assert [path.name for path in root.iterdir()] == [".spanyard-tmp"]

    async def test_writers_and_removers_of_one_directory_do_not_meet(
        self, storage: Storage
    ) -> None:
        async def worker(n: int) -> None:
            for round_ in range(30):
                key = f"a/b/{n}"
                await storage.write(key, b"%d" % round_, if_absent=True)
                assert await storage.read(key) == b"%d" % round_
                if round_ % 2:
                    await storage.delete(key)
                else:
                    await storage.move(key, f"c/{n}/{round_}")

        await asyncio.gather(*(worker(n) for n in range(8)))
        expected = sorted(f"c/{n}/{r}" for n in range(8) for r in range(0, 30, 2))
        assert await keys(storage) == expected

    @pytest.mark.parametrize("call", NAMED)
    async def test_one_that_is_pruned_under_a_writer_is_made_again(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        await storage.write("source", b"1")
        mkdir = os.mkdir
        made = 0

        def pruned_at_once(path: bytes, *arguments: Any) -> None:
            nonlocal made
            mkdir(path, *arguments)
            made += 1
            if made in {1, 3, 4}:  # `a`, then `a/b` twice, as a remover next door would
                os.rmdir(path)

        monkeypatch.setattr(os, "mkdir", pruned_at_once)
        await NAMED[call](storage, "a/b/k")
        assert made == 5
        assert await storage.read("a/b/k") == b"1"

    @pytest.mark.parametrize("call", NAMED)
    async def test_one_that_somebody_else_made_and_pruned_is_made_again(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        await storage.write("source", b"1")
        mkdir = os.mkdir
        met = 0

        def next_door(path: bytes, *arguments: Any) -> None:
            nonlocal met
            mkdir(path, *arguments)
            if met == 3:
                return
            met += 1
            try:
                mkdir(path, *arguments)  # the neighbour's was there first
            except FileExistsError:
                os.rmdir(path)  # and is gone before the next look
                raise

        monkeypatch.setattr(os, "mkdir", next_door)
        await NAMED[call](storage, "a/b/k")
        assert met == 3
        assert await storage.read("a/b/k") == b"1"

    @pytest.mark.parametrize("call", NAMED)
    async def test_an_empty_one_that_is_pruned_before_an_object_takes_its_place(
        self, storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        await storage.write("source", b"1")
        (root / "k").mkdir()
        rmdir = os.rmdir

        def pruned_by_both(path: bytes) -> None:
            rmdir(path)
            rmdir(path)

        monkeypatch.setattr(os, "rmdir", pruned_by_both)
        await NAMED[call](storage, "k")
        assert await storage.read("k") == b"1"

    async def test_the_first_page_of_a_prefix_opens_only_what_lies_under_it(
        self, storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(40):
            for m in range(3):
                folder = root / "logs" / f"p{n:02d}" / f"{m}"
                folder.mkdir(parents=True)
                for i in range(20):
                    (folder / f"{i:02d}").touch()
        opened: list[str] = []
        scandir = os.scandir

        def watched(path: bytes) -> Any:
            opened.append(os.fsdecode(path).removeprefix(f"{root}/"))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", watched)

        async def first(prefix: str, after: str = "") -> str:
            opened.clear()
            async for info in storage.list(prefix, after=after):
                return info.key
            raise AssertionError

        assert await first("logs/p07/1/1") == "logs/p07/1/10"
        assert opened == ["logs/p07/1/"]
        assert await first("logs/p07/") == "logs/p07/0/00"
        assert opened == ["logs/p07/", "logs/p07/0/", "logs/p07/1/", "logs/p07/2/"]
        assert await first("logs/", after="logs/p38/2/19") == "logs/p39/0/00"
        assert opened[:4] == ["logs/", "logs/p38/", "logs/p38/2/", "logs/p39/"]
        assert len(opened) <= 7
        assert await first("") == "logs/p00/0/00"
        assert len(opened) <= 40, "of 162; a page is 500 objects"


_WRITER = """
import asyncio, sys
from spanyard_core.storage import open_storage, digest_of

async def main():
    storage = open_storage(sys.argv[1])
    n = 0
    while True:
        data = (b"%d " % n) * 20000
        key = f"a{n % 7}/{n:06d}-{digest_of(data)}"
        await storage.write(key, data, if_absent=n % 2 == 0)
        print(key, flush=True)
        n += 1

asyncio.run(main())
"""


@pytest.mark.kill
@pytest.mark.slow
async def test_a_killed_writer_leaves_whole_objects_only(storage: Storage, root: Path) -> None:
    told: list[str] = []
    for round_ in range(5):
        url = (root / f"r{round_}").as_uri()
        with subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE) as it:
            assert it.stdout is not None
            told.extend(f"r{round_}/{it.stdout.readline().decode().strip()}" for _ in range(5))
            time.sleep(0.013 * round_)  # another moment of its work each time
            it.send_signal(signal.SIGKILL)
            rest = it.stdout.read().decode().split("\n")
            told.extend(f"r{round_}/{line}" for line in rest[:-1])
    found = await keys(storage)
    assert set(told) <= set(found)
    assert len(found) <= len(told) + 5
    for key in found:
        assert await storage.digest(key) == key.rpartition("-")[2]


async def test_open_directories_are_few_and_given_back(storage: Storage, root: Path) -> None:
    def open_directories() -> int:
        # Of this storage: the engine of other tests opens files in this process too.
        found = [os.stat(path) for path in (root, *root.rglob("*")) if path.is_dir()]
        ours = {(known.st_dev, known.st_ino) for known in found}
        count = 0
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):  # closed since
                known = os.fstat(int(name))
                count += (known.st_dev, known.st_ino) in ours
        return count

    for n in range(100):
        await storage.write(f"{n}/k", b"1")
    assert 0 < open_directories() <= 70
    assert await storage.read("0/k") == b"1"
    await storage.close()
    assert open_directories() == 0


def test_using_a_directory_does_not_load_the_cloud_library(tmp_path: Path) -> None:
    """obstore takes memory that a laptop or a collector on a volume need not spend."""
    code = (
        "import asyncio, sys\n"
        "from spanyard_core.storage import open_storage\n"
        "storage = open_storage(sys.argv[1])\n"
        "asyncio.run(storage.write('k', b'1'))\n"
        "assert 'obstore' not in sys.modules, 'obstore is loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path.as_uri()], check=True)
    assert digest_of((tmp_path / "k").read_bytes()) == digest_of(b"1")
