"""Inotify: wakes a reader that has gone to sleep as soon as something below its folders changes.

Only a help: polling goes on beside it (every 250 ms when idle), for file systems that tell nothing
and machines without inotify. It is armed only while the reader is idle: 50,000 writes per second
must not mean 50,000 wake-ups.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence

log = logging.getLogger("spanyard.sidecar")

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_ONLYDIR = 0x01000000
_MASK = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_ONLYDIR
"""Of inotify(7)."""

MAX_FOLDERS = 200
"""Of each root; the kernel's limit per user is often 8,192, and others need some, too."""


class Inotify:
    """Watches folders and the folders in them, down to `depth`; calls `wake` once per `arm`."""

    def __init__(self, roots: Sequence[str], wake: Callable[[], None], *, depth: int = 2) -> None:
        self._roots = [root for root in roots if root]
        self._wake = wake
        self._depth = depth
        self._descriptor = -1
        self._watched: set[str] = set()
        self._armed = False
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    @property
    def works(self) -> bool:
        """Whether there is anything that can wake us."""
        return self._descriptor >= 0 and bool(self._watched)

    def open(self) -> None:
        """Begin to watch; where that is not possible, say so once and do nothing."""
        if self._libc is None or not self._roots:
            return
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            log.info("inotify does not work (%s); polling", os.strerror(ctypes.get_errno()))
            return
        self.look()

    def look(self) -> None:
        """Watch folders that are new; call it now and then. Raises nothing."""
        if self._descriptor < 0:
            return
        for root in self._roots:
            found = [root]
            for folder in found:
                level = folder[len(root) :].count("/")
                if level < self._depth and len(found) < MAX_FOLDERS:
                    with contextlib.suppress(OSError), os.scandir(folder) as entries:
                        found += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            self._watched.intersection_update(f for f in self._watched if os.path.isdir(f))
            for folder in found[:MAX_FOLDERS]:
                self._watch(folder)

    def _watch(self, folder: str) -> None:
        if folder in self._watched:
            return
        assert self._libc is not None
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _MASK)
        if watch >= 0:
            self._watched.add(folder)
        elif ctypes.get_errno() == errno.ENOSPC:
            log.info("inotify has no watches left (fs.inotify.max_user_watches); polling")
            self.close()

    def arm(self) -> None:
        """Wake at the next change, once."""
        if self._descriptor >= 0 and not self._armed:
            self._armed = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._fired)

    def _fired(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._armed = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 64 * 1024):
                pass
        self._wake()

    def close(self) -> None:
        """Watch no more. Idempotent."""
        if self._descriptor >= 0:
            if self._armed:
                asyncio.get_running_loop().remove_reader(self._descriptor)
                self._armed = False
            os.close(self._descriptor)
            self._descriptor = -1
            self._watched.clear()
