"""The last lines of a server whose container's status does not carry them.

The kubelet puts them there for a container that failed; one that answers SIGTERM by ending well has
none there.
"""

import asyncio
from dataclasses import dataclass

from spanyard_core.kube import PODS, Kube, KubeError, KubeUnavailableError
from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import LAST_LINES, clipped
from spanyard_operator.deployments.pod import CONTAINER

MOST_BYTES = 16_384
WITHIN_S = 5.0
"""A node that is away does not answer: the failure is told without them."""


@dataclass(frozen=True)
class LastWords:
    """Asks the kubelet, through the API server."""

    kube: Kube

    async def of(self, namespace: str, failure: Failure) -> list[str]:
        """Of the run that ended, else of the one that runs; none when they cannot be had."""
        if failure.last_lines or not failure.pod or failure.container != CONTAINER:
            return failure.last_lines
        for previous in ("true", "false"):
            try:
                async with asyncio.timeout(WITHIN_S):
                    found = await self._tail(namespace, failure.pod, previous)
            except (KubeError, KubeUnavailableError, TimeoutError):
                continue
            if found:
                return clipped(found)
        return []

    async def _tail(self, namespace: str, pod: str, previous: str) -> list[str]:
        query = {
            "container": CONTAINER,
            "previous": previous,
            "tailLines": str(LAST_LINES),
            "limitBytes": str(MOST_BYTES),
        }
        data = b""
        async with self.kube.stream(PODS.path(namespace, pod, "log"), query) as stream:
            async for piece in stream:
                data += piece
                if len(data) > MOST_BYTES:
                    break
        return data.decode("utf-8", "replace").splitlines()
