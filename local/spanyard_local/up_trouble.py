"""What the parts of `spanyard up` log as trouble, told on its terminal too, and a log that may fail.

The log file is where nobody looks while a disk fills up; the same disk holds it, so that it may not
even be there. Each sentence is told once a minute at most.
"""

import contextlib
import io
import logging
import re
import time
from collections.abc import Callable
from typing import IO

AGAIN_S = 60.0
MOST_KEPT = 200
"""Sentences; those that differ in numbers alone are one."""


class Trouble(logging.Handler):
    """Passes warnings and errors of our own parts on."""

    def __init__(
        self, tell: Callable[[str, bool], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` is given the sentence, and whether it is an error."""
        super().__init__(logging.WARNING)
        self._tell = tell
        self._now = now
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Told, unless it was told just now. Warnings of libraries are in the log alone."""
        if record.name.partition(".")[0] != "spanyard":
            return
        text = record.getMessage()
        key, now = re.sub(r"[0-9a-f-]*\d[0-9a-f-]*", "#", text), self._now()
        if now - self._told.get(key, -AGAIN_S) < AGAIN_S:
            return
        if len(self._told) >= MOST_KEPT:
            self._told.clear()
        self._told[key] = now
        self._tell(text, record.levelno >= logging.ERROR)


class Patient(io.TextIOBase):
    """A log whose disk may be full: what it does not take now is written with what comes next."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Raises nothing of the system's."""
        with contextlib.suppress(OSError):
            self._out.write(text)
        return len(text)

    def flush(self) -> None:
        """Raises nothing of the system's."""
        with contextlib.suppress(OSError, ValueError):  # closed: the interpreter flushes at its end
            self._out.flush()

    def close(self) -> None:
        """With the log itself."""
        super().close()
        with contextlib.suppress(OSError):
            self._out.close()
