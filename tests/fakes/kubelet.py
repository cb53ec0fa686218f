"""A kubelet and container runtime on a real directory: CRI files, rotation and all its disorder.

Every step of a rotation can be taken by itself, so that a test may stop between any two of them.
"""

import contextlib
import gzip
import os
from pathlib import Path

PIECE = 16 * 1024
"""containerd splits lines after so many bytes."""

_START_NS = 1_795_272_300_000_000_000  # 2026-11-21T14:45:00Z


class LogClock:
    """Times for lines: each later than the one before."""

    def __init__(self, ns: int = _START_NS) -> None:
        self.ns = ns

    def next(self) -> str:
        """RFC3339Nano as containerd writes it: zeros at the end are trimmed."""
        self.ns += 1_234_500
        seconds, fraction = divmod(self.ns - _START_NS, 1_000_000_000)
        minutes, seconds = divmod(seconds, 60)
        digits = f"{fraction:09d}".rstrip("0")
        return (
            f"2026-11-21T{14 + (45 + minutes) // 60:02d}:{(45 + minutes) % 60:02d}:{seconds:02d}"
            + (f".{digits}" if digits else "")
            + "Z"
        )


class ContainerLog:
    """One run of one container: what the runtime writes, what the kubelet does to it."""

    def __init__(self, folder: Path, restart: int = 0, clock: LogClock | None = None) -> None:
        self.folder = folder
        self.restart = restart
        self.clock = clock or LogClock()
        self._stamps = 0
        self._fd = -1
        folder.mkdir(parents=True, exist_ok=True)
        self.reopen()

    # -- the runtime ---------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return self.folder / f"{self.restart}.log"

    @property
    def inode(self) -> int:
        """Of the file that the runtime writes to."""
        return os.fstat(self._fd).st_ino

    def line(self, text: str | bytes, stream: str = "stdout") -> None:
        """A line of the application; split like containerd does when it is long."""
        data = text.encode() if isinstance(text, str) else text
        while len(data) > PIECE:
            self.piece(data[:PIECE], stream)
            data = data[PIECE:]
        self.piece(data, stream, full=True)

    def piece(self, text: str | bytes, stream: str = "stdout", *, full: bool = False) -> bytes:
        """One CRI line; `full` ends the application's line. Gives what was written."""
        data = text.encode() if isinstance(text, str) else text
        tag = b"F" if full else b"P"
        raw = b" ".join((self.clock.next().encode(), stream.encode(), tag, data)) + b"\n"
        self.raw(raw)
        return raw

    def raw(self, data: bytes) -> int:
        """Bytes as they are. Gives the offset behind them."""
        os.write(self._fd, data)
        return os.fstat(self._fd).st_size

    def reopen(self) -> None:
        """The kubelet's signal after a rotation: a new file under the first name."""
        self.close()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def truncate(self, size: int = 0) -> None:
        """What nobody should do."""
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- the kubelet ---------------------------------------------------------------------------

    def rotated(self) -> list[Path]:
        """Rotated files, oldest first; of original and `.gz` side by side both."""
        prefix = f"{self.restart}.log."
        return sorted(
            self.folder / name
            for name in os.listdir(self.folder)
            if name.startswith(prefix) and not name.endswith(".tmp")
        )

    def rename(self) -> Path:
        """First half of a rotation: the runtime still writes to the renamed file."""
        self._stamps += 1
        hours, rest = divmod(self._stamps, 3600)
        stamp = f"20261121-{14 + hours:02d}{rest // 60:02d}{rest % 60:02d}"
        target = self.folder / f"{self.restart}.log.{stamp}"
        self.path.rename(target)
        return target

    def undo(self, renamed: Path) -> None:
        """The runtime could not reopen: back again, over whatever is there."""
        renamed.rename(self.path)

    def compress(self, path: Path, *, keep: bool = False) -> Path:
        """`.tmp`, then `.gz`; the original is removed, or stays for a moment with `keep`."""
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))
        packed = path.with_name(path.name + ".gz")
        temporary.rename(packed)
        if not keep:
            path.unlink()
        return packed

    def tidy(self, keep: int = 3) -> None:
        """Before a rotation: leftovers away, all compressed, the oldest deleted beyond `keep`."""
        paths = self.rotated()
        for path in paths:
            if path.suffix != ".gz":
                packed = path.with_name(path.name + ".gz")
                if packed in paths:
                    path.unlink()
                else:
                    self.compress(path)
        for path in self.rotated()[: -keep or None]:
            path.unlink()

    def rotate(self, keep: int = 3) -> None:
        """A whole rotation without trouble."""
        self.tidy(keep)
        self.rename()
        self.reopen()

    def delete(self, path: Path) -> None:
        """The file and its other form."""
        for name in (path, path.with_name(path.name + ".gz")):
            with contextlib.suppress(FileNotFoundError):
                name.unlink()
