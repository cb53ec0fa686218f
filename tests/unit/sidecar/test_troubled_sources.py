"""A source in trouble costs its own records their time, and nobody else anything."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.files import FileStat, ReadFile, SystemFiles
from spanyard_sidecar.discovery import CriSources
from spanyard_sidecar.model import Identity, Stored
from spanyard_sidecar.spanfiles import SpanFileSources
from tests.fakes.handclock import HandClock
from tests.fakes.kubelet import ContainerLog
from tests.unit.sidecar.machine import FakeSource, FakeSources, Machine, OldSource, virtual

IDENTITY = Identity("team.app", deployment="app", pod="app-0", pod_uid="uid")


class Locked(SystemFiles):
    """Paths with one of these words in them may not be touched."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def _check(self, path: str) -> None:
        if any(word in path for word in self.words):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def open_read(self, path: str) -> ReadFile:
        self._check(path)
        return super().open_read(path)

    def listdir(self, path: str) -> list[str]:
        self._check(path)
        return super().listdir(path)

    def stat(self, path: str) -> FileStat:
        self._check(path)
        return super().stat(path)

    def is_locked(self, path: str) -> bool:
        self._check(path)
        return super().is_locked(path)


def write(folder: Path, restart: int = 0) -> None:
    log = ContainerLog(folder, restart)
    log.line("x")
    log.close()


def found(kind: Any, times: int = 1) -> list[str]:
    """Writers that so many scans bring; one that fails brings none."""
    writers: list[str] = []
    for _ in range(times):
        try:
            sources = kind.scan({}, "e")
        except OSError:
            continue
        for source in sources:
            writers.append(source.writer)
            source.close()
    return writers


def test_a_container_folder_that_cannot_be_listed_hides_no_other(tmp_path: Path) -> None:
    for name in ("a", "locked", "z"):
        write(tmp_path / name)
    kind = CriSources(Locked("locked"), HandClock(), IDENTITY, str(tmp_path))
    assert found(kind) == ["uid/a/0@e", "uid/z/0@e"]


def test_a_folder_with_an_impossible_name_hides_no_other(tmp_path: Path) -> None:
    for name in ("a", "\udcff", "z"):
        write(tmp_path / name)
    kind = CriSources(SystemFiles(), HandClock(), IDENTITY, str(tmp_path))
    assert found(kind) == ["uid/a/0@e", "uid/z/0@e"]


def test_a_log_that_cannot_be_looked_at_hides_no_new_container(tmp_path: Path) -> None:
    files = Locked()
    write(tmp_path / "locked")
    kind = CriSources(files, HandClock(), IDENTITY, str(tmp_path))
    assert found(kind) == ["uid/locked/0@e"]
    files.words = ("locked/0.log",)
    write(tmp_path / "new")
    assert found(kind) == ["uid/new/0@e"]


def test_what_a_scan_found_before_it_failed_is_given_by_the_next(tmp_path: Path) -> None:
    """The directory is over its limit, and one file of it may not even be looked at."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("1-abcdefgh", "2-locked00", "3-abcdefgh"):
        (folder / f"{name}.jsonl").write_bytes(b"x" * 600)
    files = Locked("locked00")
    kind = SpanFileSources(files, HandClock(), IDENTITY, str(tmp_path), limit=1_000)
    assert [w.rpartition("/")[2] for w in found(kind, 3)] == [
        "1-abcdefgh@e",
        "2-locked00@e",
        "3-abcdefgh@e",
    ]


@virtual
async def test_a_source_whose_end_cannot_be_seen_is_tried_again() -> None:
    class Failing(FakeSource):
        @property
        def ended(self) -> bool:
            if self.error is not None:
                raise self.error
            return False

    failing, good = Failing("bad@e"), FakeSource("good@e").add("a")
    failing.error = OSError(errno.EIO, "Input/output error")
    machine = await Machine().start(FakeSources(failing, good))
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert len(machine.spooled("good@e")) == 1
    failing.error = None
    failing.add("late")
    await machine.clock.sleep(2)
    await machine.pipeline.step()
    await machine.pipeline.flush()
    assert len(machine.spooled("bad@e")) == 1


@virtual
async def test_a_file_that_cannot_be_read_holds_no_question_of_others_up() -> None:
    class Unreadable(OldSource):
        def fingerprints(self) -> list[str]:
            raise PermissionError(errno.EACCES, "Permission denied")

    class Index:
        async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
            return Stored("old@d", 7, 700)

    bad, good = Unreadable("bad@e"), OldSource("good@e")
    machine = await Machine().start(FakeSources(bad, good), index=Index(), patience=600)
    await machine.pipeline.step()
    questions = machine.pipeline.attaching.questions
    for writer, held in list(questions._held.items()):
        if not await questions._ask(writer, held):
            pytest.fail("one file's trouble was taken for the gateway's")
    assert good.continued == ("newest", Stored("old@d", 7, 700))
    assert len(questions) == 1
