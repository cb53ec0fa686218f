"""The disk budget: what the collector may keep on disk in all, and who holds how much of it.

Entries, state files, the reserve, and OTLP's log take from one budget, so that their sum never
passes `spool_limit`. Sizes are rounded up to blocks of the file system, which is what a file
really takes.
"""

from collections.abc import Callable

from spanyard_core.errors import SpanyardError

BLOCK = 4096


def on_disk(size: int) -> int:
    """Bytes that a file of `size` bytes takes on disk, about."""
    return -(-size // BLOCK) * BLOCK


class SpoolFullError(SpanyardError):
    """There is no room left in the spool: storage is away or too slow. Nothing was changed."""


class DiskBudget:
    """Counts bytes on disk against a limit. Not a file system: callers take before they write."""

    def __init__(self, limit: int, name: str = "spool") -> None:
        self.limit = limit
        self.name = name
        self.used = 0
        self.refused = 0
        """How often there was no room."""
        self._relief: list[Callable[[int], None]] = []

    @property
    def free(self) -> int:
        """Bytes that may still be taken; never negative."""
        return max(0, self.limit - self.used)

    def on_pressure(self, relief: Callable[[int], None]) -> None:
        """Call `relief(bytes short)` before refusing; it may release what can be spared."""
        self._relief.append(relief)

    def reserve(self, size: int) -> None:
        """Take `size` bytes. Raises SpoolFullError when they are not there, changing nothing."""
        if self.used + size > self.limit:
            for relief in self._relief:
                relief(self.used + size - self.limit)
            if self.used + size > self.limit:
                self.refused += 1
                raise SpoolFullError(
                    f"the {self.name} is full: {self.used} of {self.limit} bytes are used and "
                    f"{size} more are needed; it empties when storage takes uploads again"
                )
        self.used += size

    def adopt(self, size: int) -> None:
        """Take `size` bytes that are on disk already (at start), even beyond the limit."""
        self.used += size

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self.used -= size
        assert self.used >= 0, f"the {self.name} budget gave back more than it took"

    def share(self, limit: int, name: str) -> "DiskBudget":
        """A part with a limit of its own, which also counts here."""
        return _Share(self, limit, name)


class _Share(DiskBudget):
    def __init__(self, whole: DiskBudget, limit: int, name: str) -> None:
        super().__init__(limit, name)
        self._whole = whole

    def reserve(self, size: int) -> None:
        super().reserve(size)
        try:
            self._whole.reserve(size)
        except SpoolFullError:
            super().release(size)
            self.refused += 1
            raise

    def adopt(self, size: int) -> None:
        super().adopt(size)
        self._whole.adopt(size)

    def release(self, size: int) -> None:
        super().release(size)
        self._whole.release(size)
