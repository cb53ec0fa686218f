"""Loopback only: names that lead here from elsewhere don't."""

import os

import aiohttp
import pytest
from aiohttp import web

from spanyard_core.clock import SystemClock
from spanyard_core.errors import SettingError
from spanyard_core.serve import serving
from spanyard_core.tickets import Signer
from spanyard_gateway import neighbours
from spanyard_gateway.access import guard, is_local_host
from spanyard_gateway.auth.gate import Gate
from spanyard_gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:80", "127.8.8.8", "[::1]:8080", "a.localhost"],
)
def test_this_machine_is_let_in(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::",
        "0.0.0.0",
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_local_host(host)


def test_listening_for_other_machines_must_be_said_twice() -> None:
    with pytest.raises(SettingError, match="^listen: .*--allow-remote"):
        GatewaySettings(storage="file:///s", clickhouse="chdb:///c", listen="0.0.0.0")
    assert GatewaySettings(
        storage="file:///s", clickhouse="chdb:///c", listen="0.0.0.0", allow_remote=True
    ).listen


async def _status(*, same_user: bool) -> int:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    settings = GatewaySettings(storage="file:///s", clickhouse="chdb:///c", same_user=same_user)
    app = web.Application(
        middlewares=[guard(settings, Gate(settings, None, Signer.generate(), SystemClock()))]
    )
    app.router.add_post("/apply", answer)
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession() as session,
        session.post(f"{address.url}/apply", json={}) as response,
    ):
        return response.status


async def test_the_user_who_started_it_is_let_in() -> None:
    assert await _status(same_user=True) == 200


async def test_another_user_of_the_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "peer_uid", lambda connection: os.getuid() + 4711)
    assert await _status(same_user=True) == 403
    assert await _status(same_user=False) == 200


async def test_root_and_whom_the_system_does_not_tell_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid in (0, None):
        monkeypatch.setattr(neighbours, "peer_uid", lambda connection, uid=uid: uid)
        assert await _status(same_user=True) == 200
