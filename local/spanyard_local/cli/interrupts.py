"""A Ctrl-C that was lost on its way, found again where a command waits.

What a signal raises is cleared without a word where nobody can get it, as while CPython finalises a
file object (`iobase_finalize`): of 600 sessions that asked every half second one went on for ever. So
the interpreter writes the number of each signal into a pipe, too, which is looked at before each wait.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

_pipes: list[int] = []
"""Where numbers of signals are read; the last one counts."""


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Signals of this process are remembered for `check`. Only in the thread that handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers, told = os.pipe()
    os.set_blocking(numbers, False)
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    _pipes.append(numbers)
    try:
        yield
    finally:
        _pipes.remove(numbers)
        signal.set_wakeup_fd(before)
        os.close(numbers)
        os.close(told)


def check() -> None:
    """Raises KeyboardInterrupt if a Ctrl-C came since `kept` or the last call: who still waits has
    not heard of it."""
    if not _pipes:
        return
    with contextlib.suppress(BlockingIOError):
        if signal.SIGINT in os.read(_pipes[-1], 1024):
            raise KeyboardInterrupt


def sleep(seconds: float) -> None:
    """Raises KeyboardInterrupt as `check` does."""
    check()
    time.sleep(seconds)
