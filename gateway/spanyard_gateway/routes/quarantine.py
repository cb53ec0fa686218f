"""The quarantine: list, preview, replay, delete (I3)."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller, Sight, namespace_of
from spanyard_gateway.auth.gate import GATE
from spanyard_gateway.auth.rights import READ, REMOVE, REPLAY, Across, ByHandler
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.ingester_client import IngesterAwayError, IngesterRefusedError
from spanyard_gateway.items import QuarantineItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.quarantine import list_quarantine, one_quarantined
from spanyard_gateway.state import INGESTER, READER, TENANTS

_ID = {"id": "Id in the quarantine."}


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """How to replay: without `text` as it was, with it corrected."""

    text: str | None = None


async def _list(request: web.Request, query: Query) -> Any:
    tenants = await request.app[TENANTS].where(Caller.of(request).sight())
    return await list_quarantine(request.app[READER], query, tenants)


async def _one(request: web.Request, query: Query) -> Any:
    tenants = await request.app[TENANTS].where(Caller.of(request).sight())
    found = await one_quarantined(request.app[READER], request.match_info["id"], tenants)
    return found or _missing(request)


def _missing(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    return problem(404, "Not in quarantine", f"Nothing has the id {name[:80]!r}.")


async def _replay(request: web.Request, query: Query) -> Any:
    raw = await request.read()
    try:
        replay = msgspec.json.decode(raw or b"{}", type=Replay)
    except msgspec.DecodeError as error:
        raise BadRecordError(f'the body is not {{}} or {{"text": "…"}}: {error}') from error
    body = {} if replay.text is None else {"text": replay.text}
    return await _act(request, "replay", body)


async def _delete(request: web.Request, query: Query) -> Any:
    return await _act(request, "delete", {})


async def _act(request: web.Request, action: str, body: dict[str, Any]) -> Any:
    caller = Caller.of(request)
    if request.app[GATE].enabled:
        # Whose it is; of what one may not even read nothing is told.
        tenants = await request.app[TENANTS].where(Sight(caller, (READ,)))
        found = await one_quarantined(request.app[READER], request.match_info["id"], tenants)
        if found is None:
            return _missing(request)
        await caller.require(namespace_of(found.project_id), *caller.rights)
    caller.asked = True
    try:
        return await request.app[INGESTER].quarantine_action(action, request.match_info["id"], body)
    except IngesterRefusedError as error:
        status = error.status if error.status in {400, 404, 409, 503} else 502
        return problem(status, str(error.problem.get("title") or "Refused"), str(error))
    except IngesterAwayError as error:
        return problem(503, "Ingester away", str(error), headers={"Retry-After": "5"})


ENDPOINTS = [
    Endpoint(
        "GET",
        "/quarantine",
        "What was set aside",
        PageOf(QuarantineItem),
        _list,
        "quarantine",
        params=("limit", "cursor", "project", "signal", "state"),
        check=Across((READ,)),
    ),
    Endpoint(
        "GET",
        "/quarantine/{id}",
        "One line or object that was set aside",
        QuarantineItem,
        _one,
        "quarantine",
        path_params=_ID,
        errors=(400, 404),
        check=Across((READ,)),
    ),
    Endpoint(
        "POST",
        "/quarantine/{id}/replay",
        "Load it after all",
        dict,
        _replay,
        "quarantine",
        description="As it was, or corrected. Pressed twice, it is loaded once.",
        path_params=_ID,
        check=ByHandler((REPLAY,)),
        body=Replay,
        errors=(400, 404, 409, 502),
    ),
    Endpoint(
        "POST",
        "/quarantine/{id}/delete",
        "Give it up",
        dict,
        _delete,
        "quarantine",
        path_params=_ID,
        check=ByHandler((REMOVE,)),
        errors=(400, 404, 409, 502),
    ),
]
