"""`spanyard`: where it begins."""

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Sequence

_AGAIN_S = 0.05
"""A Ctrl-C that got lost comes once more after so many seconds."""


def main(argv: Sequence[str] | None = None) -> None:
    """The console script; leaves by SystemExit."""
    # `python -m` remembers a Ctrl-C that met code made from text, as for each dataclass that is loaded,
    # and ends by that signal at last, whatever exit code it was given; unless the signal is held back.
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    sys.unraisablehook = _unraisable
    # The command takes a fifth of a second to load: Ctrl-C ends that without a word.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from spanyard_local.cli import interrupts
        from spanyard_local.command_line import main as command
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        with interrupts.kept():
            command(argv)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """A Ctrl-C where nothing can be raised is lost: one of two hundred while modules are loaded."""
    if not isinstance(what.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(what)
        return
    # From another thread: right here it would be lost again. `threading` would wait for its thread to
    # run, and on a busy machine still be here when the signal comes.
    _thread.start_new_thread(_again, ())


def _again() -> None:
    time.sleep(_AGAIN_S)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
