"""Appender: the end of the OTLP log. Writes a group, syncs it, and takes it back when that fails.

Nothing is ever appended behind bytes that are not good: what a failed write or sync left is
truncated away before the next. After a failed sync that matters most: the kernel may have thrown
the pages away and call them clean, and the next sync would succeed without them.
"""

import contextlib
import logging
from collections.abc import Sequence

from spanyard_core.faults import fault_point
from spanyard_core.files import AppendFile, Files
from spanyard_sidecar.budget import DiskBudget, on_disk
from spanyard_sidecar.otlp.segments import Segment, segment_path

log = logging.getLogger("spanyard.sidecar")

_JOIN = 4 << 20
"""Groups up to this size go out in one write; larger ones are not copied once more."""


class Appender:
    """The segments and the file at their end. `write` is called by one task only."""

    def __init__(
        self, files: Files, directory: str, budget: DiskBudget, segment_bytes: int
    ) -> None:
        self.segments: dict[int, Segment] = {}
        """By number, ascending; the last one is written to."""
        self._files = files
        self._directory = directory
        self._budget = budget
        self._segment_bytes = segment_bytes
        self._file: AppendFile | None = None
        self._untidy = False
        self._last = 0

    async def adopt(self, segments: Sequence[Segment], *, torn: bool, after: int) -> None:
        """Go on behind `segments`, with numbers greater than `after` also when there are none.

        What a crash left unsynced is made durable first.
        """
        self._last = after
        for segment in segments:
            self.segments[segment.n] = segment
            segment.charge = on_disk(segment.end)
            self._budget.adopt(segment.charge)
            self._last = segment.n
        if segments:
            active = segments[-1]
            self._file = self._files.open_append(active.path)
            if torn:
                size = self._file.size - active.end
                log.warning(
                    "%s: %d bytes at its end, never acknowledged, removed", active.path, size
                )
                self._file.truncate(active.end)
            await self._file.sync()
        await self._files.sync_dir(self._directory)

    @property
    def begins_segment(self) -> bool:
        """The next group is the first of a new segment: it has to begin with an opening frame."""
        return self._file is None or self._file.size >= self._segment_bytes

    async def write(self, parts: Sequence[bytes]) -> Segment:
        """Append a group and sync it; gives its segment, whose `end` is for the caller to move.

        Raises SpoolFullError and OSError; then nothing of the group is there.
        """
        size = sum(map(len, parts))
        if self._untidy:
            self._tidy()
        if self.begins_segment:
            return await self._write_new(parts, size)
        assert self._file is not None
        segment = self.segments[self._last]
        charge = on_disk(segment.end + size) - segment.charge
        self._budget.reserve(charge)
        try:
            self._put(self._file, parts, size)
            fault_point("otlp.appended")
            await self._file.sync()
        except OSError:
            self._budget.release(charge)
            self._untidy = True
            with contextlib.suppress(OSError):  # comes again before the next group
                self._tidy()
            raise
        segment.charge += charge
        return segment

    async def _write_new(self, parts: Sequence[bytes], size: int) -> Segment:
        n = self._last + 1
        segment = Segment(n, segment_path(self._directory, n), charge=on_disk(size))
        self._budget.reserve(segment.charge)
        file: AppendFile | None = None
        try:
            file = self._files.open_append(segment.path)
            if file.size:
                file.truncate(0)  # left by an attempt that could not even be removed
            self._put(file, parts, size)
            fault_point("otlp.appended")
            await file.sync()
            await self._files.sync_dir(self._directory)
        except OSError:
            self._budget.release(segment.charge)
            if file is not None:
                file.close()
            with contextlib.suppress(OSError):
                self._files.unlink(segment.path)
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._last = file, n
        self.segments[n] = segment
        return segment

    def remove(self, segment: Segment) -> None:
        """Delete a segment that nobody needs. Raises OSError; repeat then."""
        self._files.unlink(segment.path)
        del self.segments[segment.n]
        self._budget.release(segment.charge)

    def close(self) -> None:
        """Give back the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, file: AppendFile, parts: Sequence[bytes], size: int) -> None:
        for data in parts if size > _JOIN else (b"".join(parts),):
            file.write(data)

    def _tidy(self) -> None:
        """Truncate what a failed group left. Raises OSError."""
        assert self._file is not None
        self._file.truncate(self.segments[self._last].end)
        self._untidy = False
