"""The test cluster's processes: started apart from this one, known by id and start time.

They outlive who started them; a state file says which they are, so that another process can end
exactly these. A process id that was given to somebody else since has another start time.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.addresses import Folders

END_SECONDS = 10.0
_STARTED: "list[subprocess.Popen[bytes]]" = []
"""Held on to: Python would warn of a child that is let go while it runs, as these shall."""


@dataclass(frozen=True)
class Daemon:
    """One process."""

    name: str
    pid: int
    started: int
    """In clock ticks since the machine's start: field 22 of /proc/{pid}/stat."""

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int:
    """Zero when there is no such process, or only its exit code is left.

    A first thread that has ended says nothing: while others of a killed process end, it still has
    its ports. Who takes one then is refused it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    state, threads, started = fields[0], int(fields[17]), int(fields[19])
    return 0 if state == "Z" and threads <= 1 else started


def start(
    folders: Folders,
    name: str,
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
) -> Daemon:
    """Its output goes to `logs/{name}.log`; it is written into the state file at once."""
    with (folders.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folders.run,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    _STARTED.append(process)
    daemon = Daemon(name, process.pid, start_time(process.pid))
    others = [one for one in recorded(folders) if one.name != name]
    _record(folders, [*others, daemon])
    return daemon


def recorded(folders: Folders) -> list[Daemon]:
    """In the order in which they were started."""
    try:
        found = json.loads(folders.state.read_text("utf-8"))
    except FileNotFoundError:
        return []
    return [Daemon(**one) for one in found]


def _record(folders: Folders, daemons: list[Daemon]) -> None:
    unfinished = folders.state.with_suffix(".unfinished")
    unfinished.write_text(json.dumps([vars(one) for one in daemons], indent=1), "utf-8")
    unfinished.rename(folders.state)


def find(folders: Folders, name: str) -> Daemon | None:
    return next((one for one in recorded(folders) if one.name == name and one.alive), None)


def end(daemon: Daemon, *, at_once: bool = False) -> None:
    """SIGTERM, and SIGKILL for who does not go."""
    if not daemon.alive:
        return
    os.kill(daemon.pid, signal.SIGKILL if at_once else signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while daemon.alive:
        _reap(daemon.pid)
        if time.monotonic() > deadline:
            os.kill(daemon.pid, signal.SIGKILL)
        time.sleep(0.05)


def _reap(pid: int) -> None:
    """Does nothing for somebody else's child."""
    for process in _STARTED:
        if process.pid == pid:
            process.poll()


def wait_until(
    folders: Folders, daemon: Daemon, ready: Callable[[], bool], *, within: float = 90.0
) -> None:
    """Raises RuntimeError with the end of its log when it ends or does not get ready."""
    deadline = time.monotonic() + within
    while not ready():
        if not daemon.alive or time.monotonic() > deadline:
            log = (folders.logs / f"{daemon.name}.log").read_text("utf-8", "replace")[-3000:]
            why = f"was not ready after {within:g} s" if daemon.alive else "ended"
            raise RuntimeError(f"{daemon.name} {why}: {log}")
        time.sleep(0.1)
