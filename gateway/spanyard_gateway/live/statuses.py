"""Changes of resources for listeners: a build's phase, a deployment's rollout, a server's health."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.resources.api import ResourceApi
from spanyard_core.resources.kinds import FINISHED, Build, Deployment, Kind, Resource
from spanyard_gateway.live.channels import Channel

LOOK_EVERY_S = 1.0
KEPT = 10_000
"""Resources remembered; beyond, the oldest answer goes."""


@dataclass(slots=True)
class _Known:
    until: float
    answer: asyncio.Future[list[Resource]]


class Statuses:
    """Asks the keeper of resources at most once a second for the same thing, however many listen."""

    def __init__(self, resources: Callable[[], ResourceApi | None], clock: Clock) -> None:
        self._resources = resources
        self._clock = clock
        self._known: dict[tuple[Kind, str, str], _Known] = {}

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        """One resource, at most LOOK_EVERY_S old. Raises SpanyardError."""
        found = await self._ask(kind, resource_id, "")
        return found[0] if found else None

    async def _ask(self, kind: Kind, resource_id: str, project: str) -> list[Resource]:
        key, now = (kind, resource_id, project), self._clock.monotonic()
        known = self._known.get(key)
        if known is None or now >= known.until:
            answer = asyncio.ensure_future(self._fetch(kind, resource_id, project))
            answer.add_done_callback(_look_at)
            known = self._known[key] = _Known(now + LOOK_EVERY_S, answer)
            while len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        return await asyncio.shield(known.answer)

    async def _fetch(self, kind: Kind, resource_id: str, project: str) -> list[Resource]:
        resources = self._resources()
        if resources is None:
            return []
        if resource_id:
            one = await resources.get(kind, resource_id)
            return [one] if one is not None else []
        return list(await resources.list(kind, project=project))

    async def changes(self, channel: Channel) -> AsyncIterator[dict[str, Any]]:
        """Messages without their subscription's id: how things are, then what changes."""
        before: dict[str, Any] = {}
        while True:
            try:
                found = await self._of(channel)
            except SpanyardError:
                found = None  # it is asked again; what was told stays true as far as anybody knows
            for resource in found or ():
                for name, message in _messages(resource):
                    if before.get(name) != message:
                        before[name] = message
                        yield message
            await self._clock.sleep(LOOK_EVERY_S)

    async def _of(self, channel: Channel) -> list[Resource]:
        if channel.kind == "build":
            return await self._ask("Build", channel.id, "")
        if channel.kind in {"server", "deployment"}:
            return await self._ask("Deployment", channel.id, "")
        if channel.kind == "project":
            builds = await self._ask("Build", "", channel.id)
            return builds + await self._ask("Deployment", "", channel.id)
        return []

    async def is_finished(self, build: str) -> bool:
        """Whether the build has ended, or is none."""
        try:
            found = await self.get("Build", build)
        except SpanyardError:
            return False
        return not isinstance(found, Build) or found.status.phase in FINISHED


def _look_at(answer: "asyncio.Future[list[Resource]]") -> None:
    if not answer.cancelled():
        answer.exception()  # who asks gets it; nobody may ask


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
