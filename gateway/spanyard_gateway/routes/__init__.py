"""The operations of the API, one module per kind."""

from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.routes import (
    builds,
    internal,
    logs,
    metrics,
    projects,
    proof,
    quarantine,
    scores,
    spans,
    traces,
)


def all_endpoints() -> list[Endpoint]:
    """Every operation, in the order of the document."""
    modules = (projects, logs, traces, spans, metrics, scores, builds, quarantine, proof, internal)
    return [endpoint for module in modules for endpoint in module.ENDPOINTS]
