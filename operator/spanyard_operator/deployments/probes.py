"""`spec.health` as probes of the kubelet; pure.

The same as on a laptop: a start may take `startupTimeout`; after `failureThreshold` bad answers in a
row a server gets no more requests; after three times as many it hangs, and is started again. Probes
know whole seconds alone, 1 at least: what is shorter is rounded up.
"""

import math
from typing import Any

from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import HealthCheck

LIVENESS_FACTOR = 3
"""So many times `failureThreshold` bad answers: it does not come back by itself."""
STARTUP_PERIOD = 1
"""Seconds between looks at a server that starts: the kubelet's least."""


def probes(health: HealthCheck, port: int) -> dict[str, Any]:
    """The three probes of the server's container."""
    how = _how(health.path, port)
    timeout = whole_seconds(health.timeout)
    period = whole_seconds(health.period)
    return {
        "startupProbe": {
            **how,
            "periodSeconds": STARTUP_PERIOD,
            "timeoutSeconds": timeout,
            "failureThreshold": whole_seconds(health.startup_timeout),
        },
        "readinessProbe": {
            **how,
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": health.failure_threshold,
        },
        "livenessProbe": {
            **how,
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": health.failure_threshold * LIVENESS_FACTOR,
        },
    }


def _how(path: str, port: int) -> dict[str, Any]:
    if path:
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}
    return {"tcpSocket": {"port": port}}


def whole_seconds(duration: str, least: int = 1) -> int:
    """Rounded up. Raises ValueError for what is no duration."""
    return max(least, math.ceil(seconds(duration)))
