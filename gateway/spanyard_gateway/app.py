"""The application: resources, middlewares, routes, in one place."""

from aiohttp import web
from prometheus_client import CollectorRegistry

from spanyard_core.clickhouse import Database
from spanyard_core.clock import Clock
from spanyard_core.errors import DatabaseError
from spanyard_core.kube import Kube
from spanyard_core.resources.api import ResourceApi
from spanyard_core.serve import operations_routes, problem_middleware
from spanyard_core.storage import Storage
from spanyard_core.tickets import Signer
from spanyard_gateway.access import guard
from spanyard_gateway.auth.gate import GATE, Gate
from spanyard_gateway.auth.tenants import Tenants
from spanyard_gateway.endpoints import routes
from spanyard_gateway.ingester_client import IngesterClient
from spanyard_gateway.live.mount import LiveParts, NoCollectors, NoPods, live_of_cluster, mount_live
from spanyard_gateway.metrics import GatewayMetrics
from spanyard_gateway.objects.service import Objects
from spanyard_gateway.openapi import openapi_document
from spanyard_gateway.page_files import page_routes
from spanyard_gateway.reader import Reader
from spanyard_gateway.routes import all_endpoints
from spanyard_gateway.settings import GatewaySettings
from spanyard_gateway.sources import SourceFinder
from spanyard_gateway.state import (
    CLOCK,
    INGESTER,
    METRICS,
    OBJECTS,
    READER,
    RESOURCES,
    SETTINGS,
    SOURCES,
    STORAGE,
    TENANTS,
)

MAX_BODY_BYTES = 16 << 20
"""The largest body is a corrected line in JSON: of 8 MiB at most, and the ingester takes bodies of
16 MiB."""


def make_app(
    settings: GatewaySettings,
    *,
    database: Database | None,
    storage: Storage,
    ingester: IngesterClient,
    clock: Clock,
    registry: CollectorRegistry | None = None,
    resources: ResourceApi | None = None,
    kube: Kube | None = None,
    signer: Signer | None = None,
    live: LiveParts | None = None,
) -> web.Application:
    """The gateway over what the caller opens and closes.

    Without a database it answers what the bucket can; `app[READER].connect` gives it one later.
    Without `resources` it shows what projects, builds and deployments left, and changes nothing.
    `kube` is asked who may where the settings say so. Without a `signer` a key is made that lives
    as long as the application. Without `live` streams are those of the pods that `kube` knows;
    without that they hold what is stored, and end there.
    """
    registry = registry or CollectorRegistry()
    gate = Gate(settings, kube, signer or Signer.generate(), clock)
    metrics = GatewayMetrics(registry)
    app = web.Application(
        middlewares=[metrics.middleware(), problem_middleware(), guard(settings, gate)],
        client_max_size=MAX_BODY_BYTES,
    )
    reader = Reader(settings, database)
    app[READER] = reader
    app[STORAGE] = storage
    app[INGESTER] = ingester
    app[CLOCK] = clock
    app[METRICS] = metrics
    app[RESOURCES] = resources
    app[SETTINGS] = settings
    app[GATE] = gate
    app[OBJECTS] = objects = (
        Objects(settings, kube, storage, gate.signer, clock) if gate.enabled and kube else None
    )
    if objects is not None:
        app.on_cleanup.append(lambda _: objects.close())
    app[TENANTS] = Tenants(reader, clock)
    app[SOURCES] = SourceFinder(reader, storage)
    endpoints = all_endpoints()
    document = openapi_document(endpoints, base_path=settings.base_path)

    async def openapi(request: web.Request) -> web.Response:
        return web.json_response(document)

    app.add_routes(routes(endpoints, settings.base_path))
    app.add_routes([web.get(settings.base_path + "/openapi.json", openapi)])
    app.add_routes(operations_routes(lambda: metrics.not_ready, registry))
    if live is None:
        live = live_of_cluster(app, kube) if kube else LiveParts(NoPods(), NoCollectors())
    mount_live(app, live, settings.base_path, registry)
    app.add_routes(page_routes(settings.base_path))
    return app


async def check_ready(app: web.Application) -> None:
    """Ask ClickHouse once; `/readyz` tells what came of it."""
    try:
        await app[READER].rows("SELECT 1")
    except DatabaseError as error:
        app[METRICS].not_ready = str(error)
    else:
        app[METRICS].not_ready = None
