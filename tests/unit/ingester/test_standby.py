"""What a replica that stands by answers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from spanyard_core.serve import serving
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.standby import ADDRESS, standby_app


class HeldElsewhere:
    """A Lease as a waiting replica sees it."""

    def __init__(self, address: str = "") -> None:
        self.problem: str | None = None
        self.seen_holder = "other" if address else ""
        self.seen_annotations: Mapping[str, str] = {ADDRESS: address} if address else {}
        self.is_held = False


@asynccontextmanager
async def standing_by(lease: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with (
        aiohttp.ClientSession() as session,
        serving(standby_app(lease, session), "127.0.0.1", 0) as address,
    ):
        yield session, address.url


async def test_requests_are_passed_on_as_they_came_and_answers_come_back() -> None:
    asked: list[tuple[str, str, bytes, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(
            (request.method, request.path_qs, await request.read(),
             request.headers.get("Authorization"))
        )  # fmt: skip
        return web.json_response({"title": "No"}, status=409)

    holder = web.Application()
    holder.router.add_route("*", "/{path:.*}", answer)
    async with (
        serving(holder, "127.0.0.1", 0) as there,
        standing_by(HeldElsewhere(there.url)) as (session, url),
        session.post(
            f"{url}/quarantine/a%2Fb/replay?x=1", data=b'{"text":"t"}',
            headers={"Authorization": "Bearer t", "Content-Type": "application/json"},
        ) as response,
    ):  # fmt: skip
        assert (response.status, await response.json()) == (409, {"title": "No"})
    assert asked == [("POST", "/quarantine/a%2Fb/replay?x=1", b'{"text":"t"}', "Bearer t")]


async def test_two_that_stand_by_do_not_send_a_request_round_and_round() -> None:
    lease = HeldElsewhere()
    async with standing_by(lease) as (session, url):
        lease.seen_holder, lease.seen_annotations = "itself", {ADDRESS: url}
        async with session.post(f"{url}/hints", json={"keys": []}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"


async def test_who_works_is_not_there_and_the_one_that_asks_hears_it() -> None:
    lease = HeldElsewhere("http://127.0.0.1:1")
    async with (
        standing_by(lease) as (session, url),
        session.post(f"{url}/hints", json={"keys": []}) as response,
    ):
        assert response.status == 503


async def test_it_is_ready_as_soon_as_somebody_works_and_says_why_it_is_not() -> None:
    lease = HeldElsewhere()
    async with standing_by(lease) as (session, url):
        for holder, problem, status, text in (
            ("", None, 503, "nobody holds the lease yet\n"),
            ("other", None, 200, "ok\n"),
            ("other", "the API server is away", 503, "the API server is away\n"),
        ):
            lease.seen_holder, lease.problem = holder, problem
            async with session.get(f"{url}/readyz") as response:
                assert (response.status, await response.text()) == (status, text)
        async with session.get(f"{url}/healthz") as response:
            assert response.status == 200
        async with session.get(f"{url}/metrics") as response:
            assert "spanyard_ingester_lease_held 0.0" in await response.text()


def test_a_lease_is_used_in_a_pod_and_nowhere_else_unless_it_is_said(monkeypatch: Any) -> None:
    def has_lease(lease: str) -> bool:
        return IngesterSettings(storage="file:///x", clickhouse="-", lease=lease).has_lease

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert [has_lease(told) for told in ("auto", "on", "off")] == [False, True, False]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert [has_lease(told) for told in ("auto", "on", "off")] == [True, True, False]
