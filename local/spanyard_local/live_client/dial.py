"""One connection to `/ws`: the upgrade, its refusals in words, and what is heard until it breaks.

Who asks is said in the `Authorization` header; an address never carries a token, and no redirect is
followed: a gateway sends nobody elsewhere, and the token must not go there.
"""

import asyncio
import ipaddress
import json
import ssl
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from spanyard_core.errors import SpanyardError
from spanyard_local.live_client.errors import (
    AwayError,
    LiveError,
    NoLiveError,
    NotAdmittedError,
    NoTokenError,
    ProtocolError,
)
from spanyard_local.live_client.events import Message, decoded

CONNECT_S = 20.0
"""For connection, TLS and upgrade together."""
MOST_BYTES = 64 << 20
"""Of a message: the gateway sends 256 KiB at most, or one record, whose attributes have no limit."""
_SWITCHING, _NOT_UNDERSTOOD, _TOO_BIG = 101, 1008, 1009

TokenSource = Callable[[bool], str]
"""What says who asks; True: the last one was refused, get another. May block: it runs in a thread.
Raises NoTokenError where there will be none, another SpanyardError where it is worth another try."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a gateway is, and how one gets in."""

    address: str
    """`http://host:port` with its base path, as for the rest of the API."""
    token: TokenSource | None = None
    trust: ssl.SSLContext | None = None
    """In place of the system's certificates."""


class Connection:
    """One that is open. `close` it."""

    def __init__(
        self, session: aiohttp.ClientSession, socket: "aiohttp.ClientWebSocketResponse[bool]"
    ) -> None:
        self._session = session
        self._socket = socket

    async def say(self, message: object) -> None:
        """Send; a connection that is gone is noticed where it is listened to."""
        try:
            await self._socket.send_str(json.dumps(message, ensure_ascii=False))
        except (ConnectionError, aiohttp.ClientError):
            return

    async def hear(self, timeout: float) -> Message | None:
        """The next message; None for one that is not known. After a TimeoutError it may be called
        again. Raises AwayError when the connection is gone, ProtocolError."""
        message = await self._socket.receive(timeout=timeout)
        if message.type is aiohttp.WSMsgType.TEXT:
            return decoded(message.data)
        if self._socket.close_code == _NOT_UNDERSTOOD:
            raise ProtocolError(
                "the gateway does not understand this client and ended the connection; use versions "
                "of the two that belong together"
            )
        told = message.extra if message.type is aiohttp.WSMsgType.CLOSE else None
        if told and self._socket.close_code == _TOO_BIG:
            raise ProtocolError(f"the gateway ended the connection: {told}")  # so would the next
        raise AwayError(str(told or "the connection to the gateway broke"))

    async def close(self) -> None:
        """End it, without waiting for the other side's word."""
        if self._socket.close_code is None:
            self._socket._response.close()
        await self._socket.close()
        await self._session.close()


async def dial(door: Door, *, renew: bool = False) -> Connection:
    """Connect; `renew`: with another token at once. Raises LiveError, with AwayError where it is
    worth another try."""
    try:
        return await _opened(door, renew=renew)
    except NotAdmittedError as error:
        if renew or error.status != 401 or door.token is None:
            raise
        return await _opened(door, renew=True)


async def _opened(door: Door, *, renew: bool) -> Connection:
    headers = {"X-Spanyard-Request": "1"}
    if door.token is not None:
        try:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(door.token, renew)}"
        except NoTokenError as error:
            raise NotAdmittedError(str(error), status=401) from error
        except SpanyardError as error:
            raise AwayError(str(error)) from error
    connector = aiohttp.TCPConnector(ssl=door.trust or True)
    session = aiohttp.ClientSession(connector=connector, middlewares=(_only_upgrades,))
    try:
        async with asyncio.timeout(CONNECT_S):
            socket = await session.ws_connect(
                f"{door.address}/ws",
                headers=headers,
                max_msg_size=MOST_BYTES,
                proxy=_proxy(door.address),
            )
    except BaseException as error:
        await session.close()
        raise _translated(door, error) from error
    return Connection(session, socket)


def _translated(door: Door, error: BaseException) -> BaseException:
    if isinstance(error, TimeoutError):
        return AwayError(f"the gateway at {door.address} did not answer within {CONNECT_S:g} s")
    if isinstance(error, aiohttp.InvalidURL):
        return LiveError(f"server: {door.address!r} is not an http:// or https:// address")
    if isinstance(error, (OSError, aiohttp.ClientError)):
        return AwayError(f"no gateway answers at {door.address} ({error})")
    return error


async def _only_upgrades(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if response.status == _SWITCHING:
        return response
    status, reason = response.status, response.reason
    try:
        text = _words(await response.content.read(1 << 16))
    finally:
        response.close()
    told = text or f"{status} {reason}"
    if status in {401, 403}:
        raise NotAdmittedError(told, status=status)
    if status == 429 or (status >= 500 and status != 501):
        raise AwayError(f"the gateway cannot take a listener now: {told}")
    raise NoLiveError(f"what answers has no live streams here ({told})", status=status)


def _words(body: bytes) -> str:
    """The sentence of a problem document; empty for anything else."""
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return ""


def _proxy(address: str) -> str | None:
    """The environment's; proxies are for other machines, none of them reaches this one."""
    parts = urlsplit(address)
    name = parts.hostname or ""
    try:
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if local or urllib.request.proxy_bypass(name):
        return None
    return urllib.request.getproxies().get(parts.scheme)
