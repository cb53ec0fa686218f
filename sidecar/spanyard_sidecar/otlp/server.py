"""OTLP over HTTP: `/v1/traces`, `/v1/logs`, `/v1/metrics`.

Every answer, errors included, is a Protobuf message in the encoding of the request, as the OTLP
specification demands ("OTLP/HTTP Response"). 200, 400, 405, 413 and 415 tell the client not
to send again, 503 with Retry-After to do so. Bodies are read only when there is room for them, so
many large requests at once wait in their sockets, not in our memory.

The server must be run with `auto_decompress=False` (`core.serve`): aiohttp's own answer to bad
gzip is to hang up, and the client would send it again for ever.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import get_args

from aiohttp import ClientError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from spanyard_sidecar.otlp.answers import (
    INVALID_ARGUMENT,
    JSON,
    PROTOBUF,
    UNIMPLEMENTED,
    Answer,
    failed,
    try_again,
)
from spanyard_sidecar.otlp.bodies import Busy, Room
from spanyard_sidecar.otlp.form import OtlpSignal
from spanyard_sidecar.otlp.receiver import Receiver

log = logging.getLogger("spanyard.sidecar")

DEFAULT_HOST = "127.0.0.1"
"""The containers of a pod share it, and nobody else reaches it."""
DEFAULT_PORT = 4318
"""OTLP/HTTP's own."""

_GZIP_RATIO = 8
"""Room taken for a gzip body, as a multiple of its length; more is taken when it needs more."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of the server. The limit after decompression is the receiver's `max_decoded`."""

    max_packed: int = 16 << 20
    """Bytes of a gzip body as they come over the wire."""
    room: int = 20 << 20
    """Decoded bytes of all requests in work together; never less than one may have."""
    wait_for_room: float = 10.0
    """Seconds a request waits for room before it is told to come back."""
    read_timeout: float = 30.0
    """Seconds for a body to arrive."""


class _NotTakenError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class _Lease:
    """The room that one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    async def take(self, size: int, patience: float) -> None:
        await self._room.take(size, timeout=patience)
        self.size = size

    def cover(self, size: int) -> None:
        """Hold at least `size`. Raises Busy when that is not possible now."""
        if size > self.size:
            if not self._room.grow(size - self.size):
                raise Busy
            self.size = size

    def give_back(self) -> None:
        if self.size:
            self._room.give(self.size)
            self.size = 0


class _Endpoint:
    def __init__(self, receiver: Receiver, signal: OtlpSignal, room: Room, s: ServerSettings):
        self._receiver = receiver
        self._signal = signal
        self._room = room
        self._settings = s

    async def handle(self, request: web.Request) -> web.Response:
        lease = _Lease(self._room)
        try:
            answer = await self._answer(request, lease)
        except _NotTakenError as error:
            answer = self._receiver.count(self._signal, error.answer)
        finally:
            lease.give_back()
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers={hdrs.CONTENT_TYPE: answer.content_type, **answer.headers},
        )

    async def _answer(self, request: web.Request, lease: _Lease) -> Answer:
        json, gzip = self._check_head(request)
        body = await self._read(request, lease, json=json, gzip=gzip)
        return await self._receiver.receive(
            self._signal, body, json=json, gzip=gzip, cover=lease.cover
        )

    def _check_head(self, request: web.Request) -> tuple[bool, bool]:
        """Whether it is JSON, and whether it is gzip."""
        json = request.content_type == JSON
        if request.method != hdrs.METH_POST:
            text = f"{request.method} is not possible here; send POST"
            raise _NotTakenError(
                failed(405, UNIMPLEMENTED, text, json=json, headers={hdrs.ALLOW: "POST"})
            )
        if not json and request.content_type != PROTOBUF:
            text = f"Content-Type {request.content_type[:80]!r} is not {PROTOBUF} or {JSON}"
            raise _NotTakenError(failed(415, INVALID_ARGUMENT, text, json=True))
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in {"identity", "gzip", ""}:
            text = f"Content-Encoding {encoding[:80]!r} is not gzip or identity"
            raise _NotTakenError(failed(415, INVALID_ARGUMENT, text, json=json))
        gzip = encoding == "gzip"
        length, most = request.content_length or 0, self._most(gzip=gzip)
        if length > most:
            text = f"the body has {length} bytes; {most} is most"
            raise _NotTakenError(failed(413, INVALID_ARGUMENT, text, json=json))
        return json, gzip

    def _most(self, *, gzip: bool) -> int:
        return self._settings.max_packed if gzip else self._receiver.max_decoded

    async def _read(self, request: web.Request, lease: _Lease, *, json: bool, gzip: bool) -> bytes:
        most = self._most(gzip=gzip)
        length = request.content_length
        expected = (most if length is None else length) * (_GZIP_RATIO if gzip else 1)
        try:
            await lease.take(min(expected, self._room.size), self._settings.wait_for_room)
            async with asyncio.timeout(self._settings.read_timeout):
                parts: list[bytes] = []
                size = 0
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > most:
                        text = f"the body has more than {most} bytes"
                        raise _NotTakenError(failed(413, INVALID_ARGUMENT, text, json=json))
                    parts.append(part)
                return b"".join(parts)
        except Busy:
            answer = try_again("too many large requests at once", 1.0, json=json)
        except TimeoutError:
            # 408 would be the word, but OTLP's clients throw the data away on it.
            text = f"the body did not arrive within {self._settings.read_timeout:g} s"
            answer = try_again(text, 1.0, json=json)
        except (ClientError, HttpProcessingError, web.RequestPayloadError, OSError) as error:
            text = f"the body could not be read: {str(error)[:200]}"
            answer = failed(400, INVALID_ARGUMENT, text, json=json)
        raise _NotTakenError(answer)


def otlp_routes(receiver: Receiver, settings: ServerSettings | None = None) -> list[web.RouteDef]:
    """The three endpoints; all methods, so that also a 405 is a Protobuf message."""
    settings = settings or ServerSettings()
    room = Room(max(settings.room, receiver.max_decoded))
    return [
        web.route(
            hdrs.METH_ANY,
            f"/v1/{signal}",
            _Endpoint(receiver, signal, room, settings).handle,
        )
        for signal in get_args(OtlpSignal)
    ]
