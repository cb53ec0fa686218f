"""Collectors over the network: `/live` of the sidecar (docs/live-collector.md)."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
import msgspec

from spanyard_gateway.live.records import block_of_array
from spanyard_gateway.live.upstream import (
    Left,
    LivePod,
    UpstreamError,
    UpstreamEvent,
    UpToDate,
)

CONNECT_S = 3.0
LARGEST = 4 << 20
"""A message holds about 256 KiB, or one line of 1 MiB with its escapes."""
MOST_SAID = 60 * 1024
"""Bytes: a collector takes messages of 64 KiB."""

Token = Callable[[LivePod], str]
"""A ticket for the pod's collector; empty where none is asked for."""


class _Lines(msgspec.Struct, tag_field="type", tag="lines"):
    container: str
    writer: str
    first: int
    records: msgspec.Raw


class _Hello(msgspec.Struct, tag_field="type", tag="hello"):
    version: int


class _Live(msgspec.Struct, tag_field="type", tag="live"):
    pass


class _Dropped(msgspec.Struct, tag_field="type", tag="dropped"):
    writer: str
    count: int


class _Error(msgspec.Struct, tag_field="type", tag="error"):
    message: str


_decode = msgspec.json.Decoder(_Lines | _Hello | _Live | _Dropped | _Error).decode


class Collectors:
    """Implements `Upstream` over one aiohttp session, which begins with the first pod."""

    def __init__(self, token: Token = lambda _: "") -> None:
        self._session: aiohttp.ClientSession | None = None
        self._token = token

    async def close(self) -> None:
        """End what is open. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(middlewares=(_stays,))
        token = self._token(pod)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with self._session.ws_connect(
                f"{pod.url.rstrip('/')}/live",
                headers=headers,
                heartbeat=20.0,
                max_msg_size=LARGEST,
                timeout=aiohttp.ClientWSTimeout(ws_close=CONNECT_S),
            ) as socket:
                wish = {"type": "subscribe", "after": _fitting(after), "all": True}
                await socket.send_str(msgspec.json.encode(wish).decode())
                yield _events(pod, socket)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamError(
                f"the collector of pod {pod.name} does not answer: {error}"
            ) from error


def _fitting(after: Mapping[str, int]) -> dict[str, int]:
    """The last of these, as many as fit into a message. Of others the collector gives what it still
    has, and the feed knows what it had."""
    found: dict[str, int] = {}
    size = 100
    for writer, seq in reversed(list(after.items())):
        size += len(msgspec.json.encode({writer: seq}))
        if size > MOST_SAID:
            break
        found[writer] = seq
    return found


async def _stays(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A pod sends the gateway nowhere: it reaches what pods must not."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info,
            response.history,
            status=response.status,
            message="it sends elsewhere, where nobody goes",
        )
    return response


async def _events(
    pod: LivePod, socket: aiohttp.ClientWebSocketResponse
) -> AsyncIterator[UpstreamEvent]:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        try:
            said = _decode(message.data)
            if isinstance(said, _Lines):
                yield block_of_array(said.writer, said.first, said.records)
            elif isinstance(said, _Live):
                yield UpToDate()
            elif isinstance(said, _Dropped):
                yield Left(said.writer, said.count)
            elif isinstance(said, _Error):
                raise UpstreamError(f"the collector of pod {pod.name} refuses: {said.message}")
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamError(
                f"the collector of pod {pod.name} says what nobody understands: {error}"
            ) from error
    raise UpstreamError(f"the collector of pod {pod.name} has closed the connection")
