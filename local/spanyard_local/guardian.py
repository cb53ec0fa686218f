"""Ends what a killed command leaves behind: a process that outlives its maker by a minute at most.

The command tells it by a pipe which process groups are its own. When the pipe ends, by an orderly
end or by kill -9, it ends those that are still there, the last started first: the agent, then the
collector, which stores what it has read, then the server. It inherits the lock of the data folder,
so nobody works there before all of them are gone. As a program: standard library only, and fast.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

GRACE_S = 20.0
"""For each process between SIGTERM and SIGKILL."""


class Guardian:
    """The command's side."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def watch(self, group: int) -> None:
        """This process group is ours, and younger than those before."""
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """It has ended; its number may become somebody else's."""
        self._say(f"-{group}\n")

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        # It was killed: the command goes on, only nobody would clean up after it.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()


@contextlib.contextmanager
def guarded(*, held: Sequence[int] = (), grace: float = GRACE_S) -> Iterator[Guardian]:
    """A guardian while the block runs; it keeps the descriptors `held` open as long as it lives."""
    command = [sys.executable, "-S", "-E", str(Path(__file__).resolve()), str(grace)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=list(held),
        start_new_session=True,  # a Ctrl-C on the terminal is not for it
    ) as process:  # leaving the block closes the pipe and waits
        yield Guardian(process)


def main() -> None:
    """Listen until the pipe ends, then end what was not forgotten."""
    groups: list[int] = []
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.append(group)
        elif group in groups:
            groups.remove(group)
    for group in reversed(groups):
        _end(group, float(sys.argv[1]))


def _end(group: int, grace: float) -> None:
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline and _lives(group):
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    os.killpg(group, 0)
    try:
        # Nobody may have taken note of its end yet, where process 1 is not an init.
        state = Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state != "Z"


if __name__ == "__main__":
    main()
