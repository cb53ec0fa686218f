"""Hints and look-ups: best effort, bounded, and never an error that nobody expects."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from spanyard_core.errors import StorageError
from spanyard_core.serve import serving
from spanyard_sidecar.gateway import (
    KEYS_PER_HINT,
    MAX_WAITING,
    GatewayHinter,
    GatewayHttp,
    GatewayIndex,
)
from spanyard_sidecar.metrics import CollectorMetrics
from spanyard_sidecar.model import Stored
from tests.sim.clock import SimClock, WallClock
from tests.unit.sidecar.machine import virtual


class FakeHttp:
    def __init__(self) -> None:
        self.posts: list[Any] = []
        self.status = 200
        self.body = b'{"stored":null}'
        self.error: Exception | None = None
        self.asked: dict[str, str] = {}

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/internal/hints"
        if self.error:
            raise self.error
        self.posts.append(json.loads(body)["keys"])
        return self.status, b""

    async def get(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        assert path == "/internal/sources"
        if self.error:
            raise self.error
        self.asked = query
        return self.status, self.body


def hinter(http: FakeHttp) -> tuple[GatewayHinter, CollectorMetrics]:
    metrics = CollectorMetrics()
    return GatewayHinter(http, SimClock(WallClock()), metrics), metrics


@virtual
async def test_hints_that_wait_go_out_together() -> None:
    http = FakeHttp()
    hints, metrics = hinter(http)
    hints.tell(["a", "b"])
    hints.tell(["c"])
    running = asyncio.ensure_future(hints.run())
    await asyncio.sleep(1)
    hints.tell([f"{n}" for n in range(KEYS_PER_HINT + 1)])
    await asyncio.sleep(1)
    running.cancel()
    assert [len(keys) for keys in http.posts] == [3, KEYS_PER_HINT, 1]
    assert metrics.hints.labels("sent")._value.get() == KEYS_PER_HINT + 4


@virtual
async def test_hints_for_a_gateway_that_is_away_are_counted_and_forgotten() -> None:
    http = FakeHttp()
    hints, metrics = hinter(http)
    for error, status in ((OSError("refused"), 200), (TimeoutError(), 200), (None, 503)):
        http.error, http.status = error, status
        hints.tell(["a"])
        await hints.send()
    assert metrics.hints.labels("failed")._value.get() == 3
    http.error, http.status = None, 200
    http.posts.clear()
    await hints.send()
    assert http.posts == []


@virtual
async def test_hints_never_pile_up() -> None:
    hints, metrics = hinter(FakeHttp())
    for n in range(30):
        hints.tell([f"{n}-{i}" for i in range(1000)])
    assert len(hints._keys) == MAX_WAITING
    assert metrics.hints.labels("dropped")._value.get() == 20_000


@virtual
async def test_the_index_tells_how_far_a_file_is_stored() -> None:
    http = FakeHttp()
    index = GatewayIndex(http)
    assert await index.stored_through("ns.app", "12:ab") is None
    assert http.asked == {"project": "ns.app", "fingerprint": "12:ab"}
    http.body = b'{"stored":{"writer":"w@e","lastSeq":7,"toOffset":99,"pending":[[1,2]]}}'
    assert await index.stored_through("ns.app", "12:ab") == Stored("w@e", 7, 99, [(1, 2)])


@virtual
async def test_an_index_that_cannot_answer_raises_what_is_tried_again() -> None:
    http = FakeHttp()
    index = GatewayIndex(http)
    http.body = b"<html>"
    with pytest.raises(StorageError, match="not readable"):
        await index.stored_through("ns.app", "x")
    http.status = 502
    with pytest.raises(StorageError, match="502"):
        await index.stored_through("ns.app", "x")
    http.error = OSError("refused")
    with pytest.raises(StorageError, match="does not answer"):
        await index.stored_through("ns.app", "x")


async def test_over_real_http() -> None:
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.json_response({})

    async def tell(request: web.Request) -> web.Response:
        got.append(dict(request.query))
        return web.json_response({"stored": None})

    app = web.Application()
    app.add_routes([web.post("/internal/hints", take), web.get("/internal/sources", tell)])
    async with serving(app, "127.0.0.1", 0) as address:
        http = GatewayHttp(address.url + "/")
        assert (await http.post("/internal/hints", b'{"keys":["k"]}'))[0] == 200
        assert await GatewayIndex(http).stored_through("ns.app", "5:ab") is None
        await http.close()
    assert got == [{"keys": ["k"]}, {"project": "ns.app", "fingerprint": "5:ab"}]
    gone = GatewayHttp(address.url)
    with pytest.raises(OSError, match="127.0.0.1"):
        await gone.post("/internal/hints", b"{}")
    await gone.close()
