"""SIGTERM and SIGINT that come while nobody listens wait, instead of being lost.

The kernel drops them for process 1 of a container that has no handler, and a program takes up to a
second to be loaded: a pod that is deleted in that second would hang for its whole grace period. Held,
they stay pending, also through `execve`. Threads and child processes inherit what is held: `release`
comes before any of them is started.

Imports nothing that takes time: it comes first of all.
"""

import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def hold() -> None:
    """From now on they wait; called by the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release() -> None:
    """What has waited comes now: there are handlers, or this command sets none."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
