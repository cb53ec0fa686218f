"""Objects for pods: signed requests, and the bytes themselves where nothing can be signed."""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import (
    BadRecordError,
    ObjectExistsError,
    ObjectNotFoundError,
    SettingError,
)
from spanyard_core.serve import problem
from spanyard_core.tickets import TicketError
from spanyard_gateway.auth.gate import pod_of
from spanyard_gateway.auth.rights import ByTicket, OfPods
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.objects.model import Found, Signed, Wish
from spanyard_gateway.objects.service import Objects
from spanyard_gateway.objects.through import DATA_PATH, TICKET, ThroughGateway
from spanyard_gateway.params import Query
from spanyard_gateway.state import OBJECTS

MAX_WISH = 4_096
"""Bytes of a body that names a key and a digest."""
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})", re.ASCII)


async def _sign(request: web.Request, query: Query) -> Any:
    pod, objects = pod_of(request), request.app[OBJECTS]
    if pod is None or objects is None:
        return problem(
            501,
            "Nothing is signed here",
            "This gateway asks no pod who it is, so it signs nothing.",
        )
    length = request.content_length
    raw = await request.read() if length is not None and length <= MAX_WISH else b""
    try:
        wish = msgspec.json.decode(raw, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f'the body is not {{"op": …, "key": …}}: {error}') from error
    try:
        answer = await objects.sign(pod, wish)
    except ObjectNotFoundError as error:
        return problem(404, "No such object", str(error))
    except SettingError as error:
        return problem(503, "Cannot sign", str(error), headers={"Retry-After": "30"})
    if isinstance(answer, Found) and wish.op == "put":
        return web.json_response(msgspec.to_builtins(answer), status=409)
    return answer


def _ticket(request: web.Request) -> tuple[ThroughGateway, dict[str, Any]] | None:
    objects: Objects | None = request.app[OBJECTS]
    if objects is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    try:
        claims = objects.through.claims(
            request.headers.get(TICKET, ""), method, request.match_info["key"]
        )
    except TicketError:
        claims = None
    return (objects.through, claims) if claims else None


def _no_ticket() -> web.Response:
    return problem(
        403, "No ticket for this", "The ticket is too old or for something else: ask anew."
    )


async def _put(request: web.Request, query: Query) -> Any:
    found = _ticket(request)
    if found is None:
        return _no_ticket()
    through, claims = found
    if request.content_length not in {None, claims["size"]}:
        return problem(400, "Another length", f"{claims['size']:,} bytes were signed for.")
    try:
        await through.take(claims, request.content.iter_chunked(1 << 18))
    except ObjectExistsError:
        return problem(412, "It exists", "An object lies there already.")
    return web.Response(status=200)


async def _get(request: web.Request, query: Query) -> Any:
    found = _ticket(request)
    if found is None:
        return _no_ticket()
    through, claims = found
    key = claims["key"]
    stored = await through.look(key)
    if stored is None:
        return problem(404, "No such object", f"There is no object {key}.")
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    if asked and start >= stored.size:
        return problem(416, "Behind its end", f"The object has {stored.size:,} bytes.")
    last = min(int(asked[2]) if asked and asked[2] else stored.size - 1, stored.size - 1)
    response = web.StreamResponse(
        status=206 if asked else 200, headers={"Content-Type": "application/octet-stream"}
    )
    if asked:
        response.headers["Content-Range"] = f"bytes {start}-{last}/{stored.size}"
    response.content_length = max(0, last - start + 1)
    await response.prepare(request)
    blocks: AsyncIterator[bytes] = through.give(key, start, max(0, last - start + 1))
    async for block in blocks:
        await response.write(block)
    await response.write_eof()
    return response


ENDPOINTS = [
    Endpoint(
        "POST",
        "/internal/objects/sign",
        "Sign a request for the bucket",
        Signed,
        _sign,
        "internal",
        check=OfPods(),
        internal=True,
    ),
    Endpoint(
        "PUT",
        DATA_PATH + "{key:.+}",
        "Store what was signed for",
        dict,
        _put,
        "internal",
        check=ByTicket(),
        internal=True,
    ),
    Endpoint(
        "GET",
        DATA_PATH + "{key:.+}",
        "Read what was signed for",
        bytes,
        _get,
        "internal",
        check=ByTicket(),
        internal=True,
    ),
]
