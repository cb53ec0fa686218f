"""The end of a shim whose processes do not end: another user's, or stuck in the kernel."""

import time
from pathlib import Path
from typing import cast

from spanyard_local.shim import KILL_S, Shim
from spanyard_local.shim_tree import Tree


class Deathless:
    """One process that nothing ends."""

    def signal(self, *numbers: int) -> int:
        return 1

    def lives(self) -> bool:
        return True


def test_a_process_that_nothing_ends_is_told_once_and_left(tmp_path: Path) -> None:
    shim = Shim(
        {
            "folder": str(tmp_path),
            "restart": 0,
            "grace": 0.0,
            "linger": 0.0,
            "full_disk": 30.0,
            "max_log_size": 1 << 20,
            "max_log_files": 2,
        }
    )
    shim.tree = cast(Tree, Deathless())
    shim.stop(0.0)
    now = time.monotonic()
    assert not shim._ended(now)
    assert not shim._ended(now + KILL_S - 0.1)
    assert shim._ended(now + KILL_S + 0.1)
    assert shim.status()["notes"] == ["1 processes do not end, not even by SIGKILL"]
