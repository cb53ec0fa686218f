"""One span file of one signal: locked, append-only, whole lines (docs/span-files.md)."""

import contextlib
import fcntl
import os
import time

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class SpanFile:
    """The file that this process writes for one signal, and the next one after its rotation.

    Not for use by two threads at once. Raises OSError; whoever calls counts it.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._fd = -1
        self._stem = ""
        self._size = 0
        self._rest = b""
        """End of a line of which the disk took only the beginning; goes out before anything else."""
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a file to append to."""
        return self._fd >= 0

    def append(self, line: bytes) -> None:
        """Write one whole line. When it raises, nothing of the line was or will be written."""
        if self._fd < 0:
            self._open()
        elif self._size and self._size + len(line) > self._limit and not self._rest:
            self._finish()
            self._open()
        kept = len(self._rest)
        data = self._rest + line if kept else line
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        except OSError:
            if written <= kept:  # of this line nothing is there
                self._rest = data[written:kept]
                raise
            # It has begun: no other way than to bring it to its end, with the next write.
        finally:
            self._size += written
        self._rest = data[written:]

    def _open(self) -> None:
        self._make_folder()
        stem = f"{time.time_ns()}-{os.urandom(8).hex()}"
        path = f"{self._folder}/{stem}"
        fd = os.open(path + ".tmp", _OPEN, 0o644)
        try:
            # Nobody else knows the name yet, so this never waits; and once it is seen it is locked.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(path + ".tmp", path + ".jsonl")
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(path + ".tmp")
            raise
        self._fd, self._stem, self._size, self._rest = fd, stem, 0, b""
        self.opened += 1

    def _make_folder(self) -> None:
        try:
            os.makedirs(os.path.dirname(self._folder), exist_ok=True)
            os.mkdir(self._folder)
        except FileExistsError:
            return
        # The collector is another user of the pod and deletes what it has stored.
        with contextlib.suppress(OSError):
            os.chmod(self._folder, 0o777)  # noqa: S103 - see above

    def _finish(self) -> None:
        """Say that the file is complete, and give the lock back."""
        fd, self._fd = self._fd, -1
        path = f"{self._folder}/{self._stem}"
        try:
            if not self._rest:
                with contextlib.suppress(FileNotFoundError):  # somebody removed it: nothing to say
                    os.rename(path + ".jsonl", path + ".closed.jsonl")
        finally:
            os.close(fd)

    def close(self) -> bool:
        """End the file; a later append begins another. False: its last line stays half."""
        if self._fd < 0:
            return True
        if self._rest:
            with contextlib.suppress(OSError):
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        whole = not self._rest
        with contextlib.suppress(OSError):
            self._finish()
        self._rest = b""
        return whole

    def forget(self) -> None:
        """In a forked child: the file, its lock and its pending bytes are the parent's."""
        if self._fd >= 0:
            os.close(self._fd)  # never LOCK_UN: the lock is shared with the parent
        self._fd, self._rest, self._size = -1, b"", 0
