"""Where events go: one span file per signal, for this process, for all of its threads.

Nothing here raises into the application. What could not be written is counted, and told by a log
event as soon as writing works again.
"""

import atexit
import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from spanyard._encode import Event, encode
from spanyard._files import SpanFile
from spanyard._settings import SPANS_DIR, Settings, settings_from
from spanyard_core.clock import rfc3339

log = logging.getLogger("spanyard")

SIGNALS = ("traces", "spans", "logs", "metrics", "scores")
_RETRY_SECONDS = 1.0
"""After a file could not be opened, the next attempt waits this long; events meanwhile drop."""


@dataclass(frozen=True)
class Stats:
    """What became of this process's events since its start (or its fork)."""

    enabled: bool
    """False: nothing is recorded, and `reason` says why."""
    reason: str = ""
    spans_dir: str = ""
    written: dict[str, int] = field(default_factory=dict)
    """Signal → lines in span files. A span has two where starts are written."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Signal → events that could not be written."""
    errors: dict[str, int] = field(default_factory=dict)
    """Text of the error → how often."""
    refused: dict[str, int] = field(default_factory=dict)
    """Misuse (a negative counter, a span used after its end, …) → how often."""
    truncated: int = 0
    """Events shortened because their line was over 1 MiB."""
    files: int = 0
    """Span files opened."""


class Sink:
    """All of a process's span files."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        root = os.path.abspath(self.settings.spans_dir)
        self._files = {
            signal: SpanFile(f"{root}/{signal}", self.settings.file_size) for signal in SIGNALS
        }
        self._retry_at = dict.fromkeys(SIGNALS, 0.0)
        self._written: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._truncated = 0
        self._last_error = ""

    def emit(self, signal: str, event: Event) -> None:
        """Write one event; count it if that cannot be."""
        try:
            event["recordedAt"] = rfc3339(time.time_ns())
            if self.settings.service:
                event["service"] = self.settings.service
            line, shortened = encode(event)
        except Exception as error:
            with self._lock:
                self._lose(signal, f"{type(error).__name__}: {error}")
            return
        with self._lock:
            self._truncated += shortened
            if self._busy:
                # A signal handler or a finalizer came in the middle of a write of this thread.
                self._lose(signal, "re-entered")
                return
            self._busy = True
            try:
                if self._write(signal, line) and self._untold:
                    self._tell()
            finally:
                self._busy = False

    def _write(self, signal: str, line: bytes) -> bool:
        if self._retry_at[signal] and time.monotonic() < self._retry_at[signal]:
            self._lose(signal, self._last_error)
            return False
        file = self._files[signal]
        opened = file.opened
        try:
            file.append(line)
        except Exception as error:
            text = error.strerror if isinstance(error, OSError) else None
            self._lose(signal, text or f"{type(error).__name__}: {error}")
            if opened == file.opened and not file.is_open:
                self._retry_at[signal] = time.monotonic() + _RETRY_SECONDS
            return False
        self._retry_at[signal] = 0.0
        self._written[signal] += 1
        return True

    def _lose(self, signal: str, why: str) -> None:
        if not self._untold:
            log.warning("an event of %s was not written: %s", signal, why)
        self._dropped[signal] += 1
        self._untold[signal] += 1
        self._errors[why] += 1
        self._last_error = why

    def _tell(self) -> None:
        """The losses since the last telling, as a log event among the application's own."""
        untold, self._untold = self._untold, Counter()
        now = rfc3339(time.time_ns())
        event: Event = {
            "type": "log",
            "timestamp": now,
            "recordedAt": now,
            "level": "warn",
            "message": f"spanyard: {untold.total()} events were not written: {self._last_error}",
            "attributes": {"spanyard.dropped": dict(untold)},
        }
        if self.settings.service:
            event["service"] = self.settings.service
        try:
            self._files["logs"].append(encode(event)[0])
        except Exception as error:
            self._untold += untold
            self._errors[f"{type(error).__name__}: {error}"] += 1
        else:
            self._written["logs"] += 1

    def refuse(self, what: str) -> None:
        """Count a misuse of the API; the log gets the first of each kind."""
        with self._lock:
            self._refused[what] += 1
            first = self._refused[what] == 1
        if first:
            log.warning("%s", what)

    def stats(self) -> Stats:
        with self._lock:
            return Stats(
                enabled=True,
                spans_dir=self.settings.spans_dir,
                written=dict(self._written),
                dropped=dict(self._dropped),
                errors=dict(self._errors),
                refused=dict(self._refused),
                truncated=self._truncated,
                files=sum(file.opened for file in self._files.values()),
            )

    def close(self) -> None:
        """Complete all files; a later event opens new ones."""
        with self._lock:
            for signal, file in self._files.items():
                if not file.close():
                    self._written[signal] -= 1
                    self._lose(signal, "the disk was full to the end")

    def after_fork(self) -> None:
        """In the child: the files are the parent's, and a lock may be held by a thread not here."""
        for file in self._files.values():
            file.forget()
        self._begin_anew()


_unread = object()
_sink: "Sink | object | None" = _unread
generation = 0
"""Changes in a forked child; a span that began before it belongs to the parent."""


def sink() -> Sink | None:
    """The process's sink, None when there is no directory. Reads the environment at first use."""
    if _sink is _unread:
        return use(settings_from())
    return _sink  # type: ignore[return-value]  # _unread was handled


def use(settings: Settings) -> Sink | None:
    """Close what was open and go on with these settings."""
    global _sink  # noqa: PLW0603 - one per process by nature
    close()
    _sink = Sink(settings) if settings.spans_dir else None
    return _sink


def close() -> None:
    """Complete all files. Called at the end of the process."""
    if isinstance(_sink, Sink):
        _sink.close()


def stats() -> Stats:
    """What was written, what not, and whether anything is recorded at all."""
    current = sink()
    if current is None:
        return Stats(enabled=False, reason=f"{SPANS_DIR} is not set: nothing is recorded")
    return current.stats()


def _after_fork() -> None:
    global generation  # noqa: PLW0603 - one per process by nature
    generation += 1
    if isinstance(_sink, Sink):
        _sink.after_fork()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
