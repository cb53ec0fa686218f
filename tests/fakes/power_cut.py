"""A disk that forgets, on a power cut, everything that was not synced.

It watches `os.fsync`: a synced file's bytes and a synced directory's entries are on the disk, all
else is not. That is the worst that POSIX allows: a rename without an fsync of its directory is
lost, a name whose file was not synced is an empty promise (bytes `None`).
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.storage import durable


class PowerCut:
    """Watches what happens below `base`, whose own entry counts as durable."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._base = base
        self._files: dict[int, bytes] = {}
        self._directories: dict[int, dict[str, tuple[int, bool]]] = {}
        self.at_each_step: Callable[[], object] | None = None
        self._paths: dict[int, bytes] = {}
        self._fsync = os.fsync
        self._open = os.open
        monkeypatch.setattr(durable, "_FULL_SYNC", None)  # macOS: let it use fsync
        monkeypatch.setattr(os, "fsync", self._sync)
        monkeypatch.setattr(os, "open", self._opened)
        for name in ("link", "rename", "unlink", "mkdir", "rmdir"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def survivors(self, root: Path) -> dict[str, bytes | None]:
        """Objects under `root` after a power cut now, temporary files left out."""
        found: dict[str, bytes | None] = {}
        node = self._base.stat().st_ino
        for part in root.relative_to(self._base).parts:
            entry = self._directories.get(node, {}).get(part)
            if entry is None:
                return found
            node = entry[0]
        self._collect(node, "", found)
        return found

    def _collect(self, node: int, below: str, found: dict[str, bytes | None]) -> None:
        for name, (inode, is_directory) in self._directories.get(node, {}).items():
            if name == ".spanyard-tmp":
                continue
            if is_directory:
                self._collect(inode, f"{below}{name}/", found)
            else:
                found[below + name] = self._files.get(inode)

    def _opened(self, path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = self._open(path, *arguments, **options)
        self._paths[descriptor] = os.fsencode(path)
        return descriptor

    def _sync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as entries:
                self._directories[status.st_ino] = {
                    entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False))
                    for entry in entries
                }
        else:
            self._files[status.st_ino] = Path(os.fsdecode(self._paths[descriptor])).read_bytes()
        self._step()

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            if name == "mkdir":  # inode numbers are given away again at once
                self._directories.pop(os.stat(arguments[0]).st_ino, None)
            self._step()
            return result

        return watched

    def _step(self) -> None:
        if self.at_each_step is not None:
            self.at_each_step()
