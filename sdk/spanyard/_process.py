"""The sink of this process: made at first use, completed at the end, left behind by a fork."""

import atexit
import logging
import os
import threading

from spanyard import _voice
from spanyard._settings import SPANS_DIR, Settings, read_settings
from spanyard._sink import Sink, Stats
from spanyard_core.errors import SettingError

_FORK_SECONDS = 1.0
"""A fork waits this long for an event that is being written; a disk that hangs must not hold it."""


class _Unread:
    """The environment was not looked at yet."""


_sink: Sink | _Unread | None = _Unread()
_reason = ""
_making = threading.RLock()
_forking = threading.local()
generation = 0
"""Changes in a forked child; a span that began before it belongs to the parent."""


def sink() -> Sink | None:
    """The process's sink, None when there is none. Reads the environment at first use."""
    current = _sink
    if isinstance(current, _Unread):
        current = _first_use()
        _voice.speak()
    return current


def _first_use() -> Sink | None:
    global _sink, _reason  # noqa: PLW0603 - one per process by nature
    with _making:
        if isinstance(_sink, _Unread):
            settings, troubles = read_settings(os.environ)
            for trouble in troubles:
                _voice.later(trouble)
            try:
                _sink = Sink(settings) if settings.spans_dir else None
            except OSError as error:  # a relative path, and no working directory any more
                _sink, _reason = None, f"{SPANS_DIR}: {settings.spans_dir!r}: {error}"
                _voice.later(f"{_reason}; nothing is recorded")
        return _sink


def use(settings: Settings) -> None:
    """Replace the sink. Raises SettingError for a directory that cannot be named."""
    global _sink, _reason
    try:
        new = Sink(settings) if settings.spans_dir else None
    except OSError as error:
        raise SettingError(f"spans_dir: {settings.spans_dir!r}: {error}") from None
    with _making:
        old, _sink, _reason = _sink, new, ""
    if isinstance(old, Sink):
        old.close()


def close() -> None:
    """Complete all files. Called at the end of the process; later events open new ones."""
    if isinstance(_sink, Sink):
        _sink.close()


def refuse(what: str) -> None:
    """Count a misuse of the API, where something is recorded at all."""
    try:
        current = sink()  # the refused call may be the first of all
    except Exception:  # as it did in the call that is refused: telemetry raises nothing
        return
    if current is not None:
        current.refuse(what)


def stats() -> Stats:
    """What was written, what not, and whether anything is recorded at all."""
    current = sink()
    if current is None:
        return Stats(
            enabled=False, reason=_reason or f"{SPANS_DIR} is not set: nothing is recorded"
        )
    return current.stats()


def _before_fork() -> None:
    # A file that another thread opens right now would come into the child as a descriptor that
    # nobody knows, and keep its lock for as long as the child lives.
    # `logging` takes its own lock for the fork, after us. Somebody may hold that one and come to us
    # (a handler that is flushed while logging is configured), so it is taken first here too, and
    # without a limit, as `logging` does: with ours and not yet its own, both would wait for ever.
    current = _sink
    _forking.locks = []
    if isinstance(current, Sink):
        of_logging = getattr(logging, "_lock", None)
        if of_logging is not None:
            of_logging.acquire()
            _forking.locks.append(of_logging)
        if current.lock.acquire(timeout=_FORK_SECONDS):
            _forking.locks.append(current.lock)


def _in_parent() -> None:
    locks, _forking.locks = getattr(_forking, "locks", []), []
    for lock in reversed(locks):
        lock.release()


def _in_child() -> None:
    global generation, _making  # noqa: PLW0603 - one per process by nature
    generation += 1
    _making = threading.RLock()  # a thread that is not here may have held it
    _forking.locks = []  # both are made anew
    _voice.forget()
    if isinstance(_sink, Sink):
        _sink.begin_anew()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(close)
