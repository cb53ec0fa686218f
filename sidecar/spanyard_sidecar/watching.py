"""Gauges over the collector's parts, and what `/readyz` says. Values are asked for when scraped."""

from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector as Family

from spanyard_sidecar.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanyard_sidecar.collector import Collector


def watch(collector: "Collector") -> None:
    """Register the gauges of an opened collector."""
    metrics, spool, ring = collector.metrics, collector.spool, collector.ring
    budget, attaching = collector.budget, collector.pipeline.attaching
    metrics.watch("spool_bytes", "Bytes the spool takes on disk, all in all.", lambda: budget.used)
    metrics.watch("spool_limit_bytes", "Bytes it may take.", lambda: budget.limit)
    metrics.watch(
        "spool_pending_entries", "Entries that wait for their upload.", lambda: len(spool.pending)
    )
    metrics.watch(
        "spool_pending_seconds",
        "For how long the oldest entry has waited.",
        lambda: spool.oldest_pending,
    )
    metrics.watch("sources", "Sources being read.", lambda: len(collector.pipeline.writers))
    metrics.watch(
        "sources_held",
        "Sources that wait to hear how far they are stored.",
        lambda: len(attaching.questions),
    )
    metrics.watch("ring_bytes", "Memory of the ring.", lambda: ring.size)
    metrics.watch("live_subscriptions", "Live readers.", lambda: ring.subscribers)
    metrics.registry.register(_Others(collector))


class _Others(Family):
    """Counts that others keep as plain numbers."""

    def __init__(self, collector: "Collector") -> None:
        self._collector = collector

    def collect(self) -> "Iterable[Metric]":
        collector = self._collector
        yield _counter(
            "live_dropped_lines",
            "Lines that slow live readers missed.",
            collector.ring.dropped_lines,
        )
        counts = collector.receiver.counts
        requests = CounterMetricFamily(
            PREFIX + "otlp_requests", "OTLP requests answered.", labels=["signal", "status"]
        )
        for (signal, status), count in counts.answers.items():
            requests.add_metric([signal, str(status)], count)
        yield requests
        refused = CounterMetricFamily(
            PREFIX + "otlp_refused_records", "OTLP records that were not taken.", labels=["signal"]
        )
        for signal, count in counts.refused.items():
            refused.add_metric([signal], count)
        yield refused
        yield _counter(
            "otlp_duplicates",
            "OTLP requests sent again and acknowledged once more.",
            counts.duplicates,
        )
        yield _counter(
            "otlp_digests_forgotten",
            "Digests of OTLP requests that went before their 15 minutes, for want of room.",
            collector.otlp_log.receipts.forgotten_early,
        )


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)
