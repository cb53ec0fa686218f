"""Signing in with a browser, and who one is (Q8)."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.clock import rfc3339
from spanyard_core.errors import BadRecordError
from spanyard_core.serve import problem
from spanyard_gateway.auth.caller import Caller
from spanyard_gateway.auth.gate import GATE
from spanyard_gateway.auth.rights import Public
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.items import Session, WhoAmI
from spanyard_gateway.params import Query


class Login(msgspec.Struct, forbid_unknown_fields=True):
    """A Kubernetes token, as `kubectl create token` or a kubeconfig's helper gives."""

    token: str


async def _login(request: web.Request, query: Query) -> Any:
    gate = request.app[GATE]
    try:
        asked = msgspec.json.decode(await request.read(), type=Login)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not a word of the body: it holds a token.
        raise BadRecordError('the body is not {"token": "…"}') from None
    if not gate.enabled:
        return _no_need()
    token, secure = asked.token.strip(), gate.is_secure(request)
    person = await gate.person_of_token(token)
    response = web.Response(content_type="application/json", headers={"Cache-Control": "no-store"})
    ends = gate.sessions.begin(response, person, token, gate.now(), secure=secure)
    response.body = msgspec.json.encode(
        Session(user=person.name, groups=list(person.groups), ends=rfc3339(ends * 10**9))
    )
    return response


async def _logout(request: web.Request, query: Query) -> Any:
    gate = request.app[GATE]
    response = web.Response(body=b"{}", content_type="application/json")
    gate.sessions.end(response, secure=gate.is_secure(request))
    return response


async def _whoami(request: web.Request, query: Query) -> Any:
    gate = request.app[GATE]
    if not gate.enabled:
        return WhoAmI(auth="none", user="", groups=[])
    person = await gate.person(request)
    Caller.of(request).person = person
    return WhoAmI(auth="kubernetes", user=person.name, groups=list(person.groups))


def _no_need() -> web.Response:
    return problem(
        501,
        "No sessions here",
        "This gateway asks nobody who they are; there is nothing to log in.",
    )


ENDPOINTS = [
    Endpoint(
        "GET",
        "/whoami",
        "Who I am",
        WhoAmI,
        _whoami,
        "session",
        check=Public(),
        errors=(400, 401),
    ),
    Endpoint(
        "POST",
        "/login",
        "Begin a session",
        Session,
        _login,
        "session",
        check=Public(),
        description="Sets a cookie that says who, not by which token. It ends with the token, at "
        "the latest after `session_lifetime`.",
        body=Login,
        body_required=True,
        errors=(400, 401, 501),
    ),
    Endpoint(
        "POST",
        "/logout",
        "End the session in this browser",
        dict,
        _logout,
        "session",
        check=Public(),
    ),
]
