"""Single keys of who sits at a terminal, without Enter; and what happens to a terminal meanwhile."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from spanyard_local.cli import interrupts, reader


class Keys:
    """Made by `listening`; where standard input is no terminal there are none."""

    def __init__(self, source: int | None) -> None:
        self._source = source
        self._pressed = ""

    def wait(self, seconds: float) -> str:
        """The key that is pressed within so many seconds; empty for none."""
        if self._pressed:
            return self._next()
        if self._source is None:
            reader.pause(seconds)
            return ""
        interrupts.check()
        ready, _, _ = select.select([self._source], [], [], seconds)
        pressed = os.read(self._source, 16) if ready else b""
        if ready and not pressed:  # the terminal is gone: it would be ready for ever
            self._source = None
        if not pressed.startswith(b"\x1b"):  # an arrow and the like: none of ours
            self._pressed = pressed.decode("utf-8", "replace")
        return self._next()

    def _next(self) -> str:
        key, self._pressed = self._pressed[:1], self._pressed[1:]
        return key


@contextlib.contextmanager
def listening() -> Iterator[Keys]:
    """Keys come one by one and are not shown; Ctrl-C and Ctrl-Z stay what they are.

    Whoever gets the terminal next finds it as it was: after Ctrl-Z, SIGTERM, and any error.
    """
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    import termios
    import tty

    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)

    def stop(*_: object) -> None:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # and here it goes on, in the foreground again
        signal.signal(signal.SIGTSTP, stop)
        tty.setcbreak(source)

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with contextlib.ExitStack() as stack:
        stack.callback(termios.tcsetattr, source, termios.TCSADRAIN, before)
        for number, handler in ((signal.SIGTSTP, stop), (signal.SIGTERM, end)):
            stack.callback(signal.signal, number, signal.signal(number, handler))
        tty.setcbreak(source)
        yield Keys(source)


@contextlib.contextmanager
def coming_back(back: Callable[[], None]) -> Iterator[None]:
    """`back` is called whenever the program goes on after it was stopped: its screen is not as it
    left it."""
    before = signal.signal(signal.SIGCONT, lambda *_: back())
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)
