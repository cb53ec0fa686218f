"""One process of the user's, and all it brings forth: kept, logged, limited, ended. A program.

Like containerd's shim it stands between `spanyard up` and a build step or server. It holds the
process's pipes and writes the log file, so a killed `up` loses no line; and its own standard input
is a pipe from `up`, so it notices at once, ends the whole tree with grace, writes out the last of
the output and a status file, and goes: no orphan stays. It holds the data folder's lock meanwhile.

Standard library only, and little of it (25 ms of CPU to start, 10 MB): there is one per process.
Started by `shimmed.Shimmed`, which sends what to do as the first message on the pipe.
"""

import errno
import fcntl
import marshal
import os
import select
import signal
import sys
import time
from typing import Any

from spanyard_local.shim_log import PIECE_BYTES, CriWriter
from spanyard_local.shim_tree import LINUX, Tree, become_subreaper, die_with_parent

READ_BYTES = 256 * 1024
PIPE_BYTES = 256 * 1024
"""Of the pipes, where that can be set; the kernel's own 64 KiB are one block of a busy server."""
SMALL_READ = 16 * 1024
NAP_S = 0.004
"""After a small read the pipe may fill: 50,000 single lines per second are 250 reads, not 50,000."""
LEAVE_S = 0.1
"""A process closes its output before it is gone: who goes by himself within this is not left over."""
LEFTOVER_GRACE_S = 2.0
"""Between SIGTERM and SIGKILL for those."""
KILL_S = 5.0
"""A process that SIGKILL does not end by then hangs in the kernel; it is told and left."""
WATCH_S = 0.25
"""Between looks at the memory, and at a tree that should end."""
_F_SETPIPE_SZ = 1031
_RESET = ("SIGPIPE", "SIGXFSZ", "SIGINT", "SIGHUP", "SIGTERM", "SIGCHLD", "SIGQUIT")


class Stream:
    """The reading end of one of the child's pipes."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.open = True
        self.rest = b""
        """The beginning of a line whose end has not come."""

    def read(self, log: CriWriter) -> int:
        """What is there, into the log. Returns the number of bytes."""
        try:
            data = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self.end(log)
            return 0
        size = len(data)
        if self.rest:
            data = self.rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            log.take(self.name, data[:cut] if rest else data)
        # At least a byte is held back, so that the last piece of a line is never marked partial.
        whole = max(0, len(rest) - 1) // PIECE_BYTES * PIECE_BYTES
        if whole:
            log.take(self.name, rest[:whole], ended=False)
            rest = rest[whole:]
        self.rest = rest
        return size

    def end(self, log: CriWriter) -> None:
        """Nothing more comes, or is waited for."""
        if self.open:
            self.open = False
            os.close(self.descriptor)
            if self.rest:
                log.take(self.name, self.rest)
                self.rest = b""


class Shim:
    """One run of one command."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.log = CriWriter(
            spec["folder"],
            spec["restart"],
            max_size=spec["max_log_size"],
            max_files=spec["max_log_files"],
        )
        self.notes: list[str] = []
        self.started_ns = time.time_ns()
        self.child = -1
        self.code: int | None = None
        """As `os.waitstatus_to_exitcode` has it; None while the child runs."""
        self.finished_ns = 0
        self.stopping = False
        self.out_of_memory = False
        self.streams: list[Stream] = []
        self.tree = Tree(-1)
        self._poll = select.poll()
        self._control = b""
        self._control_open = True
        self._kill_at: float | None = None
        """When whoever is still there gets SIGKILL."""
        self._linger_until: float | None = None
        self._leave_until: float | None = None
        self._killed_at: float | None = None
        self._left_behind = False
        """Some do not end, whatever is done."""
        self._give_up_at: float | None = None
        """When output that cannot be written is given up."""
        self._disk_error = ""
        self._disk_wait = 0.05

    # --- the start -------------------------------------------------------------------------

    def start(self) -> str:
        """Start the command. Returns what went wrong, `{errno} {what}`, or nothing."""
        try:
            self.log.open()
        except OSError as error:
            return f"{error.errno} log"
        become_subreaper()
        pipes = [os.pipe(), os.pipe()]
        failed, fails = os.pipe()
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            return f"{error.errno} fork"
        if pid == 0:
            self._become_child(pipes[0][1], pipes[1][1], fails, me)
        for writing in (pipes[0][1], pipes[1][1], fails):
            os.close(writing)
        with os.fdopen(failed, "rb") as answer:
            why = answer.read().decode()
        if why:
            os.waitpid(pid, 0)
            return why
        self.child = pid
        self.tree = Tree(pid)
        for name, (reading, _) in zip(("stdout", "stderr"), pipes, strict=True):
            os.set_blocking(reading, False)
            if LINUX:
                try:  # noqa: SIM105 - contextlib would be another half megabyte
                    fcntl.fcntl(reading, _F_SETPIPE_SZ, PIPE_BYTES)
                except OSError:
                    pass  # the user's limit of pipe memory is used up: the usual size does, too
            self.streams.append(Stream(name, reading))
        return ""

    def _become_child(self, out: int, err: int, fails: int, shim: int) -> None:
        what = "session"
        try:
            os.setsid()
            die_with_parent(shim)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (out, 1), (err, 2)):
                os.dup2(source, target)
            for name in _RESET:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            what = "directory"
            os.chdir(self.spec["directory"])
            what = "command"
            command = self.spec["command"]
            os.execvpe(command[0], command, self.spec["environment"])  # noqa: S606 - what a shim is for
        except OSError as error:
            os.write(fails, f"{error.errno} {what}".encode())
        except ValueError:  # a NUL byte somewhere, or `=` in the name of a variable
            os.write(fails, f"{errno.EINVAL} words".encode())
        finally:
            os._exit(127)

    # --- while it runs ---------------------------------------------------------------------

    def run(self) -> None:
        """Until the tree has ended and all its output is written, or given up."""
        waker, wakes = os.pipe()
        for end in (waker, wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop(self.spec["grace"]))
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self._poll.register(waker, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        limit = self.spec["memory_limit"]
        next_look = time.monotonic() + WATCH_S if limit else None
        listening: set[int] = set()
        nap_until = 0.0
        while True:
            self._reap()
            self._flush()
            now = time.monotonic()
            if self._ended(now):
                break
            if next_look is not None and now >= next_look and self.code is None:
                self._look_at_memory(limit)
                next_look = now + WATCH_S
            wanted = {stream.descriptor for stream in self.streams if stream.open}
            if self.log.waiting or now < nap_until:
                wanted = set()
            for descriptor in listening - wanted:
                self._poll.unregister(descriptor)
            for descriptor in wanted - listening:
                self._poll.register(descriptor, select.POLLIN)
            listening = wanted
            wait = self._patience(now, next_look)
            if now < nap_until:
                wait = min(wait, nap_until - now)
            ready = {fd for fd, _ in self._poll.poll(max(1, round(wait * 1000)))}
            if waker in ready:
                os.read(waker, 4096)
            if 0 in ready:
                self._obey()
            read = 0
            for stream in self.streams:
                if stream.descriptor in ready and stream.open:
                    read = max(read, stream.read(self.log))
                    if not stream.open:
                        self._poll.unregister(stream.descriptor)
                        listening.discard(stream.descriptor)
            nap_until = time.monotonic() + NAP_S if 0 < read < SMALL_READ else 0.0
        self._last_words()

    def stop(self, grace: float) -> None:
        """SIGTERM to all, SIGKILL to those that are there after `grace` seconds."""
        kill_at = time.monotonic() + max(0.0, grace)
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)
        self._give_up_at = self._kill_at + self.spec["full_disk"]
        if not self.stopping:
            self.stopping = True
            self.tree.signal(signal.SIGTERM, signal.SIGCONT)  # the stopped ones cannot hear

    def _obey(self) -> None:
        data = os.read(0, 4096)
        if not data:  # `up` has ended, or was killed
            self._poll.unregister(0)
            self._control_open = False
            self.stop(self.spec["grace"])
            return
        self._control += data
        while b"\n" in self._control:
            line, _, self._control = self._control.partition(b"\n")
            self.stop(float(line.removeprefix(b"stop ")))

    def _patience(self, now: float, next_look: float | None) -> float:
        wait = 60.0
        if next_look is not None and self.code is None:
            wait = min(wait, next_look - now)
        if self._kill_at is not None or self.code is not None:
            wait = min(wait, WATCH_S if self._killed_at is None else 0.02)
        if self._leave_until is not None and now < self._leave_until:
            wait = min(wait, LEAVE_S / 10)
        if self.log.waiting:
            wait = min(wait, self._disk_wait)
        return wait

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.code = os.waitstatus_to_exitcode(status)
                self.finished_ns = time.time_ns()
                self._linger_until = time.monotonic() + self.spec["linger"]

    def _flush(self) -> None:
        try:
            self.log.flush()
        except OSError as error:
            if not self._disk_error:
                name = errno.errorcode.get(error.errno or 0, "")
                self._disk_error = f"{name}: {error.strerror}"
                self.notes.append(
                    f"the log could not be written for a while ({self._disk_error}); the process"
                    " had to wait"
                )
            self._disk_wait = min(1.0, self._disk_wait * 2)
        else:
            self._disk_wait = 0.05

    def _look_at_memory(self, limit: int) -> None:
        # Forks share memory, which the quick look counts for each: the second look is the true one.
        if self.tree.resident() > limit and (used := self.tree.proportional()) > limit:
            self.out_of_memory = True
            self.notes.append(f"it held {used} bytes of memory; the limit is {limit}")
            self._kill_at = time.monotonic()

    # --- the end ---------------------------------------------------------------------------

    def _ended(self, now: float) -> bool:
        """Bring the end about, step by step; whether it has come."""
        if self._kill_at is not None and now >= self._kill_at:
            if self._killed_at is None:
                self._killed_at = now
            alive = self.tree.signal(signal.SIGKILL)
            if alive and now - self._killed_at > KILL_S:
                if not self._left_behind:
                    self.notes.append(f"{alive} processes do not end, not even by SIGKILL")
                self._left_behind = True
                self.code = self.code if self.code is not None else -signal.SIGKILL
                alive = 0
            if self.code is not None and not alive:
                for stream in self.streams:  # what is in the pipes; nobody writes any more
                    while stream.open and not self.log.waiting and stream.read(self.log):
                        self._flush()
                    if not self.log.waiting:
                        stream.end(self.log)
        if self.code is None:
            return False
        if self.log.waiting and self._give_up_at is not None and now > self._give_up_at:
            for stream in self.streams:  # to count it
                while stream.open and stream.read(self.log):
                    pass
                stream.end(self.log)
            return True
        silent = not any(stream.open for stream in self.streams)
        lingers = self._linger_until is not None and now < self._linger_until
        if self._kill_at is None and silent and self._some_leave(now):
            return False
        if self._kill_at is None and (silent or not lingers):
            left = self.tree.signal(signal.SIGTERM, signal.SIGCONT)
            if left or not silent:
                held = "" if silent else f" and held its output open for {self.spec['linger']:g} s"
                self.notes.append(f"{left} of its processes outlived it{held}; they were ended")
                self._kill_at = now + LEFTOVER_GRACE_S
        if self._left_behind:
            return silent and not self.log.waiting
        if not silent or (self._kill_at is not None and self.tree.lives()):
            return False
        return not self.log.waiting

    def _some_leave(self, now: float) -> bool:
        """Whether somebody is there who may be about to exit."""
        if self._leave_until is None:
            self._leave_until = now + LEAVE_S
        return now < self._leave_until and self.tree.lives()

    def _last_words(self) -> None:
        """Output that came while the streams were closed, and what is given up."""
        self._flush()
        if self.log.waiting:
            self.notes.append(
                f"{self.log.waiting_lines} lines of output are lost: the disk took nothing"
                f" ({self._disk_error})"
            )
        self.log.close()

    def status(self) -> dict[str, Any]:
        """What becomes the status file."""
        code = self.code
        reason = ""
        if self.out_of_memory:
            reason = "OutOfMemory"
        elif not self.stopping:
            if code in {126, 127}:
                reason = "CommandNotFound"
            elif code in {-signal.SIGKILL, 128 + signal.SIGKILL}:
                reason = "Killed"
        return {
            "exitCode": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "reason": reason,
            "stopped": self.stopping,
            "startedAt": _rfc3339(self.started_ns),
            "finishedAt": _rfc3339(self.finished_ns or time.time_ns()),
            "lines": self.log.lines,
            "lostLines": self.log.waiting_lines,
            "tail": self.log.tail(),
            "notes": self.notes,
        }


def main() -> None:
    """As the program: the first message, the run, the status."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal's signals are for `up`
    spec = marshal.loads(_read_exactly(int.from_bytes(_read_exactly(8), "big")))  # noqa: S302 - it is from `up`
    for descriptor in spec["held"]:
        os.set_inheritable(descriptor, False)
    shim = Shim(spec)
    failed = shim.start()
    if failed:
        _tell(f"failed {failed}\n")
        return
    _tell(f"started {shim.child}\n")
    shim.run()
    import json  # a megabyte that is not needed before

    text = json.dumps(shim.status())
    try:
        _write_whole(spec["status_file"], text)
    except OSError as error:
        _tell(f"unwritten {error.strerror}\n")
    _tell(f"ended {text}\n")


def _write_whole(path: str, text: str) -> None:
    temporary = f"{path}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = os.read(0, size - len(data))
        if not block:
            sys.exit(0)  # `up` was killed before it said what to do
        data += block
    return data


def _tell(text: str) -> None:
    data = memoryview(text.encode())
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        pass  # nobody listens any more; the status file says it too


def _rfc3339(ns: int) -> str:
    seconds, fraction = divmod(ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"
