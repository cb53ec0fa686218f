"""Who holds a data folder: what its lock file says, and whether that process still lives."""

import os
from dataclasses import dataclass
from pathlib import Path

_WIDTH = 20
"""Of each of the two columns: the number of the process, and when it began."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, as it wrote itself down."""

    pid: str
    """Empty: nobody."""
    began: str
    """In the kernel's own count; empty: not known (no /proc, or written by an earlier version)."""

    @classmethod
    def read(cls, descriptor: int) -> "Holder":
        """From a lock file."""
        text = os.pread(descriptor, 2 * _WIDTH, 0).decode("ascii", "replace")
        return cls(text[:_WIDTH].strip(), text[_WIDTH:].strip())

    @staticmethod
    def write(descriptor: int) -> None:
        """Write this process into a lock file. Raises OSError (a full disk)."""
        pid = os.getpid()
        _, began = _state_and_begin(pid)
        # The number first and padded: earlier versions read no more than that.
        os.pwrite(descriptor, f"{pid:<{_WIDTH}}{began:<{_WIDTH}}".encode(), 0)

    def lives(self) -> bool:
        """Whether it is still there, and not another one that was given its number."""
        if not self.pid.isdigit() or not 0 < int(self.pid) < 2**31:
            return False
        try:
            os.kill(int(self.pid), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody else's
        state, began = _state_and_begin(int(self.pid))
        # Z: it has ended, only its parent has not taken note of it yet.
        return state != "Z" and (not self.began or not began or self.began == began)


def _state_and_begin(pid: int) -> tuple[str, str]:
    """Two fields of /proc/{pid}/stat; empty where that is not there."""
    try:
        # The name before them is in parentheses and may hold any of them, and spaces.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
