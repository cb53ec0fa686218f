"""What the SDK itself says in the application's log.

A handler of that log may forward to `spanyard.log`, and so come back here. Three rules keep that
from hanging or going round in a circle: nothing is said while a lock of ours is held (another
thread may hold the handler's lock and wait for ours); nothing is said from within saying; and what
came up meanwhile is said once, afterwards.
"""

import contextlib
import logging
import threading
from collections import deque

log = logging.getLogger("spanyard")

_MOST = 16
"""Texts that wait, and texts said in one go: a log that makes more of each is not fed by us."""

_waiting: deque[str] = deque(maxlen=_MOST)
_here = threading.local()


def later(text: str) -> None:
    """Say this at the next `speak()`. For places where a lock is held."""
    _waiting.append(text)


def speak() -> None:
    """Say what waits. Only where no lock of ours is held; never raises."""
    if not _waiting or getattr(_here, "speaking", False):
        return
    _here.speaking = True
    try:
        for _ in range(_MOST):
            try:
                text = _waiting.popleft()
            except IndexError:
                return
            with contextlib.suppress(Exception):  # a handler of the application's that fails
                log.warning("%s", text)
    finally:
        _here.speaking = False


def forget() -> None:
    """In a forked child: what waits is the parent's to say."""
    _waiting.clear()
