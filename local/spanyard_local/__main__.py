"""`spanyard`: where it begins."""

import signal
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """The console script; leaves by SystemExit."""
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
