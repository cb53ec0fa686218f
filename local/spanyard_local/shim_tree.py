"""The processes below a shim: found, measured, signalled. Standard library only.

On Linux the shim is a *subreaper*: whoever loses its parent becomes the shim's child, so that a
double fork or `setsid` leads nowhere else, and the tree is all there is. Elsewhere (macOS) the tree
is the child's process group; a process that leaves its group is not found there.
"""

import ctypes
import os
import signal
import sys

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None) if LINUX else None
_PAGE = os.sysconf("SC_PAGE_SIZE")


def become_subreaper() -> None:
    """Orphans among the descendants become this process's children."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """In a fresh child: SIGKILL when the parent is killed, because nobody would end it then."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


class Tree:
    """All descendants of this process, whose first child leads a session of its own."""

    def __init__(self, child: int) -> None:
        self._child = child

    def signal(self, *numbers: int) -> int:
        """Send these to all; returns how many there are."""
        if not LINUX:
            return self._signal_group(*numbers)
        members = descendants(os.getpid())
        for pid in members:
            for number in numbers:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    break
                except PermissionError:  # it became another user's; its end is not ours to bring
                    break
        return len(members)

    def lives(self) -> bool:
        """Whether there is any, dead ones that nobody has waited for included."""
        if LINUX:
            return bool(descendants(os.getpid()))
        return bool(self._signal_group(0))

    def resident(self) -> int:
        """Bytes of memory that all of them hold; memory that several share counts for each."""
        if not LINUX:
            return _resident_group(self._child)
        return sum(_resident(pid) for pid in descendants(os.getpid()))

    def proportional(self) -> int:
        """The same, but shared memory counts once; dearer (a millisecond per process)."""
        if not LINUX:
            return _resident_group(self._child)
        return sum(_proportional(pid) for pid in descendants(os.getpid()))

    def _signal_group(self, *numbers: int) -> int:
        try:
            for number in numbers:
                os.killpg(self._child, number)
        except ProcessLookupError:
            return 0
        except PermissionError:  # macOS says so of a group in which all are dead already
            return 0
        return 1


def descendants(root: int) -> list[int]:
    """Process ids of all below `root`, parents before their children."""
    try:
        return _by_children(root)
    except FileNotFoundError:  # a kernel without /proc/…/children
        return _by_scan(root)


def _by_children(root: int) -> list[int]:
    found: list[int] = []
    at = -1
    pid = root
    while True:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except (FileNotFoundError, ProcessLookupError):  # gone just now
            threads = []
        for thread in threads:
            try:
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
            except (FileNotFoundError, ProcessLookupError):
                if pid == root:
                    raise FileNotFoundError from None
        at += 1
        if at >= len(found):
            return found
        pid = found[at]


def _by_scan(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(_read(f"/proc/{name}/stat").rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def _resident(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(pid)


def _resident_group(group: int) -> int:
    with os.popen("ps -A -o pgid=,rss=") as listing:  # noqa: S605 - a fixed command
        rows = [row.split() for row in listing]
    return sum(int(row[1]) for row in rows if len(row) == 2 and row[0] == str(group)) * 1024


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while block := os.read(descriptor, 65536):
            data += block
        return data
    finally:
        os.close(descriptor)
