"""The gateway's way to the Kubernetes API: who may ask, and what is declared.

Its readiness does not depend on it: records are there without it, and what needs it says 503.
"""

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from spanyard_core.clock import Clock
from spanyard_core.kube.client import KubeClient
from spanyard_gateway.auth.start import open_kube
from spanyard_gateway.kube_cache import KubeCache
from spanyard_gateway.kube_resources import KubeResources
from spanyard_gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a gateway has of a cluster; each part is None where the settings do without it."""

    kube: KubeClient | None = None
    resources: KubeResources | None = None
    cache: KubeCache | None = None

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Root tasks."""
        return {} if self.cache is None else {"watch over the Kubernetes API": self.cache.run()}


async def open_cluster(
    settings: GatewaySettings,
    clock: Clock,
    registry: CollectorRegistry,
    stack: contextlib.AsyncExitStack,
) -> Cluster:
    """What the settings ask for; `stack` closes it. Raises SettingError."""
    if settings.auth != "kubernetes" and not settings.has_resources:
        return Cluster()
    kube = await open_kube()
    stack.push_async_callback(kube.close)
    if not settings.has_resources:
        return Cluster(kube)
    cache = KubeCache(kube, clock, namespaces=settings.namespaces)
    Gauge(
        "spanyard_gateway_resources_stale_seconds",
        "How long lists of projects, builds and deployments have been behind the Kubernetes API.",
        registry=registry,
    ).set_function(lambda: cache.stale_seconds)
    return Cluster(kube, KubeResources(kube, cache), cache)
