"""`spanyard`: where it begins."""

import atexit
import signal
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """The console script; leaves by SystemExit."""
    # `python -m` remembers a Ctrl-C that met code made from text, as for each dataclass that is loaded,
    # and ends by that signal at last, whatever exit code it was given; unless the signal is held back.
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    # The command takes a fifth of a second to load: Ctrl-C ends that without a word.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from spanyard_local.command_line import main as command
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        command(argv)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
