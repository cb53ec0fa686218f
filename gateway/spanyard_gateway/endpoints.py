"""Endpoints as data: the router, the parameter check and the OpenAPI document are made of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.serve import problem
from spanyard_gateway.auth.errors import answer_to
from spanyard_gateway.auth.gate import GATE, forgotten
from spanyard_gateway.auth.rights import Check
from spanyard_gateway.keeper import KeeperAwayError, NoKeeperError
from spanyard_gateway.params import Query, parse_query
from spanyard_gateway.reader import QueryLimitError
from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.state import CLOCK

Handler = Callable[[web.Request, Query], Awaitable[Any]]
"""Gives something that msgspec encodes, or a response of its own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    method: str
    path: str
    summary: str
    answer: Any
    """The type of the answer's body; `PageOf(Item)` for a page."""
    handler: Handler
    tag: str
    description: str = ""
    params: tuple[str, ...] = ()
    attributes: bool = False
    path_params: Mapping[str, str] = field(default_factory=dict)
    """Name in the path → what it is."""
    body: Any = None
    """The type of the request's body, where there is one; `bytes` for one that is not JSON."""
    body_required: bool = False
    media_types: tuple[str, ...] = ("application/json",)
    """Of the answer; those that are not JSON have `bytes` as `answer`."""
    errors: tuple[int, ...] = (400,)
    check: Check | None = None
    """Who may; an operation without one keeps the gateway from starting."""
    internal: bool = False
    """Between Spanyard's own parts: not in the document."""


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page of items of one type."""

    item: type


def routes(endpoints: list[Endpoint], base_path: str = "") -> list[web.RouteDef]:
    """aiohttp's routes for the endpoints; a GET answers HEAD too.

    Those of Spanyard's own parts are at the root: pods do not come through the proxy that the base
    path is for. Raises SettingError when one does not say who may ask.
    """
    made = []
    for endpoint in endpoints:
        if endpoint.check is None:
            raise SettingError(
                f"{endpoint.method} {endpoint.path} does not say who may ask (Endpoint.check)"
            )
        prefix = "" if endpoint.internal else base_path
        made.append(
            web.route(endpoint.method, prefix + endpoint.path, _serve(endpoint, endpoint.check))
        )
    return made


def _serve(
    endpoint: Endpoint, check: Check
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    encoder = msgspec.json.Encoder()

    async def handle(request: web.Request) -> web.StreamResponse:
        query = parse_query(
            request.query.items(),
            endpoint.params,
            attributes=endpoint.attributes,
            now_ns=request.app[CLOCK].time_ns(),
        )
        try:
            caller = await request.app[GATE].admit(request, check, query)
            answering = endpoint.handler(request, query)
            answer = await (answering if endpoint.method == "GET" else _to_its_end(answering))
        except SearchError as error:
            return problem(400, "Bad query", str(error), at=error.at())
        except QueryLimitError as error:
            return problem(503, "Query too large", str(error))
        except KeeperAwayError as error:
            return problem(503, "Temporarily unavailable", str(error), headers={"Retry-After": "5"})
        except NoKeeperError as error:
            return problem(501, "No resources here", str(error))
        except SpanyardError as error:
            refusal = answer_to(error)
            if refusal is None:
                raise
            return refusal
        if forgotten(check, caller):
            raise RuntimeError(f"{endpoint.method} {endpoint.path} asked about no right")
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=encoder.encode(answer), content_type="application/json")

    return handle


_actions: set[asyncio.Future[Any]] = set()
"""Held, because the loop itself holds no task."""


async def _to_its_end(action: Awaitable[Any]) -> Any:
    """A client that goes away ends its questions, but never half of an action."""
    task = asyncio.ensure_future(action)
    _actions.add(task)
    task.add_done_callback(_actions.discard)
    return await asyncio.shield(task)
