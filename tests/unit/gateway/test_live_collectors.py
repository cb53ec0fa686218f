"""Collectors over the network: what one says that cannot be true is not passed on."""

import json
from typing import Any

import pytest
from aiohttp import web

from spanyard_core.serve import serving
from spanyard_gateway.live.collectors import Collectors
from spanyard_gateway.live.records import Block
from spanyard_gateway.live.upstream import LivePod, UpstreamError


def said(first: int, *seqs: int) -> dict[str, Any]:
    records = [
        {"type": "log", "seq": n, "timestamp": "", "level": "info", "message": "m"} for n in seqs
    ]
    return {"type": "lines", "container": "app", "writer": "p/app/0@e", "first": first,
            "records": records}  # fmt: skip


@pytest.mark.parametrize(
    "lie",
    [said(-5, -5, -4), said(10**30, 10**30), said(3, 4, 5), said(3, 3, 10**30), said(3, 3, 5)],
)
async def test_numbers_that_cannot_be_end_the_connection(lie: dict[str, Any]) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        for message in (said(1, 1, 2), lie):
            await ws.send_str(json.dumps(message))
        await ws.receive()
        return ws

    app = web.Application()
    app.add_routes([web.get("/live", serve)])
    collectors, heard = Collectors(), list[int]()

    async def listen(pod: LivePod) -> None:
        async with collectors.listen(pod, {}) as events:
            async for event in events:
                assert isinstance(event, Block)
                heard.append(event.last)

    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        with pytest.raises(UpstreamError, match="says what nobody understands"):
            await listen(LivePod("p", "p", "local", "support", url=address.url))
        await collectors.close()
    assert heard == [2]
