"""Standing by: of several replicas the one with the Lease works, the others wait and pass on.

A replica that waits is healthy and ready, so that a rollout goes on, and a Service may send it
requests: it passes them on to the replica that works, whose address stands at the Lease.
"""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from spanyard_core.clock import Clock
from spanyard_core.kube.client import KubeClient
from spanyard_core.kube.lease import Lease
from spanyard_core.resources.kinds import GROUP
from spanyard_core.serve import operations_routes, problem, problem_middleware, serving
from spanyard_ingester.settings import IngesterSettings

log = logging.getLogger("spanyard.ingester")

ADDRESS = f"{GROUP}/address"
"""Annotation of the Lease."""
PASSED_ON = "X-Spanyard-Passed-On"
"""Once is enough: between two holders replicas would send a request round and round."""
MAX_BODY = 16 << 20
_TIMEOUT_S = 600
"""Pruning rewrites parts: as long as the gateway waits."""
_HEADERS = ("Authorization", "Content-Type")
_ANSWERED = ("Content-Type", "Retry-After", "WWW-Authenticate", "Allow")


@asynccontextmanager
async def lease_of(settings: IngesterSettings, clock: Clock) -> AsyncIterator[Lease]:
    """This process's view of its shard's Lease, not yet acquired. Raises SettingError."""
    if settings.lease == "auto":
        kube = await KubeClient.in_cluster()
    else:
        kube = await _anywhere()
    try:
        yield Lease(
            kube,
            settings.lease_namespace or kube.namespace,
            settings.lease_in_force,
            _holder(settings),
            clock=clock,
            fenced=True,  # by the ledger: records keep coming in while the API server is away
            annotations={ADDRESS: settings.lease_address or _address(settings)},
            labels={"app.kubernetes.io/managed-by": "spanyard"},
        )
    finally:
        await kube.close()


async def _anywhere() -> KubeClient:
    from spanyard_core.errors import SettingError

    try:
        return await KubeClient.in_cluster()
    except SettingError:
        return await KubeClient.from_kubeconfig()


def _holder(settings: IngesterSettings) -> str:
    """Unique among living processes: a pod's name is its host's, and outside ports differ."""
    return f"{socket.gethostname()}_{settings.port}"


def _address(settings: IngesterSettings) -> str:
    host = socket.gethostname()
    try:
        found = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)
        host = str(found[0][4][0])
    except OSError as error:
        log.warning("this host's own address is not known: %s", error)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


async def stand_by(lease: Lease, settings: IngesterSettings) -> None:
    """Answer for the one that works until the Lease is ours."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=5), auto_decompress=False
    ) as session:
        app = standby_app(lease, session)
        async with serving(app, settings.listen, settings.port):
            await lease.acquire()


def standby_app(lease: Lease, session: aiohttp.ClientSession) -> web.Application:
    """Health, metrics, and everything else passed on."""

    def not_ready() -> str | None:
        if lease.problem is not None:
            return lease.problem
        return None if lease.seen_holder else "nobody holds the lease yet"

    async def pass_on(request: web.Request) -> web.StreamResponse:
        address = lease.seen_annotations.get(ADDRESS, "")
        if not address or not lease.seen_holder or PASSED_ON in request.headers:
            return _nobody()
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        body = await request.read()
        try:
            async with session.request(
                request.method,
                address + request.path_qs,
                data=body,
                headers={**headers, PASSED_ON: "1"},
                allow_redirects=False,
            ) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    headers={n: answer.headers[n] for n in _ANSWERED if n in answer.headers},
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("%s does not take what is passed on: %s", address, error)
            return _nobody()

    registry = CollectorRegistry()
    held_gauge(registry, lease)
    app = web.Application(middlewares=[problem_middleware()], client_max_size=MAX_BODY)
    app.add_routes(operations_routes(not_ready, registry))
    app.router.add_route("*", "/{path:.*}", pass_on)
    return app


def _nobody() -> web.Response:
    return problem(
        503,
        "Temporarily unavailable",
        "The ingester that works has just changed or does not answer; ask again.",
        headers={"Retry-After": "5"},
    )


def held_gauge(registry: CollectorRegistry, lease: Lease) -> None:
    """`spanyard_ingester_lease_held`, read at the scrape."""
    gauge = Gauge(
        "spanyard_ingester_lease_held", "1 while this replica is the one.", registry=registry
    )
    gauge.set_function(lambda: float(lease.is_held))
