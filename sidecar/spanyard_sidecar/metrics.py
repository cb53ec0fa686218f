"""What the collector counts. Names begin with `spanyard_collector_`; `docs/collector.md` lists them.

Counters are bumped per block and per object, never per line: 600,000 lines pass here per second.
"""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

PREFIX = "spanyard_collector_"


class CollectorMetrics:
    """One registry per collector, so that two in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = self._counter("records", "Records read and transformed.", ["signal"])
        self.record_bytes = self._counter(
            "record_bytes", "Bytes of records as JSON lines, before compression.", ["signal"]
        )
        self.source_errors = self._counter(
            "source_errors", "Reads of a source that failed.", ["kind"]
        )
        self.gaps = self._counter("gaps", "Gaps reported, by cause.", ["cause"])
        self.lost_lines = self._counter(
            "gap_lines", "Lines lost in gaps, as far as known, by cause.", ["cause"]
        )
        self.objects = self._counter("uploaded_objects", "Objects stored.", ["signal"])
        self.object_bytes = self._counter("uploaded_bytes", "Bytes of objects stored.")
        self.known_objects = self._counter(
            "uploads_found", "Uploads that found their own object there: an answer was lost."
        )
        self.conflicts = self._counter(
            "upload_conflicts", "Names that were taken by other bytes; the writer got a new epoch."
        )
        self.upload_errors = self._counter("upload_errors", "Uploads that failed.", ["kind"])
        self.commits = self._counter("spool_entries", "Entries made durable in the spool.")
        self.spool_full_seconds = self._counter(
            "spool_full_seconds", "Seconds for which reading stood still: spool or disk was full."
        )
        self.hints = self._counter("hints", "Hints sent to the gateway.", ["result"])

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(PREFIX + name, text, labels or [], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that asks when it is scraped."""
        self._gauge(name, text).set_function(value)


class Seldom:
    """Lets the same complaint through once per `every` seconds, with the count in between."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, every: float = 60) -> None:
        self._monotonic = monotonic
        self._every = every
        self._seen: dict[Any, tuple[float, int]] = {}

    def __call__(self, subject: Any) -> int | None:
        """How often `subject` came since it was let through last, or None: keep quiet now."""
        now = self._monotonic()
        last, count = self._seen.get(subject, (None, 0))
        if last is not None and now - last < self._every:
            self._seen[subject] = (last, count + 1)
            return None
        if len(self._seen) > 1000:  # complaints about a thousand things: forget, say them again
            self._seen.clear()
        self._seen[subject] = (now, 0)
        return count + 1
