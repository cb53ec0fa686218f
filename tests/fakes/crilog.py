"""A container's log as kubelet and containerd write it, thought line by line, with rotation.

What a shim writes is compared with it, and collectors in tests read it. Format: containerd's CRI log,
`{RFC3339Nano} {stdout|stderr} {P|F} {text}`, pieces of 16 KiB marked P, the last one F. Layout:
`{root}/{namespace}_{pod}_{uid}/{container}/{restart}.log`; rotation renames to
`{restart}.log.{YYYYmmdd-HHMMSS}`, compresses all but the newest rotated file, and keeps a few.
"""

import gzip
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from spanyard_core.clock import Clock, rfc3339

PIECE_BYTES = 16 * 1024
"""containerd's default `max_container_log_line_size`."""
STAMP = "%Y%m%d-%H%M%S"
"""The kubelet's suffix of rotated files."""
_ROTATED = re.compile(r"\.log\.(\d{8}-\d{6})(?:\.|$)")


class CriLog:
    """The log file of one run of one container. Whole lines go in; not thread-safe."""

    def __init__(
        self,
        root: Path,
        *,
        namespace: str,
        pod: str,
        uid: str,
        container: str,
        restart: int,
        clock: Clock,
        max_size: int = 10 * 1024 * 1024,
        max_files: int = 5,
    ) -> None:
        self.directory = root / f"{namespace}_{pod}_{uid}" / container
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / f"{restart}.log"
        self._clock = clock
        self._max_size = max_size
        self._max_files = max_files
        self.lines = 0
        """Whole lines written: what a collector makes records of."""
        self._open()

    def _open(self) -> None:
        self._file: IO[bytes] = self.path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, stream: str, data: bytes, *, ended: bool = True) -> None:
        """Append lines of one stream, read at one moment; `data` ends in a newline or `ended` is
        False, and then its last piece is marked partial."""
        stamp = rfc3339(self._clock.time_ns()).encode()
        full = stamp + b" " + stream.encode() + b" F "
        partial = stamp + b" " + stream.encode() + b" P "
        out = bytearray()
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            at = 0
            while len(line) - at > PIECE_BYTES:
                out += partial + line[at : at + PIECE_BYTES] + b"\n"
                at += PIECE_BYTES
            out += full + line[at:] + b"\n"
        self.lines += len(lines) + (1 if rest and ended else 0)
        at = 0
        while rest and at < len(rest):
            piece = rest[at : at + PIECE_BYTES]
            at += PIECE_BYTES
            last = ended and at >= len(rest)
            out += (full if last else partial) + piece + b"\n"
        if out:
            self._append(out)

    def _append(self, data: bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._size += len(data)
        if self._size >= self._max_size:
            self._rotate()

    def _rotate(self) -> None:
        self._file.close()
        self.path.rename(f"{self.path}.{self._next_stamp()}")
        self._open()
        rotated = sorted(
            p for p in self.directory.glob(f"{self.path.name}.*") if not p.name.endswith(".tmp")
        )
        for old in rotated[: -(self._max_files - 1)]:
            old.unlink()
        for old in rotated[-(self._max_files - 1) : -1]:
            if not old.name.endswith(".gz"):
                _compress(old)

    def _next_stamp(self) -> str:
        """Now, or the second after the newest rotated file's.

        The kubelet never rotates twice in a second; a burst may here. Readers know no other names,
        and take their order for the files' order.
        """
        now = datetime.fromtimestamp(self._clock.time_ns() // 10**9, UTC)
        taken = (
            match[1]
            for path in self.directory.glob(f"{self.path.name}.*")
            if (match := _ROTATED.search(path.name))
        )
        newest = max(taken, default="")
        if newest >= now.strftime(STAMP):
            now = datetime.strptime(newest, STAMP).replace(tzinfo=UTC) + timedelta(seconds=1)
        return now.strftime(STAMP)

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._file.close()


def _compress(path: Path) -> None:
    temporary = Path(f"{path}.tmp")
    with path.open("rb") as source, gzip.open(temporary, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    os.replace(temporary, f"{path}.gz")
    path.unlink()
