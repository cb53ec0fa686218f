"""Headroom: room in the spool for what must be possible even when it is full.

That is state files, without which uploaded entries could never go, and lines that say that the
spool is full. In the budget it is always taken, so ordinary entries never get it; what is written
into it is paid back by whatever is released next. On the disk a file holds its place, for the case
that others fill the disk.
"""

import contextlib

from spanyard_core.files import Files
from spanyard_sidecar.budget import DiskBudget, SpoolFullError, on_disk


class Headroom:
    """`size` bytes of the budget, of which `spent` are in use."""

    def __init__(self, files: Files, path: str, budget: DiskBudget, size: int) -> None:
        self._files = files
        self._path = path
        self._budget = budget
        self._file_size = on_disk(size)
        self.size = self._file_size
        self.spent = 0
        self._present = False

    def adopt(self, others: int, *, present: bool) -> None:
        """At the start: `others` bytes are on disk beside our file; what is too much was ours."""
        self._present = present
        excess = others + self.size - self._budget.limit
        if excess > 0:  # also when a power cut brought back what was deleted
            self.give_disk()
            self.spent = min(self.size, excess)
        self._budget.adopt(others + self.size - self.spent)

    def spend(self, charge: int, *, share: float = 1.0) -> bool:
        """Take `charge` bytes of the headroom, if no more than `share` of it is used then."""
        if self.spent + charge > self.size * share:
            return False
        self.give_disk()
        self.spent += charge
        return True

    def release(self, charge: int) -> None:
        """Bytes on disk were given back: first to the headroom."""
        back = min(self.spent, charge)
        self.spent -= back
        self._budget.release(charge - back)

    def give_disk(self) -> bool:
        """Remove the file that holds the place on disk; whether there was one."""
        if not self._present:
            return False
        self._files.unlink(self._path)
        self._present = False
        return True

    def grow(self, size: int) -> None:
        """State files have become larger: keep room for the next one, as soon as there is some."""
        more = on_disk(size) - self.size
        if more > 0:
            with contextlib.suppress(SpoolFullError):
                self._budget.reserve(more)
                self.size += more

    async def restore(self) -> None:
        """Hold the place on disk again when all is paid back. Raises OSError."""
        if self._present or self.spent:
            return
        try:
            await self._files.preallocate(self._path, self._file_size)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.unlink(self._path)
            raise
        self._present = True
