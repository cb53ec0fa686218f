"""Where events go: one span file per signal, for this process, for all of its threads.

Nothing here raises into the application. What could not be written is counted, and told by a log
event as soon as writing works again. The lock is a leaf: whoever holds it writes files and nothing
else, so that no order with the application's own locks can go wrong.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from spanyard import _voice
from spanyard._counts import Counts
from spanyard._encode import Event, encode
from spanyard._files import SpanFile
from spanyard._settings import Settings
from spanyard_core.clock import rfc3339

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
        root = os.path.abspath(settings.spans_dir)
        self._files = {
            signal: SpanFile(f"{root}/{signal}", settings.file_size) for signal in SIGNALS
        }
        self.begin_anew()

    def begin_anew(self) -> None:
        """At first, and in a forked child: the files are the parent's, and so are the counts."""
        for file in self._files.values():
            file.forget()
        self.lock = threading.RLock()
        self._busy = False
        self._retry_at = dict.fromkeys(SIGNALS, 0.0)
        self._written: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._errors = Counts()
        self._refused = Counts()
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
            with self.lock:
                self._lose(signal, f"{type(error).__name__}: {error}")
        else:
            with self.lock:
                self._truncated += shortened
                if self._busy:
                    # A signal handler or a finalizer came in the middle of a write of this thread.
                    self._lose(signal, "re-entered")
                else:
                    self._busy = True
                    try:
                        if self._write(signal, line) and self._untold:
                            self._tell()
                    finally:
                        self._busy = False
        self._speak()

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
            _voice.later(f"an event of {signal} was not written: {why}")
        self._dropped[signal] += 1
        self._untold[signal] += 1
        self._errors.count(why)
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
            self._errors.count(f"{type(error).__name__}: {error}")
        else:
            self._written["logs"] += 1

    def refuse(self, what: str) -> None:
        """Count a misuse of the API; the log gets the first of each kind."""
        with self.lock:
            if self._refused.count(what):
                _voice.later(what)
        self._speak()

    def _speak(self) -> None:
        # From inside a write the lock is still held further out; whoever writes speaks afterwards.
        if not self._busy:
            _voice.speak()

    def stats(self) -> Stats:
        with self.lock:
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
        with self.lock:
            if self._untold and not self._busy:
                self._tell()
            for signal, file in self._files.items():
                with contextlib.suppress(Exception):
                    if not file.close():
                        self._written[signal] -= 1
                        self._lose(signal, "the disk was full to the end")
        _voice.speak()
