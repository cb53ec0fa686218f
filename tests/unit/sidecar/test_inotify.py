"""Inotify: one wake-up per arming, new folders too, and silence where it does not work."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_sidecar.inotify import Inotify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


class Waker:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.event.set()

    async def woken(self) -> None:
        async with asyncio.timeout(30):
            await self.event.wait()
        self.event.clear()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "app"
    folder.mkdir()
    with (folder / "0.log").open("wb"):
        yield folder / "0.log"


def append(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b"x\n")


async def test_a_write_wakes_once_per_arming(log: Path) -> None:
    waker = Waker()
    inotify = Inotify([str(log.parents[1])], waker)
    inotify.open()
    try:
        assert inotify.works
        append(log)  # not armed
        await asyncio.sleep(0.05)
        assert waker.count == 0
        inotify.arm()
        inotify.arm()
        await waker.woken()
        for _ in range(10):
            append(log)
        await asyncio.sleep(0.05)
        assert waker.count == 1
        inotify.arm()
        await waker.woken()
    finally:
        inotify.close()


async def test_a_rotation_and_a_new_container_wake(log: Path) -> None:
    waker = Waker()
    root = log.parents[1]
    inotify = Inotify(["", str(root)], waker)
    inotify.open()
    try:
        inotify.arm()
        log.rename(log.with_name("0.log.old"))
        await waker.woken()
        (root / "other").mkdir()
        inotify.arm()
        await waker.woken()
        inotify.look()
        inotify.arm()
        (root / "other" / "0.log").touch()
        await waker.woken()
        (root / "other" / "0.log").unlink()
        (root / "other").rmdir()
        inotify.look()  # what is gone is forgotten, and may come again
        (root / "other").mkdir()
        inotify.arm()
        await waker.woken()
        inotify.look()
        inotify.arm()
        (root / "other" / "0.log").touch()
        await waker.woken()
    finally:
        inotify.close()
        inotify.close()


async def test_folders_that_are_not_there_yet_are_found_later(tmp_path: Path) -> None:
    waker = Waker()
    inotify = Inotify([str(tmp_path / "spans")], waker)
    inotify.open()
    try:
        assert not inotify.works
        inotify.arm()
        (tmp_path / "spans" / "logs").mkdir(parents=True)
        inotify.look()
        append(tmp_path / "spans" / "logs" / "1-aaaaaaaa.jsonl")
        await waker.woken()
    finally:
        inotify.close()


async def test_without_folders_there_is_nothing_to_watch() -> None:
    inotify = Inotify(["", ""], lambda: None)
    inotify.open()
    inotify.arm()
    inotify.look()
    assert not inotify.works
    inotify.close()
