"""The HTTP pieces: health, metrics, problems, start and stop."""

import asyncio
import json
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from spanyard_core.errors import (
    BadRecordError,
    DatabaseUnavailableError,
    SettingError,
    SpanyardError,
    StorageError,
)
from spanyard_core.serve import Address, operations_routes, problem, problem_middleware, serving


def app_of(handler: object = None) -> web.Application:
    app = web.Application(middlewares=[problem_middleware()], client_max_size=100)
    if handler is not None:
        app.router.add_route("GET", "/x", handler)  # type: ignore[arg-type]
        app.router.add_route("POST", "/x", handler)  # type: ignore[arg-type]
    return app


async def get(url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data) as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_health_readiness_and_metrics_are_served() -> None:
    registry = CollectorRegistry()
    Counter("things", "h", registry=registry).inc(3)
    reasons: list[str | None] = [None, "ClickHouse is away"]
    app = app_of()
    app.router.add_routes(operations_routes(lambda: reasons.pop(0), registry))
    async with serving(app, "127.0.0.1", 0) as address:
        assert await get(f"{address.url}/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
        assert (await get(f"{address.url}/readyz"))[0] == 200
        status, _, text = await get(f"{address.url}/readyz")
        assert (status, text) == (503, "ClickHouse is away\n")
        status, kind, text = await get(f"{address.url}/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert "things_total 3.0" in text


async def raised(error: Exception) -> tuple[int, dict[str, object]]:
    async def handler(request: web.Request) -> web.Response:
        raise error

    async with serving(app_of(handler), "127.0.0.1", 0) as address:
        status, kind, text = await get(f"{address.url}/x")
    assert kind.startswith("application/problem+json")
    body = json.loads(text)
    assert body["status"] == status
    assert body["type"] == "about:blank"
    return status, body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRecordError("line 3"), 400),
        (SettingError("limit: too big"), 400),
        (DatabaseUnavailableError("away"), 503),
        (StorageError("slow"), 503),
        (SpanyardError("odd"), 500),
    ],
)
async def test_errors_raised_on_purpose_become_problems(error: Exception, status: int) -> None:
    got, body = await raised(error)
    assert got == status
    assert body["detail"] == str(error)


async def test_the_unexpected_shows_a_reference_and_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, body = await raised(RuntimeError("password=hunter2"))
    assert status == 500
    assert "hunter2" not in json.dumps(body)
    record = next(r for r in caplog.records if r.exc_info)
    assert record.fields["ref"] == body["reference"]  # type: ignore[attr-defined]


async def test_unknown_paths_methods_and_large_bodies_become_problems() -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return problem(409, "Conflict", "taken", field="name")

    async with serving(app_of(handler), "127.0.0.1", 0) as address:
        status, kind, text = await get(f"{address.url}/none")
        assert (status, json.loads(text)["detail"]) == (404, "There is nothing at /none.")
        assert kind.startswith("application/problem+json")
        assert (await get(f"{address.url}/x", "DELETE"))[0] == 405
        status, _, text = await get(f"{address.url}/x", "POST", b"y" * 1000)
        assert status == 413
        assert json.loads(text)["title"] == "Request Entity Too Large"
        status, _, text = await get(f"{address.url}/x")
        assert (status, json.loads(text)["field"]) == (409, "name")


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    entered = asyncio.Event()
    stopping = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        entered.set()
        await stopping.wait()
        return web.Response(text="done")

    async def before_stop() -> None:
        stopping.set()

    async with serving(app_of(handler), "127.0.0.1", 0, before_stop=before_stop) as address:
        request = asyncio.create_task(get(f"{address.url}/x"))
        await entered.wait()
    assert (await request)[2] == "done"
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(f"{address.url}/x")


async def test_a_taken_port_is_a_clear_error() -> None:
    async with serving(app_of(), "127.0.0.1", 0) as address:
        with pytest.raises(SettingError, match=f"cannot listen on 127.0.0.1:{address.port}: "):
            async with serving(app_of(), "127.0.0.1", address.port):
                pass


async def test_an_impossible_port_is_a_clear_error() -> None:
    with pytest.raises(SettingError, match=r"cannot listen on 127\.0\.0\.1:70000"):
        async with serving(app_of(), "127.0.0.1", 70000):
            pass


def test_an_ipv6_address_has_brackets_in_its_url() -> None:
    assert Address("::1", 80).url == "http://[::1]:80"


def test_importing_the_module_does_not_import_aiohttp() -> None:
    code = "import sys, spanyard_core.serve; print('aiohttp' in sys.modules, end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False"
