"""Retention on demand: delete what is older than a time (I7)."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError
from spanyard_core.serve import problem
from spanyard_gateway.auth.rights import REMOVE, InPath
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.ingester_client import IngesterAwayError, IngesterRefusedError
from spanyard_gateway.items import Pruned
from spanyard_gateway.params import Query, time_ns
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import CLOCK, INGESTER


class Prune(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What may go."""

    older_than: str
    """A duration such as `30d`, or an RFC 3339 time."""
    signals: list[str] = []
    """Only these; all without."""
    dry_run: bool = False


async def _prune(request: web.Request, query: Query) -> Any:
    project = project_of(request)
    try:
        asked = msgspec.json.decode(await request.read(), type=Prune)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f'the body is not {{"olderThan": "30d"}}: {error}') from error
    now = request.app[CLOCK].time_ns()
    try:
        before = time_ns(asked.older_than, now)
    except ValueError as error:
        raise BadRecordError(f"olderThan: {asked.older_than[:80]!r} {error}") from error
    if before > now:
        raise BadRecordError(f"olderThan: {asked.older_than[:80]!r} is in the future")
    body = {
        "project": project,
        "before": str(before),
        "signals": asked.signals,
        "dryRun": asked.dry_run,
    }
    try:
        return await request.app[INGESTER].prune(body)
    except IngesterRefusedError as error:
        status = error.status if error.status in {400, 501, 503} else 502
        return problem(status, str(error.problem.get("title") or "Refused"), str(error))
    except IngesterAwayError as error:
        return problem(503, "Ingester away", str(error), headers={"Retry-After": "5"})


ENDPOINTS = [
    Endpoint(
        "POST",
        "/projects/{id}/prune",
        "Delete what is old",
        Pruned,
        _prune,
        "projects",
        description="Rows, objects, told losses and quarantined lines of sources whose last record "
        "was collected before then. A source goes whole or stays: what has not ended stays.",
        path_params=PROJECT_PATH,
        check=InPath((REMOVE,)),
        body=Prune,
        body_required=True,
        errors=(400, 413, 501, 502),
    ),
]
