"""Changes of resources for listeners: a build's phase, a deployment's rollout, a server's health.

Resources are asked for once a second per channel, and what changed is encoded once, however many
listen.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import Build, Deployment, Kind, Resource
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.inlet import Inlet, Told
from spanyard_gateway.live.messages import encode

log = logging.getLogger("spanyard.gateway")

LOOK_EVERY_S = 1.0

Place = tuple[Kind, str, str]
"""Kind, id of one resource or empty for all, and then project."""


@dataclass(eq=False, slots=True)
class _Watched:
    inlets: dict[Inlet, None] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    """By name, what was told last."""
    task: "asyncio.Task[None] | None" = None


class Statuses:
    """Whoever joins is told how things are, then what changes."""

    def __init__(self, resources: Callable[[], ResourceApi | None], clock: Clock) -> None:
        self._resources = resources
        self._clock = clock
        self._watched: dict[Place, _Watched] = {}

    def join(self, channel: Channel, inlet: Inlet) -> None:
        """From now on, until `leave`."""
        for place in _places(channel):
            watched = self._watched.get(place)
            if watched is None:
                watched = self._watched[place] = _Watched()
                work = self._watch(place, watched)
                watched.task = asyncio.create_task(work, name=f"statuses of {place}")
            watched.inlets[inlet] = None
            for told in watched.told.values():
                inlet.offer(told)

    async def leave(self, channel: Channel, inlet: Inlet) -> None:
        """The last one ends the questions, also when this is cancelled. Idempotent."""
        ending: list[asyncio.Task[None]] = []
        for place in _places(channel):
            watched = self._watched.get(place)
            if watched is None:
                continue
            watched.inlets.pop(inlet, None)
            if not watched.inlets and watched.task is not None:
                del self._watched[place]
                watched.task.cancel()
                ending.append(watched.task)
        await asyncio.gather(*ending, return_exceptions=True)

    async def _watch(self, place: Place, watched: _Watched) -> None:
        before: Mapping[str, Any] = {}
        while True:
            try:
                now = {n: m for found in await self._ask(place) for n, m in _messages(found)}
            except SpanyardError:
                now = dict(before)  # what was told stays true as far as anybody knows
            except Exception:
                log.exception("statuses of %s cannot be told", place)
                now = dict(before)
            for name, message in now.items():
                if before.get(name) != message:
                    told = watched.told[name] = Told(name, encode(message))
                    for inlet in watched.inlets:
                        inlet.offer(told)
            for name in [name for name in watched.told if name not in now]:
                del watched.told[name]
            before = now
            await self._clock.sleep(LOOK_EVERY_S)

    async def _ask(self, place: Place) -> list[Resource]:
        kind, resource_id, project = place
        resources = self._resources()
        if resources is None:
            return []
        if resource_id:
            one = await resources.get(kind, resource_id)
            return [one] if one is not None else []
        return list(await resources.list(kind, project=project))


def _places(channel: Channel) -> Iterator[Place]:
    if channel.kind == "build":
        yield "Build", channel.id, ""
    elif channel.kind in {"server", "deployment"}:
        yield "Deployment", channel.id, ""
    elif channel.kind == "project":
        yield "Build", "", channel.id
        yield "Deployment", "", channel.id


def _messages(resource: Resource) -> list[tuple[str, dict[str, Any]]]:
    meta = resource.metadata
    name = f"{meta.namespace}.{meta.name}"
    if isinstance(resource, Build):
        status = msgspec.to_builtins(resource.status)
        told = {"type": "build:status", "buildId": name, "uid": meta.uid, "status": status}
        return [(f"build {name}", told)]
    if isinstance(resource, Deployment):
        of = resource.status
        ready = next((c for c in of.conditions if c.type == "Ready"), None)
        health = {
            "type": "server:health",
            "serverId": name,
            "healthy": ready is not None and ready.status == "True",
            "reason": of.reason,
            "replicas": of.replicas,
            "readyReplicas": of.ready_replicas,
            "restarts": of.restarts,
            "revision": of.revision,
        }
        told = {
            "type": "deployment:status",
            "deploymentId": name,
            "uid": meta.uid,
            "status": msgspec.to_builtins(of),
        }
        return [(f"health {name}", health), (f"deployment {name}", told)]
    return []
