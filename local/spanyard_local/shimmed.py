"""The parent's side of a shim: start a process under one, wait for its end, stop it."""

import asyncio
import contextlib
import errno
import marshal
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spanyard_core.errors import SpanyardError

_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from spanyard_local.shim import main; main()"
_PACKAGES = str(Path(__file__).resolve().parents[1])
_STATUS_LIMIT = 1 << 20
"""Bytes of one message; a status with its last lines has 50 KB at most."""


class StartError(SpanyardError):
    """A process could not be started."""


class CommandNotFoundError(StartError):
    """The program is not there, or may not be run."""


class DirectoryMissingError(StartError):
    """The directory to run in is not there."""


class NoSpaceError(StartError):
    """The disk is full: not even the log file could be made."""


@dataclass(frozen=True, kw_only=True)
class ShimSpec:
    """What to run, and what it runs as in the kubelet's layout."""

    command: Sequence[str]
    """Program and arguments; a program without `/` is looked up in the environment's PATH."""
    environment: Mapping[str, str]
    """All of it: nothing is inherited."""
    directory: Path
    log_root: Path
    namespace: str
    pod: str
    uid: str
    container: str
    restart: int
    status_file: Path
    """Where the shim writes how it ended; its folder exists."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL when nobody says otherwise, or `up` was killed."""
    linger: float = 5.0
    """Seconds that output is awaited from processes that outlive the one that was started."""
    full_disk: float = 30.0
    """When all is to end and the disk takes nothing: how long the last output is tried to be
    written, seconds. Before, the process just waits."""
    memory_limit: int | None = None
    """Bytes that all its processes may hold together."""
    max_log_size: int = 10 << 20
    max_log_files: int = 50
    """The kubelet keeps 5; a build step that prints as fast as it can outruns a collector by more
    than those, and the disk of a laptop has room for the difference."""
    held: Sequence[int] = ()
    """Descriptors that the shim keeps open as long as it lives; the process does not get them."""

    @property
    def log_folder(self) -> Path:
        return self.log_root / f"{self.namespace}_{self.pod}_{self.uid}" / self.container


class ExitStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a process ended."""

    exit_code: int | None = None
    """None when a signal ended it."""
    signal: int | None = None
    reason: str = ""
    """`OutOfMemory` (over `memory_limit`), `Killed` (SIGKILL from elsewhere), `CommandNotFound`
    (exit 126 or 127), `ShimLost` (the shim itself was killed), or nothing."""
    stopped: bool = False
    """Whether the end was asked for."""
    started_at: str = ""
    finished_at: str = ""
    lines: int = 0
    """Whole lines in the log."""
    lost_lines: int = 0
    """That the disk did not take until the end; `notes` says why."""
    tail: list[str] = []
    """The last 20 lines, the oldest first."""
    notes: list[str] = []
    """What else there is to say: processes left behind, a disk that was full."""

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and not self.reason


def read_status(path: Path) -> ExitStatus | None:
    """What a shim wrote, for instance after `up` was killed; None when it wrote nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExitStatus)
    except (OSError, msgspec.DecodeError):
        return None


class Shimmed:
    """A process under a shim. Wait for it or stop it before the loop ends."""

    def __init__(self, spec: ShimSpec, shim: asyncio.subprocess.Process, pid: int) -> None:
        self.spec = spec
        self.pid = pid
        """Of the process, which leads a session and process group of this number."""
        self._shim = shim
        self._end = asyncio.create_task(self._listen(), name=f"end of {spec.container}")

    @classmethod
    async def start(cls, spec: ShimSpec) -> "Shimmed":
        """Start it. Raises CommandNotFoundError, DirectoryMissingError, NoSpaceError, StartError."""
        message = marshal.dumps(
            {
                "command": list(spec.command),
                "environment": dict(spec.environment),
                "directory": str(spec.directory),
                "folder": str(spec.log_folder),
                "restart": spec.restart,
                "status_file": str(spec.status_file),
                "grace": float(spec.grace),
                "linger": float(spec.linger),
                "full_disk": float(spec.full_disk),
                "memory_limit": spec.memory_limit,
                "max_log_size": spec.max_log_size,
                "max_log_files": max(2, spec.max_log_files),
                "held": list(spec.held),
            }
        )
        try:
            shim = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _PROGRAM, _PACKAGES),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_STATUS_LIMIT,
                pass_fds=list(spec.held),
                start_new_session=True,  # a Ctrl-C on the terminal is ours to pass on, in order
            )
        except OSError as failed:
            raise StartError(f"{spec.container}: no process can be started: {failed}") from failed
        assert shim.stdin is not None
        assert shim.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                shim.stdin.write(len(message).to_bytes(8, "big") + message)
                await shim.stdin.drain()
            answer = (await shim.stdout.readline()).decode()
            if answer.startswith("started "):
                return cls(spec, shim, int(answer.split()[1]))
            error = await _start_error(spec, shim, answer)
        except BaseException:
            shim.stdin.close()  # which ends what was started already
            await asyncio.shield(shim.communicate())
            raise
        shim.stdin.close()
        await shim.communicate()
        raise error

    @property
    def running(self) -> bool:
        """Whether it, or output of it that is being written, is still there."""
        return not self._end.done()

    async def wait(self) -> ExitStatus:
        """Return when it and all it started have ended and their output is in the log."""
        return await asyncio.shield(self._end)

    async def stop(self, grace: float | None = None) -> ExitStatus:
        """SIGTERM to all of it, SIGKILL after `grace` seconds; returns when it has ended."""
        stdin = self._shim.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(f"stop {self.spec.grace if grace is None else grace}\n".encode())
            await stdin.drain()
        return await self.wait()

    async def _listen(self) -> ExitStatus:
        shim = self._shim
        assert shim.stdout is not None
        assert shim.stderr is not None
        status: ExitStatus | None = None
        unwritten = ""
        complaint = asyncio.ensure_future(shim.stderr.read())
        async for line in shim.stdout:
            kind, _, text = line.decode().rstrip("\n").partition(" ")
            if kind == "ended":
                status = msgspec.json.decode(text, type=ExitStatus)
            elif kind == "unwritten":
                unwritten = text
        said = (await complaint).decode("utf-8", "replace").strip()
        code = await shim.wait()
        assert shim.stdin is not None
        shim.stdin.close()
        if status is None:
            # Killed: on Linux the process itself ended with it, but not what that had started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            why = said.splitlines()[-1] if said else f"it ended with {code}"
            note = (
                f"what kept the log of this process is gone ({why}); so it was ended, and its last"
                " output may be lost"
            )
            return ExitStatus(signal=int(signal.SIGKILL), reason="ShimLost", notes=[note])
        if unwritten:
            note = f"the status file could not be written: {unwritten}"
            status = msgspec.structs.replace(status, notes=[*status.notes, note])
        return status


async def _start_error(spec: ShimSpec, shim: asyncio.subprocess.Process, answer: str) -> StartError:
    words = answer.split()
    if len(words) != 3 or words[0] != "failed":
        assert shim.stderr is not None
        said = (await shim.stderr.read()).decode("utf-8", "replace").strip()
        return StartError(f"{spec.container}: the shim did not start: {said or answer or 'killed'}")
    number, what = int(words[1]), words[2]
    text = os.strerror(number)
    program = spec.command[0]
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(f"{spec.container}: {text}; free some space and try again")
    if number == errno.E2BIG:
        return StartError(
            f"{spec.container}: command and environment are larger than this system takes; shorten "
            "them, or put what is large into a file"
        )
    if what == "words":
        return StartError(
            f"{spec.container}: a process cannot be given this command and environment: a text in "
            "them holds a NUL byte or is no text, or the name of a variable has `=` in it"
        )
    if what == "directory":
        return DirectoryMissingError(f"{spec.container}: cannot run in {spec.directory}: {text}")
    if what == "command" and number in {errno.ENOENT, errno.ENOTDIR}:
        return CommandNotFoundError(
            f"{spec.container}: {program!r} is not found in PATH; install it or correct the command"
        )
    if what == "command":
        return CommandNotFoundError(f"{spec.container}: {program!r} cannot be run: {text}")
    return StartError(f"{spec.container}: cannot start {program!r} ({what}): {text}")
