"""Edits are seen once they are finished, and only those that count."""

import os
from pathlib import Path

import pytest

from spanyard_local.watching import digest, edits, files, tree


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def time_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def look_at(root: Path) -> str:
    return digest(tree(root)())


async def test_an_edit_is_told_once_and_only_when_it_is_finished() -> None:
    clock = Clock()
    looks = iter(["a", "a", "b", "c", "c", "c", "a", "a", "b", "a", "d", "d"])
    told = []
    async for found in edits(lambda: next(looks), clock, last="a"):
        told.append(found)
        if found == "d":
            break
    assert told == ["c", "a", "d"]


async def test_a_slow_look_is_followed_by_a_long_pause_and_one_that_fails_by_another() -> None:
    clock = Clock()
    answers: list[object] = ["b", OSError("moved"), "b", "b"]

    def look() -> str:
        clock.now += 2
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    async for found in edits(look, clock, last="a"):
        assert found == "b"
        break
    assert clock.slept[0] == 40


def test_content_names_and_modes_count_and_folders_do_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    digests = [look_at(tmp_path)]

    def changed() -> bool:
        digests.append(look_at(tmp_path))
        return digests[-1] not in digests[:-1]

    (tmp_path / "folder").mkdir()
    os.utime(tmp_path, (1, 1))
    assert not changed()
    (tmp_path / "a").write_text("22")
    assert changed()
    (tmp_path / "a").chmod(0o755)
    assert changed()
    (tmp_path / "a").rename(tmp_path / "b")
    assert changed()
    os.utime(tmp_path / "b", (1, 1))
    assert changed()
    assert digest(files([tmp_path / "b", tmp_path / "none"])()) != digest(files([])())


def test_only_what_a_build_would_copy_counts(tmp_path: Path) -> None:
    for name in ("a.py", "lib/b.py", "node_modules/x.js", "lib/.git/c", "data/d", "lib/out/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "lib/.gitignore").write_text("out/\n")
    (tmp_path / "link").symlink_to("/etc")
    names = sorted(name for name, _ in tree(tmp_path, [tmp_path / "data"])())
    assert names == ["a.py", "lib/.gitignore", "lib/b.py", "link"]
    assert list(tree(tmp_path / "none")()) == []


def test_a_folder_that_may_not_be_read_hides_no_edit_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "a").write_text("")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path.name == "data":  # a database's, of another user; the tests may run as root
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("spanyard_local.watching.os.scandir", refusing)
    assert [name for name, _ in tree(tmp_path)()] == ["a"]
