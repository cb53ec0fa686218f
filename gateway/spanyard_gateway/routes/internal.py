"""Between collectors and the rest: hints, and how far a file is stored."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError, SpanyardError
from spanyard_core.object_names import PENDING, parse_key
from spanyard_gateway.auth.errors import ForbiddenError
from spanyard_gateway.auth.gate import pod_of
from spanyard_gateway.auth.rights import OfPods
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.params import Query
from spanyard_gateway.state import INGESTER, METRICS, SOURCES

MAX_HINTS = 1_000
MAX_BODY = 400_000
"""Bytes of a thousand keys, which have 330 at most."""


class Hints(msgspec.Struct):
    """Keys of objects that were just stored."""

    keys: list[str]


async def _hints(request: web.Request, query: Query) -> Any:
    try:
        raw = await request.read()
        if len(raw) > MAX_BODY:
            raise BadRecordError(f"a hint of {len(raw):,} bytes; at most {MAX_BODY:,}")
        hints = msgspec.json.decode(raw, type=Hints)
    except msgspec.DecodeError as error:
        raise BadRecordError(f'the body is not {{"keys": [...]}}: {error}') from error
    if len(hints.keys) > MAX_HINTS:
        raise BadRecordError(f"{len(hints.keys)} keys in one hint; at most {MAX_HINTS}")
    pod = pod_of(request)
    for key in hints.keys:
        if parse_key(key).root != PENDING:
            raise BadRecordError(f"{key[:200]!r} is not below {PENDING}/")
        if pod is not None and parse_key(key).project != pod.project:
            raise ForbiddenError(f"{key[:200]!r} is not of {pod.project}, the project of this pod")
    counter = request.app[METRICS].hints
    try:
        await request.app[INGESTER].hint(hints.keys)
    except SpanyardError:
        # Listing finds them within its interval; the collector need not know.
        counter.labels("ingester away").inc(len(hints.keys))
        return {"forwarded": 0}
    counter.labels("forwarded").inc(len(hints.keys))
    return {"forwarded": len(hints.keys)}


async def _sources(request: web.Request, query: Query) -> Any:
    project, pod = query["project"], pod_of(request)
    if pod is not None and project != pod.project:
        raise ForbiddenError(
            f"{str(project)[:200]!r} is not {pod.project}, the project of this pod"
        )
    stored = await request.app[SOURCES].find(project, query["fingerprint"])
    return {"stored": stored}


ENDPOINTS = [
    Endpoint(
        "POST",
        "/internal/hints",
        "Tell of new objects",
        dict,
        _hints,
        "internal",
        check=OfPods(),
        internal=True,
    ),
    Endpoint(
        "GET",
        "/internal/sources",
        "How far a file is stored",
        dict,
        _sources,
        "internal",
        params=("project", "fingerprint"),
        check=OfPods(cost=10),  # it lists what waits of the project
        internal=True,
    ),
]
