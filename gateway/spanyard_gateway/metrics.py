"""The gateway's own metrics, and whether it is ready."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram


class GatewayMetrics:
    """Counts requests by route (not by path: a path holds ids) and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "spanyard_gateway_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "spanyard_gateway_request_seconds",
            "Time to answer.",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.hints = Counter(
            "spanyard_gateway_hinted_objects",
            "Objects of which the ingester was told, by what came of it.",
            ["result"],
            registry=registry,
        )
        self.not_ready: str | None = "starting"

    def middleware(self) -> Middleware:
        """Outermost: sees the answer that the client gets."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            start = time.perf_counter()
            status = 499  # the client went away
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                resource = request.match_info.route.resource
                route = resource.canonical if resource else "none"
                self.requests.labels(request.method, route, str(status)).inc()
                self.seconds.labels(route).observe(time.perf_counter() - start)

        return count
