"""A gateway's `/ws` that says whatever a test has it say."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from spanyard_core.serve import serving

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def answering(serve: Serve) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/ws", serve), web.get("/elsewhere/ws", serve)])
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        yield address.url


def saying(*messages: Any, close: int = 0, reason: str = "") -> Serve:
    """A socket that says this to each connection, whatever it hears."""

    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for message in messages:
            await ws.send_str(message if isinstance(message, str) else json.dumps(message))
        if close:
            await ws.close(code=close, message=reason.encode())
        async for _ in ws:
            pass
        return ws

    return serve


HELLO = {"type": "hello", "version": 1, "time": "", "heartbeat": 15, "more": 1}
