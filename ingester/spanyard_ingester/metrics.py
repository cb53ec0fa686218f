"""What the ingester shows at `/metrics`. Names begin with `spanyard_ingester_`.

Everything is read at the moment of the scrape from counts that the parts keep anyway.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from spanyard_ingester.ingester import Ingester

PREFIX = "spanyard_ingester_"


class IngesterMetrics(Collector):
    """A collector over one ingester, in a registry of its own."""

    def __init__(self, ingester: "Ingester") -> None:
        self._ingester = ingester
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The samples of one scrape."""
        for name, text, value in self._counters():
            yield CounterMetricFamily(PREFIX + name, text, value=value)
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(PREFIX + name, text, value=value)

    def _counters(self) -> Iterator[tuple[str, str, float]]:
        ingester = self._ingester
        counts = ingester.loader.counts
        yield "rows", "Rows committed.", counts.rows
        yield "objects", "Objects loaded.", counts.objects
        yield "batches", "Batches committed.", counts.batches
        yield (
            "abandoned_attempts",
            "Attempts given up; their objects were planned anew.",
            (counts.abandoned),
        )
        yield (
            "refused_attempts",
            "Attempts whose data ClickHouse refused or miscounted.",
            (counts.refused),
        )
        yield "bad_lines", "Lines sent to quarantine.", counts.bad_lines
        yield (
            "rejected_objects",
            "Whole objects sent to quarantine.",
            ingester.rejects.told + counts.rejected,
        )
        yield (
            "unread_objects",
            "Objects of refused batches that could not be read again and came back later.",
            counts.unread,
        )
        yield "hints", "Hints taken.", ingester.pending.hints_taken
        yield (
            "hints_dropped",
            "Hints that found no place; listing finds their objects.",
            (ingester.pending.hints_dropped),
        )
        yield (
            "ledger_conflicts",
            "Ledger entries that another ingester was quicker with.",
            (ingester.ledger.conflicts),
        )
        yield (
            "late_attempts",
            "Given-up attempts whose rows landed late and were deleted.",
            (ingester.recovery.zombies),
        )

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        ingester = self._ingester
        backlog = ingester.pending.backlog
        now = ingester.clock.time_ns()
        age = max((now - backlog.oldest_ns) / 1e9, 0.0) if backlog.oldest_ns else 0.0
        yield "backlog_objects", "Pending objects at the last listing (at least).", backlog.objects
        yield "backlog_bytes", "Their bytes as stored.", backlog.bytes
        yield "backlog_oldest_seconds", "Age of the oldest of them.", age
        yield (
            "foreign_objects",
            "Objects with names that are not ours, left alone.",
            (backlog.foreign),
        )
        yield "held_objects", "Pending objects known in memory.", ingester.pending.held
        yield "unsettled", "Loaded attempts and objects not yet moved.", ingester.settler.waiting
        yield "unfiled", "Quarantined things without a row yet.", ingester.filer.unfiled
        yield (
            "unfiled_put_off",
            "Objects with such things that could not be read or moved; tried again.",
            ingester.filer.put_off,
        )
        yield "ledger_entries", "Number of the last ledger entry.", ingester.ledger.state.n
        yield "open_plans", "Plans without an end.", len(ingester.ledger.state.open)
        yield "writers", "Writers in the ledger.", len(ingester.ledger.state.handled)
        yield (
            "clickhouse_up",
            "0 while waiting for ClickHouse.",
            float(not ingester.attempts.availability.problem),
        )
        recent = sorted(ingester.loader.counts.latencies)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            yield (
                f"seen_to_loaded_seconds_{name}",
                ("From first sight of an object to its commit, last 1,000 objects."),
                recent[int(len(recent) * part)] if recent else 0.0,
            )
