"""Which kinds of sources a collector has, by its settings."""

from collections.abc import Sequence

from spanyard_sidecar.collector import Collector
from spanyard_sidecar.discovery import CriSources
from spanyard_sidecar.model import Sources
from spanyard_sidecar.spanfiles import SpanFileSources


def sources_of(collector: Collector) -> Sequence[Sources]:
    """Container logs and span files, as the settings say.

    Raises SettingError for capture `api` outside a pod.
    """
    settings, kinds = collector.settings, list[Sources]()
    if settings.capture == "api":
        kinds.append(_over_the_api(collector))
    elif settings.logs:
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


def _over_the_api(collector: Collector) -> Sources:
    # Imported here: who reads files pays nothing for the client.
    from spanyard_core.kube.access import in_cluster
    from spanyard_core.kube.client import KubeClient
    from spanyard_sidecar.apilog.sources import ApiSources

    kube = KubeClient(in_cluster(collector.clock), clock=collector.clock)
    sources = ApiSources(
        kube,
        collector.clock,
        collector.rng,
        collector.identity,
        exclude=collector.settings.exclude_containers,
        wake=lambda: collector.pipeline.wake(),  # noqa: PLW0108 - made later
        changed=lambda: collector.pipeline.changed(),  # noqa: PLW0108 - the same
    )
    collector.background["container logs"] = sources.run
    collector.closing.append(kube.close)
    collector.more_troubles.append(lambda: sources.trouble)
    return sources
