"""The way out to one listener, where several wait for it."""

import asyncio

import aiohttp
from aiohttp import web

from spanyard_core.serve import serving
from spanyard_gateway.live.outlet import Outlet


async def test_who_gives_up_waiting_for_a_client_takes_nobody_else_along() -> None:
    opened: asyncio.Future[tuple[web.Request, Outlet]] = asyncio.Future()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        opened.set_result((request, Outlet(request, ws, 60)))
        await ws.receive()
        return ws

    app = web.Application()
    app.add_routes([web.get("/ws", handle)])
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address.url}/ws", max_msg_size=0) as client,
    ):
        transport = client._conn.transport  # type: ignore[union-attr]
        assert transport is not None
        request, outlet = await opened
        transport.pause_reading()
        said = [asyncio.create_task(outlet.say(b"x" * 100_000))]
        async with asyncio.timeout(60):
            while not request.protocol.writing_paused:
                await said[-1]
                said.append(asyncio.create_task(outlet.say(b"x" * 100_000)))
                await asyncio.sleep(0)
        leaves, stays = said[-1], asyncio.create_task(outlet.say(b"of who stays"))
        for _ in range(3):  # both wait for the client
            await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        comes = asyncio.create_task(outlet.say(b"of who comes then"))
        await asyncio.sleep(0)
        assert leaves.cancelled()
        transport.resume_reading()
        async with asyncio.timeout(60):
            heard = [(await client.receive()).data for _ in range(len(said) + 2)]
            assert heard[-2:] == ["of who stays", "of who comes then"]
            await stays
            await comes
