"""Single keys of who sits at a terminal, without Enter."""

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator


class Keys:
    """Made by `listening`; where standard input is no terminal there are none."""

    def __init__(self, source: int | None) -> None:
        self._source = source

    def wait(self, seconds: float) -> str:
        """The key that is pressed within so many seconds; empty for none."""
        if self._source is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._source], [], [], seconds)
        pressed = os.read(self._source, 16) if ready else b""
        if ready and not pressed:  # the terminal is gone: it would be ready for ever
            self._source = None
        return pressed.decode("utf-8", "replace")[:1]


@contextlib.contextmanager
def listening() -> Iterator[Keys]:
    """Keys come one by one and are not shown; Ctrl-C stays what it is."""
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    import termios
    import tty

    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    try:
        tty.setcbreak(source)
        yield Keys(source)
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
