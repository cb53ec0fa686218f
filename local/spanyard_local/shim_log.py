"""A container's log file as a shim writes it: the kubelet's format, thought in blocks of bytes.

A block of lines gets its prefixes by one `replace`, because a shim lives beside every server and a
server may print 50,000 lines in a second; tests compare it with a plain writer of the format.
Standard library only, and little of it: a shim is small.

A full disk makes nobody lose a line: what could not be written waits here, nothing more is read
from the pipes until it is out, and so the application waits in its own `write`. Rotation renames
like the kubelet; rotated files are not compressed, because readers take both and the compressor
would cost more than all the rest.
"""

import os
import time

PIECE_BYTES = 16 * 1024
"""containerd's default `max_container_log_line_size`."""
TAIL_BYTES = 32 * 1024
TAIL_LINES = 20
TAIL_CHARACTERS = 500


class CriWriter:
    """The log file of one run of one container; both streams in the order in which they came."""

    def __init__(self, folder: str, restart: int, *, max_size: int, max_files: int) -> None:
        """`max_size` in bytes per file; `max_files` with the one being written."""
        self._folder = folder
        self._name = f"{restart}.log"
        self._path = os.path.join(folder, self._name)
        self._max_size = max_size
        self._max_files = max_files
        self._descriptor = -1
        self._size = 0
        self._waiting: list[memoryview] = []
        self._waiting_lines: list[int] = []
        self.lines = 0
        """Whole lines written: what a collector makes records of."""
        self._stamp = (-1, "")
        self._tail = b""

    def take(self, stream: str, data: bytes, *, ended: bool = True) -> None:
        """Bytes of one stream, read just now. They end in a newline, or with the stream (`ended`),
        or after a whole piece of a line that goes on (not `ended`). `flush` writes them."""
        stamp = f"{self._now()} {stream} ".encode()
        full, partial = stamp + b"F ", stamp + b"P "
        lines = data.count(b"\n")
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        made: list[bytes] = []
        if cut:
            whole = data[:cut] if rest else data
            if _has_long_line(whole):
                made += [_in_pieces(line, full, partial) for line in whole[:-1].split(b"\n")]
            else:
                made.append(full + whole[:-1].replace(b"\n", b"\n" + full) + b"\n")
        if rest and ended:
            lines += 1
            made.append(_in_pieces(rest, full, partial))
        elif rest:
            at = 0
            while at < len(rest):
                made.append(partial + rest[at : at + PIECE_BYTES] + b"\n")
                at += PIECE_BYTES
        if made:
            self._waiting.append(memoryview(made[0] if len(made) == 1 else b"".join(made)))
            self._waiting_lines.append(lines)
        self._remember(data, ended)

    @property
    def waiting(self) -> bool:
        """Whether something could not be written yet."""
        return bool(self._waiting)

    @property
    def waiting_lines(self) -> int:
        return sum(self._waiting_lines)

    def flush(self) -> None:
        """Write what waits. Raises OSError for a full or broken disk: call it again later."""
        while self._waiting:
            if self._descriptor < 0:
                self._open()
            written = os.write(self._descriptor, self._waiting[0])
            self._size += written
            if written < len(self._waiting[0]):
                self._waiting[0] = self._waiting[0][written:]
                continue
            del self._waiting[0]
            self.lines += self._waiting_lines.pop(0)
            if self._size >= self._max_size:
                self._rotate()

    def tail(self) -> list[str]:
        """The last lines, the oldest first; long ones are cut."""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        if lines and not lines[-1]:
            lines.pop()
        return [
            line if len(line) <= TAIL_CHARACTERS else line[: TAIL_CHARACTERS - 1] + "…"
            for line in (line.rstrip("\r") for line in lines[-TAIL_LINES:])
        ]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open(self) -> None:
        """Make the file, so that it is there before the first line. Raises OSError."""
        if self._descriptor < 0:
            self._open()

    def _open(self) -> None:
        os.makedirs(self._folder, exist_ok=True)
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        rotated = self._rotated()
        os.rename(self._path, f"{self._path}.{_next_stamp(rotated[-1] if rotated else '')}")
        for stamp in rotated[: max(0, len(rotated) + 2 - self._max_files)]:
            os.unlink(f"{self._path}.{stamp}")

    def _rotated(self) -> list[str]:
        start = self._name + "."
        names = (name for name in os.listdir(self._folder) if name.startswith(start))
        return sorted(name[len(start) :] for name in names)

    def _now(self) -> str:
        seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
        if seconds != self._stamp[0]:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
            self._stamp = (seconds, text)
        return f"{self._stamp[1]}.{fraction:09d}Z"

    def _remember(self, data: bytes, ended: bool) -> None:
        if len(data) >= TAIL_BYTES:
            self._tail = data[-TAIL_BYTES:]
        else:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        if ended and not self._tail.endswith(b"\n"):
            self._tail += b"\n"


def _has_long_line(lines: bytes) -> bool:
    """Whether one of these whole lines is longer than a piece; looks once per 16 KiB."""
    at = 0
    while len(lines) - at > PIECE_BYTES + 1:
        newline = lines.rfind(b"\n", at, at + PIECE_BYTES + 1)
        if newline < 0:
            return True
        at = newline + 1
    return False


def _in_pieces(line: bytes, full: bytes, partial: bytes) -> bytes:
    if len(line) <= PIECE_BYTES:
        return full + line + b"\n"
    made = []
    at = 0
    while len(line) - at > PIECE_BYTES:
        made.append(partial + line[at : at + PIECE_BYTES] + b"\n")
        at += PIECE_BYTES
    made.append(full + line[at:] + b"\n")
    return b"".join(made)


def _next_stamp(newest: str) -> str:
    """Now, or the second after the newest rotated file's: the kubelet never rotates twice in a
    second, and readers take the order of these names for the order of the files."""
    seconds = int(time.time())
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    while stamp <= newest:
        if newest[:8] > stamp[:8]:  # a clock that was set back: count on from there
            seconds = _seconds_of(newest)
        seconds += 1
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    return stamp


def _seconds_of(stamp: str) -> int:
    import calendar  # only after a clock was set back

    numbers = (stamp[:4], stamp[4:6], stamp[6:8], stamp[9:11], stamp[11:13], stamp[13:15])
    return calendar.timegm((*map(int, numbers), 0, 0, 0))
