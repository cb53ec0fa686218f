"""Which kinds of sources a collector has, by its settings."""

from collections.abc import Sequence

from spanyard_sidecar.collector import Collector
from spanyard_sidecar.discovery import CriSources
from spanyard_sidecar.model import Sources
from spanyard_sidecar.spanfiles import SpanFileSources


def sources_of(collector: Collector) -> Sequence[Sources]:
    """Container logs and span files, as far as the settings name a folder for them."""
    settings, kinds = collector.settings, list[Sources]()
    if settings.logs:
        kinds.append(
            CriSources(
                collector.files,
                collector.clock,
                collector.identity,
                settings.logs,
                pod=settings.logs_pod,
                exclude=settings.exclude_containers,
            )
        )
    if settings.spans_dir:
        kinds.append(
            SpanFileSources(
                collector.files,
                collector.clock,
                collector.identity,
                settings.spans_dir,
                limit=settings.spans_limit,
            )
        )
    return kinds
