"""Standard output that never holds up the loop: a thread writes what it is given.

A terminal may be paused (Ctrl-S), a pipe may be full, and collectors, proxies and the gateway run in
the loop that prints. What waits is bounded by those who ask `full` before they print a line.
"""

import contextlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import IO

MOST_WAITING = 5_000
"""Texts; a line is one."""
LAST_S = 5.0
"""For the rest at the end; a terminal that is still paused then keeps it."""


class Unhurried(io.TextIOBase):
    """See the module. When nobody reads any more, `gone` is called once, from the thread."""

    def __init__(self, out: IO[str], gone: Callable[[], None]) -> None:
        self._out = out
        self._gone = gone
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="standard output", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether what can be left out should be."""
        return self._waiting.qsize() > MOST_WAITING

    def write(self, text: str) -> int:
        """Returns at once; raises nothing."""
        self._waiting.put(text)
        return len(text)

    def flush(self) -> None:
        """The thread flushes."""

    def end(self, seconds: float = LAST_S) -> bool:
        """Write what waits; False when that takes longer. Nothing may be written afterwards."""
        self._waiting.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        there = True
        while (text := self._waiting.get()) is not None:
            if not there:
                continue
            try:
                self._out.write(text)
                if self._waiting.empty():
                    self._out.flush()
            except (OSError, ValueError):  # the pipe was closed, the terminal is gone
                there = False
                self._close_for_good()
                self._gone()
        with contextlib.suppress(OSError, ValueError):
            self._out.flush()

    def _close_for_good(self) -> None:
        """So that the interpreter does not stumble over what is left when it exits."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)
