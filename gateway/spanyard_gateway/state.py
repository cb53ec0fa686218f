"""What handlers find in the application: typed keys, resources opened and closed in order."""

from aiohttp import web

from spanyard_core.clock import Clock
from spanyard_core.resources.api import ResourceApi
from spanyard_core.storage import Storage
from spanyard_gateway.auth.tenants import Tenants
from spanyard_gateway.ingester_client import IngesterClient
from spanyard_gateway.metrics import GatewayMetrics
from spanyard_gateway.objects.service import Objects
from spanyard_gateway.reader import Reader
from spanyard_gateway.settings import GatewaySettings
from spanyard_gateway.sources import SourceFinder

READER = web.AppKey("reader", Reader)
STORAGE = web.AppKey("storage", Storage)
INGESTER = web.AppKey("ingester", IngesterClient)
CLOCK = web.AppKey("clock", Clock)
SOURCES = web.AppKey("sources", SourceFinder)
METRICS = web.AppKey("metrics", GatewayMetrics)
OBJECTS: "web.AppKey[Objects | None]" = web.AppKey("objects")
"""What signs for pods; None where no pod is asked who it is."""
RESOURCES = web.AppKey("resources", object)
"""A ResourceApi, or None where nobody keeps resources; ask `resources_of`."""
TENANTS = web.AppKey("tenants", Tenants)
SETTINGS = web.AppKey("settings", GatewaySettings)


def resources_of(app: web.Application) -> ResourceApi | None:
    """What keeps Projects, Builds and Deployments; None where there are only records."""
    found: ResourceApi | None = app[RESOURCES]  # type: ignore[assignment]  # a Protocol has no key
    return found
