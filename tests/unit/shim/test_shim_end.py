"""The end of a shim whose processes do not end: another user's, or stuck in the kernel."""

import signal
import time
from pathlib import Path
from typing import cast

from spanyard_local.shim import KILL_S, LEAVE_S, LEFTOVER_GRACE_S, Shim
from spanyard_local.shim_tree import Tree


class Deathless:
    """One process that nothing ends."""

    def signal(self, *numbers: int) -> int:
        return 1

    def lives(self) -> bool:
        return True


class Leaving:
    """One process that has closed its output and exits after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.signals: list[int] = []

    def signal(self, *numbers: int) -> int:
        self.signals += numbers
        return int(self.lives())

    def lives(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


def ended(folder: Path, tree: object) -> Shim:
    """One whose command has ended, and all output with it."""
    shim = made(folder)
    shim.tree = cast(Tree, tree)
    shim.code = 0
    return shim


def made(folder: Path) -> Shim:
    return Shim(
        {
            "folder": str(folder),
            "restart": 0,
            "grace": 0.0,
            "linger": 0.0,
            "full_disk": 30.0,
            "max_log_size": 1 << 20,
            "max_log_files": 2,
        }
    )


def test_a_process_that_is_just_exiting_is_neither_signalled_nor_told(tmp_path: Path) -> None:
    tree = Leaving(looks=2)
    shim = ended(tmp_path, tree)
    now = time.monotonic()
    assert not shim._ended(now)
    assert not shim._ended(now + 0.01)
    assert shim._patience(now, None) <= 0.01
    assert shim._ended(now + 0.02)
    assert shim.status()["notes"] == []
    assert tree.signals in ([], [signal.SIGTERM, signal.SIGCONT])  # to nobody


def test_a_process_that_stays_without_output_is_told_and_ended(tmp_path: Path) -> None:
    tree = Leaving(looks=1000)
    shim = ended(tmp_path, tree)
    now = time.monotonic()
    assert not shim._ended(now)
    assert tree.signals == []
    assert not shim._ended(now + LEAVE_S)
    assert tree.signals == [signal.SIGTERM, signal.SIGCONT]
    assert shim.status()["notes"] == ["1 of its processes outlived it; they were ended"]
    assert not shim._ended(now + LEAVE_S + LEFTOVER_GRACE_S)
    assert tree.signals[-1] == signal.SIGKILL


def test_a_process_that_nothing_ends_is_told_once_and_left(tmp_path: Path) -> None:
    shim = made(tmp_path)
    shim.tree = cast(Tree, Deathless())
    shim.stop(0.0)
    now = time.monotonic()
    assert not shim._ended(now)
    assert not shim._ended(now + KILL_S - 0.1)
    assert shim._ended(now + KILL_S + 0.1)
    assert shim.status()["notes"] == ["1 processes do not end, not even by SIGKILL"]
