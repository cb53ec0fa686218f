"""Collectors over the network: what one says that cannot be true is not passed on."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.live.collectors import Collectors
from spanyard_gateway.live.upstream import LivePod, UpstreamError, UpToDate
from spanyard_sidecar.live import live_routes
from spanyard_sidecar.ring import Ring


def said(first: int, *seqs: int, **more: Any) -> dict[str, Any]:
    records = [
        {"type": "log", "seq": n, "timestamp": "", "level": "info", "message": "m"} for n in seqs
    ]
    return {"type": "lines", "container": "app", "writer": "p/app/0@e", "first": first,
            "records": records, **more}  # fmt: skip


def deep(first: int) -> str:
    """A record that no reader of JSON gets through."""
    attributes = "[" * 20_000 + "]" * 20_000
    return json.dumps(said(first, first)).replace(
        '"m"}', f'"m", "attributes": {{"a": {attributes}}}}}'
    )


@contextlib.asynccontextmanager
async def answering(*routes: web.RouteDef) -> AsyncIterator[LivePod]:
    app = web.Application()
    app.add_routes(routes)
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        yield LivePod("p", "p", "local", "support", url=address.url)


@contextlib.asynccontextmanager
async def collectors() -> AsyncIterator[Collectors]:
    found = Collectors()
    try:
        yield found
    finally:
        await found.close()


async def listen(ours: Collectors, pod: LivePod, after: dict[str, int], heard: list[Any]) -> None:
    """Until it is up to date."""
    async with asyncio.timeout(60), ours.listen(pod, after) as events:
        async for event in events:
            if isinstance(event, UpToDate):
                return
            heard.append(event)


@pytest.mark.parametrize(
    "lie",
    [
        *map(json.dumps, (said(-5, -5, -4), said(10**30, 10**30), said(3, 4, 5), said(3, 3, 10**30),
                          said(3, 3, 5), said(3, 3, writer="p/" + "w" * 1_000))),
        deep(3),
    ],
    ids=["below", "beyond", "shifted", "one beyond", "a hole", "a name", "nested"],
)  # fmt: skip
async def test_what_cannot_be_ends_the_connection(lie: str) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        for message in (json.dumps(said(1, 1, 2)), lie):
            await ws.send_str(message)
        return ws

    heard: list[Any] = []
    async with answering(web.get("/live", serve)) as pod, collectors() as ours:
        with pytest.raises(UpstreamError, match="says what nobody understands"):
            await listen(ours, pod, {}, heard)
    assert [block.last for block in heard] == [2]


async def test_a_pod_sends_the_gateway_nowhere() -> None:
    asked: list[str] = []

    async def secret(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response()

    async with answering(web.get("/secret", secret)) as other:

        async def elsewhere(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{other.url}/secret")

        async with answering(web.get("/live", elsewhere)) as pod, collectors() as ours:
            with pytest.raises(UpstreamError, match="sends elsewhere"):
                await listen(ours, pod, {}, [])
    assert asked == []


async def test_a_pod_of_thousands_of_processes_is_heard() -> None:
    ring, clock = Ring(), SystemClock()
    writers = [f"8f14e45f-ceea-467f-a9b4-0f5b1b7e4f11/spans/{n}-abcdef@e" for n in range(3_000)]
    for writer in writers[-2:]:
        record = msgspec.json.encode(said(1, 1)["records"][0]) + b"\n"
        ring.publish("app", writer, 1, record)
    after = dict.fromkeys(writers, 1)
    del after[writers[-2]]
    heard: list[Any] = []
    async with answering(*live_routes(ring, clock=clock)) as pod, collectors() as ours:
        await listen(ours, pod, after, heard)
    assert [block.writer for block in heard] == [writers[-2]], "of the newest it knew the place"
