"""Live streams as a part of the gateway's application: route, resources, who may listen."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from spanyard_core.errors import SpanyardError
from spanyard_core.kube import Kube
from spanyard_core.resources.kinds import Build, Deployment
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.errors import ForbiddenError, answer_to
from spanyard_gateway.auth.gate import GATE
from spanyard_gateway.auth.rights import READ, ByHandler
from spanyard_gateway.keeper import Keeper
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.collectors import Collectors
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.kube_pods import KubePods
from spanyard_gateway.live.socket import LiveSockets, RefusedError, SocketLimits
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.upstream import (
    LivePod,
    PodFinder,
    Upstream,
    UpstreamError,
    UpstreamEvent,
)
from spanyard_gateway.params import Query
from spanyard_gateway.queries.live import ClickHouseStored
from spanyard_gateway.state import CLOCK, READER, resources_of

CHECK = ByHandler((READ,))


@dataclass(frozen=True)
class LiveParts:
    """Where pods are found, and how their collectors are reached."""

    finder: PodFinder
    upstream: Upstream
    limits: SocketLimits | None = None


class NoPods:
    """For a gateway beside which nothing runs: streams hold what is stored. A `PodFinder`."""

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        """None."""
        return []


class NoCollectors:
    """For the same gateway. An `Upstream`."""

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        """Nobody answers."""
        raise UpstreamError(f"the collector of pod {pod.name} cannot be reached from here")
        yield  # makes it a generator


def live_of_cluster(app: web.Application, kube: Kube) -> LiveParts:
    """Pods of a cluster; their collectors ask for a ticket of this gateway."""
    gate = app[GATE]
    collectors = Collectors(lambda pod: gate.mint_live_ticket(pod.uid))

    async def close(_: web.Application) -> None:
        await collectors.close()

    app.on_cleanup.append(close)
    return LiveParts(KubePods(kube), collectors)


def mount_live(
    app: web.Application, parts: LiveParts, base_path: str, registry: CollectorRegistry
) -> None:
    """Add `/ws` to the application, whose other resources are set already."""
    clock = app[CLOCK]
    stored = ClickHouseStored(app[READER])
    hub = Hub(parts.finder, parts.upstream, stored, clock, random.Random())
    statuses = Statuses(lambda: resources_of(app), clock)
    sockets = LiveSockets(hub, statuses, _find, _check, parts.limits, _who)
    registry.register(_LiveMetrics(sockets))

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            await app[GATE].admit(request, CHECK, Query({}, {}))
        except SpanyardError as error:
            refusal = answer_to(error)
            if refusal is None:
                raise
            return refusal
        if request.query_string:
            # A token there would be in the logs of whatever stands between: nobody shall get used
            # to it where it happens not to be needed.
            told = "/ws takes nothing in its address; a token goes into the Authorization header"
            return problem(400, "Bad request", told)
        return await sockets.handle(request)

    async def running(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(hub.run(), name="hub of live streams")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.add_routes([web.get(base_path + "/ws", handle)])
    app.cleanup_ctx.append(running)
    app.on_shutdown.append(sockets.close)


async def _find(request: web.Request, channel: Channel) -> Target:
    """Whom the channel is about, for somebody who may know. Raises RefusedError."""
    target = Target(channel.namespace, channel.name, trace=channel.trace)
    await _check(request, target)
    if channel.kind in {"trace", "project"}:
        return target
    keeper = Keeper.of(request.app)
    what = "build" if channel.kind == "build" else "deployment"
    if keeper is None:
        raise RefusedError("not-found", f"nobody keeps {what}s here")
    found: Build | Deployment | None
    try:
        if what == "build":
            found = await keeper.one(Build, channel.id)
        else:
            found = await keeper.one(Deployment, channel.id)
    except SpanyardError as error:
        raise RefusedError("away", str(error)) from error
    if found is None:
        raise RefusedError("not-found", f"there is no {what} {channel.id}")
    build = channel.id if isinstance(found, Build) else ""
    deployment = "" if isinstance(found, Build) else channel.name
    return Target(channel.namespace, found.spec.project, deployment, build, found.metadata.uid)


async def _check(request: web.Request, target: Target) -> None:
    caller = Caller.of(request)
    try:
        await caller.still_there()
        await caller.require(target.namespace, READ)
    except SpanyardError as error:
        code = "forbidden" if isinstance(error, ForbiddenError) else "away"
        if code == "away" and (answer := answer_to(error)) is not None and answer.status == 401:
            code = "not-signed-in"
        raise RefusedError(code, str(error)) from error


def _who(request: web.Request) -> str:
    person = Caller.of(request).person
    return person.name if person is not None else ""


class _LiveMetrics:
    def __init__(self, sockets: LiveSockets) -> None:
        self._sockets = sockets

    def collect(self) -> list[Metric]:
        counts = self._sockets.counts
        gauges = {
            "connections": ("Open sockets of listeners.", counts.connections),
            "subscriptions": ("Open subscriptions.", counts.subscriptions),
            "collectors": ("Collectors that are listened to.", self._sockets.hub.connections),
        }
        found: list[Metric] = [
            GaugeMetricFamily(f"spanyard_gateway_live_{name}", text, value)
            for name, (text, value) in gauges.items()
        ]
        dropped = CounterMetricFamily(
            "spanyard_gateway_live_dropped_records",
            "Records that listeners were told of as dropped, once their subscription ended.",
            labels=["reason"],
        )
        for reason, count in counts.dropped.items():
            dropped.add_metric([reason], count)
        too_fast = CounterMetricFamily(
            "spanyard_gateway_live_too_fast",
            "Connections of listeners that were cut off because they said too much.",
            value=counts.too_fast,
        )
        return [*found, dropped, too_fast]
