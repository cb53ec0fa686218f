"""The data folder: one process at a time, whoever comes second waits and says so.

A pod that replaces another may start while the old one still ends. The lock is the kernel's: it
goes with the process that holds it, however that ends.
"""

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError

log = logging.getLogger("spanyard.server")

_LOOK_EVERY_S = 0.5


@contextlib.asynccontextmanager
async def held(folder: Path, clock: Clock, waiting: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the folder while the block runs; `waiting` is told why it takes longer.

    Raises SettingError when the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in ("bucket", "clickhouse"):
            (folder / part).mkdir(exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingError(
            f"data: {error.filename or str(folder)!r} cannot be used: {error.strerror}. Give a "
            "folder that this user may write with --data or SPANYARD_DATA (a volume's fsGroup)"
        ) from error
    try:
        await _take(descriptor, folder, clock, waiting)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, socket.gethostname().encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _take(
    descriptor: int, folder: Path, clock: Clock, waiting: Callable[[str], None]
) -> None:
    told = ""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
            problem = f"{holder or 'another process'} works on {str(folder)!r}; waiting for its end"
            if problem != told:
                log.warning("%s", problem)
                waiting(problem)
                told = problem
        else:
            return
        await clock.sleep(_LOOK_EVERY_S)
