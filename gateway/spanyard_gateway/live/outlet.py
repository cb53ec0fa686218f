"""The way out to one listener: whole messages, written at once while it keeps up.

A message costs one write to the socket and no timer. Only who does not keep up is waited for, and is
cut off when it takes nothing for too long.
"""

import asyncio
from struct import Struct

from aiohttp import web

_TEXT = 0x81
"""A final frame of text (RFC 6455, 5.2); a server's are not masked."""
_length_16 = Struct("!BBH").pack
_length_64 = Struct("!BBQ").pack


class Outlet:
    """Belongs to a prepared WebSocket."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse, patience: float) -> None:
        """`patience`: seconds that a client may take nothing."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport = transport
        self._protocol = request.protocol
        self._writer = request.writer
        self._ws = ws
        self._patience = patience

    async def say(self, data: bytes) -> None:
        """Write a message; wait while too much waits for the client. Raises ConnectionError."""
        transport = self._transport
        if self._ws.closed or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(_framed(data))
        if self._protocol.writing_paused:
            try:
                async with asyncio.timeout(self._patience):
                    # All who wait share one future of aiohttp's. Who is cancelled here, its
                    # subscription left, must not cancel that: it would end all others as well.
                    await asyncio.shield(self._writer.drain())
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError("the client takes nothing") from None


def _framed(data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return bytes((_TEXT, size)) + data
    if size < 1 << 16:
        return _length_16(_TEXT, 126, size) + data
    return _length_64(_TEXT, 127, size) + data
