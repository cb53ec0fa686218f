"""The quarantine: list, preview, replay, delete (I3)."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError
from spanyard_core.serve import problem
from spanyard_gateway.endpoints import Endpoint, PageOf
from spanyard_gateway.ingester_client import IngesterAwayError, IngesterRefusedError
from spanyard_gateway.items import QuarantineItem
from spanyard_gateway.params import Query
from spanyard_gateway.queries.quarantine import list_quarantine, one_quarantined
from spanyard_gateway.state import INGESTER, READER

_ID = {"id": "Id in the quarantine."}


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """How to replay: without `text` as it was, with it corrected."""

    text: str | None = None


async def _list(request: web.Request, query: Query) -> Any:
    return await list_quarantine(request.app[READER], query)


async def _one(request: web.Request, query: Query) -> Any:
    name = request.match_info["id"]
    found = await one_quarantined(request.app[READER], name)
    return found or problem(404, "Not in quarantine", f"Nothing has the id {name[:80]!r}.")


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
        errors=(400, 404, 409, 502),
    ),
]
