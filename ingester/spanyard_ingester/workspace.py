"""Workspace: the folder of temporary files between storage and the engine.

Its files need no durability: after a crash they are made anew, and a start removes what the
process before left behind.
"""

import contextlib
import re
from pathlib import Path

from spanyard_core.files import AppendFile, Files


class Workspace:
    """One owner's folder below a temporary directory."""

    def __init__(self, files: Files, directory: str, owner: str, instance: str) -> None:
        self._files = files
        self._folder = f"{directory}/spanyard-ingester-{re.sub(r'[^A-Za-z0-9.-]', '_', owner)}"
        self._instance = instance
        self._count = 0

    def open(self) -> None:
        """Make the folder and empty it of what an earlier process of this owner left."""
        self._files.mkdir(self._folder)
        for name in self._files.listdir(self._folder):
            if not name.startswith(self._instance):
                self._files.unlink(f"{self._folder}/{name}")

    def create(self) -> tuple[Path, AppendFile]:
        """A new empty file, open for writing."""
        self._count += 1
        path = f"{self._folder}/{self._instance}-{self._count}.jsonl.zst"
        return Path(path), self._files.open_append(path)

    def keep(self, data: bytes) -> Path:
        """Write `data` into a new file. Raises OSError (a full disk)."""
        path, file = self.create()
        try:
            file.write(data)
        except BaseException:
            self.remove(path)
            raise
        finally:
            file.close()
        return path

    def remove(self, path: Path) -> None:
        """Remove a file that is no longer needed."""
        with contextlib.suppress(OSError):  # the next start removes it
            self._files.unlink(str(path))
