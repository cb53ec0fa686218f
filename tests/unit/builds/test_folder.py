"""The folder of a build, while a neighbour with a build of its name ends."""

import errno
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local.builds import folder as module
from spanyard_local.builds.folder import WorkFolder


def first(
    times: int, function: Callable[..., object], do: Callable[[], object]
) -> Callable[..., object]:
    """`function`, with something done before its first calls."""
    left = [times]

    def called(*arguments: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            do()
        return function(*arguments, **more)

    return called


@pytest.mark.parametrize("moment", ["making", "looking", "opening", "locking"])
def test_a_neighbour_that_removes_its_folder_between_two_steps_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "web"

    def remove() -> None:
        shutil.rmtree(path)

    def seen_and_gone() -> None:
        raise FileExistsError(errno.EEXIST, "File exists", str(path))

    if moment == "making":
        monkeypatch.setattr(Path, "mkdir", first(1, Path.mkdir, seen_and_gone))
    elif moment == "looking":
        monkeypatch.setattr(module, "_check_ours", first(1, module._check_ours, remove))
    elif moment == "opening":
        monkeypatch.setattr(os, "open", first(1, os.open, remove))
    else:
        monkeypatch.setattr(fcntl, "flock", first(1, fcntl.flock, remove))
    taken = WorkFolder.take(tmp_path, "web", "0123456789")
    monkeypatch.undo()
    assert taken.path == path
    assert sorted(p.name for p in path.iterdir()) == ["src", "work"]
    second = WorkFolder.take(tmp_path, "web", "0123456789")
    assert second.path == tmp_path / "web-01234567"  # the lock is on the folder that is there
    for each in (taken, second):
        each.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_never_stays_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove() -> None:
        shutil.rmtree(tmp_path / "web")

    taken: list[int] = []
    closed: list[int] = []
    lock, close = fcntl.flock, os.close

    def locked(descriptor: int, how: int) -> None:
        taken.append(descriptor)
        remove()
        lock(descriptor, how)

    def noted(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(fcntl, "flock", locked)
    monkeypatch.setattr(os, "close", noted)
    with pytest.raises(SpanyardError, match="again and again; give another place with --build-dir"):
        WorkFolder.take(tmp_path, "web", "0123456789")
    assert len(taken) > 1
    assert not Counter(taken) - Counter(closed), "each was given back"


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("")
    with pytest.raises(SpanyardError, match="File exists; give another place with --build-dir"):
        WorkFolder.take(tmp_path, "web", "0123456789")
