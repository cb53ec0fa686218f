"""Who reads what a command prints: once it has gone (`| head -1`), there is nothing to wait for.

A write would tell, but who follows may have nothing to write for hours.
"""

import os
import select
import stat
import sys
from typing import NoReturn

from spanyard_local.cli import interrupts


def pipe() -> int | None:
    """Standard output where it is a pipe, whose error says that nobody reads it any more."""
    try:
        out = sys.stdout.fileno()
        return out if stat.S_ISFIFO(os.fstat(out).st_mode) else None
    except (OSError, ValueError):  # closed, or none at all
        return None


def gone() -> NoReturn:
    """As a write would. Raises BrokenPipeError."""
    raise BrokenPipeError("nobody reads this any more")


def pause(seconds: float) -> None:
    """Sleep. Raises BrokenPipeError as soon as nobody reads any more, and KeyboardInterrupt for a
    Ctrl-C that was lost."""
    out = pipe()
    if out is None:
        interrupts.sleep(seconds)
        return
    interrupts.check()
    poll = select.poll()
    poll.register(out, 0)  # errors are told always
    if poll.poll(seconds * 1000):
        gone()
