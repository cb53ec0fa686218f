"""What the operator shows at `/metrics`. Names begin with `spanyard_operator_`.

Read at the moment of the scrape from counts that the parts keep anyway.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spanyard_operator.context import Context

PREFIX = "spanyard_operator_"
PHASES = ("Queued", "Building", "Succeeded", "Failed", "Cancelled")


class OperatorMetrics(Collector):
    """A collector over one operator, in a registry of its own."""

    def __init__(self, context: Context, leads: Callable[[], bool]) -> None:
        self._context = context
        self._leads = leads
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The samples of one scrape."""
        context = self._context
        reconciled = CounterMetricFamily(
            PREFIX + "reconciled", "Objects worked on, by result.", labels=["kind", "result"]
        )
        for (kind, result), value in context.queue.results.items():
            reconciled.add_metric([kind, result], value)
        yield reconciled
        writes = CounterMetricFamily(
            PREFIX + "api_writes", "Changes asked of the API server.", labels=["verb", "resource"]
        )
        for (verb, plural), value in context.kube.writes.items():
            writes.add_metric([verb, plural], value)
        yield writes
        told = CounterMetricFamily(PREFIX + "events", "Kubernetes Events.", labels=["result"])
        for result, value in context.events.counts.items():
            told.add_metric([result], value)
        yield told
        for name, text, number in self._gauges():
            yield GaugeMetricFamily(PREFIX + name, text, value=number)
        builds = GaugeMetricFamily(PREFIX + "builds", "Builds, by phase.", labels=["phase"])
        phases: Counter[str] = Counter(build.status.phase for build in context.cache.builds())
        for phase in PHASES:
            builds.add_metric([phase], phases[phase])
        yield builds

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        context = self._context
        yield "leading", "1 where this process holds the Lease.", float(self._leads())
        yield "queue_length", "Objects that wait to be worked on.", len(context.queue)
        yield "queue_later", "Objects whose time will come.", context.queue.later
        yield "cached_objects", "Objects that are kept in memory.", len(context.cache)
        yield "projects", "Projects.", len(context.cache.projects())
        yield "deployments", "Deployments.", len(context.cache.deployments())
