"""The operations of the API, one module per kind."""

from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.routes import (
    builds,
    export,
    internal,
    logs,
    metrics,
    objects,
    projects,
    proof,
    prune,
    quarantine,
    resources,
    scores,
    sessions,
    source_archives,
    spans,
    sql,
    timeline,
    traces,
)


def all_endpoints() -> list[Endpoint]:
    """Every operation, in the order of the document."""
    modules = (
        projects,
        timeline,
        logs,
        traces,
        spans,
        metrics,
        scores,
        builds,
        source_archives,
        resources,
        export,
        prune,
        sql,
        quarantine,
        proof,
        sessions,
        internal,
        objects,
    )
    return [endpoint for module in modules for endpoint in module.ENDPOINTS]
