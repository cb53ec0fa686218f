"""Sessions of browsers: a signed cookie that says who, never by which token.

The cookie holds what TokenReview said at login (user, groups) and an end. No copy is kept here, so
any replica reads it; rights are asked anew all the while, so what RBAC takes away is gone within
seconds. What the cookie says of groups stays until its end: at most `session_lifetime`, and never
longer than the token held that was shown at login.
"""

import base64
import binascii
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.tickets import Signer, TicketError, Verifier
from spanyard_gateway.auth.errors import UnknownCallerError
from spanyard_gateway.auth.reviews import Person

AUDIENCE = "session"
MAX_COOKIE = 3_800
"""Browsers take 4,096 bytes with name and attributes."""


class Sessions:
    """Makes and reads the cookie."""

    def __init__(self, signer: Signer, lifetime: float, base_path: str) -> None:
        """`lifetime` in seconds."""
        self._signer, self._lifetime = signer, lifetime
        self._verifier = Verifier.of(signer.public_key)
        self._path = base_path or "/"

    def _name(self, *, secure: bool) -> str:
        # The prefix makes browsers refuse a cookie that another host of the domain, or an
        # unencrypted page, tried to set.
        prefix = "" if not secure else "__Host-" if self._path == "/" else "__Secure-"
        return f"{prefix}spanyard-session"

    def begin(self, response: web.StreamResponse, person: Person, token: str, now: float, *,
              secure: bool) -> int:  # fmt: skip
        """Set the cookie; gives its end in seconds since the epoch. Raises UnknownCallerError."""
        ends = int(min(now + self._lifetime, _end_of(token) or now + self._lifetime))
        claims = {
            "user": person.name, "uid": person.uid, "groups": list(person.groups),
            "extra": {key: list(values) for key, values in person.extra},
        }  # fmt: skip
        ticket = self._signer.sign(AUDIENCE, ends, claims)
        if len(ticket) > MAX_COOKIE:
            raise UnknownCallerError(
                f"you are in {len(person.groups)} groups, more than a cookie can hold; send the "
                "token itself (Authorization: Bearer …)"
            )
        response.set_cookie(
            self._name(secure=secure), ticket, max_age=max(0, ends - int(now)), path=self._path,
            httponly=True, samesite="Strict", secure=secure,
        )  # fmt: skip
        return ends

    def end(self, response: web.StreamResponse, *, secure: bool) -> None:
        """Take the cookie away."""
        response.del_cookie(
            self._name(secure=secure), path=self._path, httponly=True, samesite="Strict",
            secure=secure,
        )  # fmt: skip

    def person(self, request: web.Request, now: float, *, secure: bool) -> Person | None:
        """Whose session it is; None without a cookie. Raises UnknownCallerError."""
        ticket = request.cookies.get(self._name(secure=secure))
        if not ticket:
            return None
        try:
            claims = self._verifier.check(ticket, AUDIENCE, now)
        except TicketError as error:
            raise UnknownCallerError(f"your session has ended ({error}); log in again") from None
        return Person.of({**claims, "username": claims["user"]})


def _end_of(token: str) -> float | None:
    """When a JWT ends, by its own word: the API server just checked it. None: it does not say."""
    parts = token.split(".")
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims: Any = msgspec.json.decode(raw)
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error, msgspec.DecodeError):
        return None
