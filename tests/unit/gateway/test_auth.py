"""Who is let in: by token, session or proxy; and that no operation forgets to ask."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from spanyard_core.clock import SystemClock
from spanyard_core.errors import SettingError
from spanyard_core.serve import serving
from spanyard_core.storage import open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.auth.gate import GATE
from spanyard_gateway.auth.rights import READ, Across, ByTicket, OfPods, Public
from spanyard_gateway.endpoints import Endpoint, routes
from spanyard_gateway.params import Query
from spanyard_gateway.routes import all_endpoints
from spanyard_gateway.settings import GatewaySettings
from tests.fakes.gateway_api import RecordingIngester
from tests.fakes.handclock import HandClock
from tests.fakes.reviews import FakeReviews

ALICE = "token-of-alice-which-nobody-may-see"
READ_TEXT = "get projects/telemetry"


def settings(**changes: Any) -> GatewaySettings:
    made = {"storage": "file:///s", "clickhouse": "chdb:///c", "auth": "kubernetes"}
    return GatewaySettings(**(made | changes))


@asynccontextmanager
async def running(
    kube: FakeReviews, folder: Path, *, clock: Any = None, **changes: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, web.Application]]:
    storage = open_storage(f"file://{folder}/bucket")
    app = make_app(
        settings(**changes), database=None, storage=storage, ingester=RecordingIngester(),
        clock=clock or SystemClock(), registry=CollectorRegistry(), kube=kube,
    )  # fmt: skip
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession(address.url, cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        yield session, app
    await storage.close()


class Hand(HandClock):
    """Others' waiting moves no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def kube() -> FakeReviews:
    made = FakeReviews()
    made.person(ALICE, "alice", "team-a")
    made.grants.add(("alice", READ_TEXT, "a"))
    return made


def test_an_operation_that_does_not_say_who_may_keeps_the_gateway_from_starting() -> None:
    one = next(e for e in all_endpoints() if e.path == "/sql")
    with pytest.raises(SettingError, match="POST /sql does not say who may ask"):
        routes([replace(one, check=None)])
    assert routes([one])


async def test_nobody_gets_anything_without_a_token(kube: FakeReviews, tmp_path: Path) -> None:
    async with running(kube, tmp_path) as (session, _):
        for endpoint in all_endpoints():
            path = endpoint.path.replace("{key:.+}", "observability/x")
            for name in ("id", "digest"):
                path = path.replace(f"{{{name}}}", "a.b")
            headers = {"X-Spanyard-Request": "1"}
            for more in ({}, bearer("wrong"), {"Cookie": "spanyard-session=st1.e30.AAAA"},
                         {"Authorization": "Basic YTpi"}, {"X-Forwarded-User": "alice"}):  # fmt: skip
                async with session.request(
                    endpoint.method, path, headers=headers | more, json={}
                ) as answer:
                    told = f"{endpoint.method} {path} {more} {await answer.text()}"
                    if isinstance(endpoint.check, ByTicket):
                        assert answer.status == 403, told
                    elif not isinstance(endpoint.check, Public) or endpoint.path == "/whoami":
                        assert answer.status == 401, told
                        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert {type(e.check) for e in all_endpoints()} >= {OfPods, Public, ByTicket, Across}


async def test_what_is_missing_is_named_where_the_namespace_is_in_the_address(
    kube: FakeReviews, tmp_path: Path
) -> None:
    async with running(kube, tmp_path) as (session, _):
        for path, status in (
            ("/projects/a.x/logs", 503),  # let in, and there is no database
            ("/projects/b.x/logs", 403),
            ("/traces/1?project=b.x", 403),
            ("/builds?project=b.x", 403),
            ("/builds/b.x/logs", 403),
            ("/builds/a.x/logs", 404),
            ("/builds/a.x", 403),  # records may be read, the resource not
            (f"/sources/{'0' * 64}", 400),
            (f"/sources/{'0' * 64}?namespace=b", 403),
            ("/sql", 405),
        ):
            async with session.get(path, headers=bearer(ALICE)) as answer:
                text = await answer.text()
                assert answer.status == status, (path, text)
                if status == 403:
                    assert json.loads(text)["detail"].startswith("'alice' has not `"), text
        async with session.post(
            "/sql", json={"query": "SELECT 1"}, headers=bearer(ALICE)
        ) as answer:
            assert answer.status == 403
            assert "in all namespaces" in (await answer.json())["detail"]
        kube.grants.add(("alice", "create builds", "a"))
        async with session.get(f"/sources/{'0' * 64}?namespace=a", headers=bearer(ALICE)) as answer:
            assert answer.status == 404


async def test_all_manifests_are_asked_about_before_the_first_is_applied(
    kube: FakeReviews, tmp_path: Path
) -> None:
    from tests.fakes.resource_api import MemoryResources, manifests

    kube.grants |= {("alice", f"{verb} {plural}", "a") for verb in ("create", "patch")
                    for plural in ("projects", "builds", "deployments")}  # fmt: skip
    resources = MemoryResources()
    storage = open_storage(f"file://{tmp_path}/bucket")
    app = make_app(settings(), database=None, storage=storage, ingester=RecordingIngester(),
                   clock=SystemClock(), registry=CollectorRegistry(), kube=kube,
                   resources=resources)  # fmt: skip
    project = next(m for m in manifests() if m["kind"] == "Project")

    def of(namespace: Any) -> dict[str, Any]:
        return {**project, "metadata": {"name": "x", "namespace": namespace}}

    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession(address.url) as session,
    ):
        for wanted, status in (
            ([of("a"), of("b")], 403), ([of("a"), {**of("a"), "kind": ["x"]}], 422),
            ([of("a"), of("")], 422), ([of("a"), of(1)], 422), ([of("../b")], 400),
            ([{**project, "metadata": None}], 422), ([of("a")], 200),
        ):  # fmt: skip
            assert not resources.found
            async with session.post(
                "/apply", json={"manifests": wanted}, headers=bearer(ALICE)
            ) as answer:
                assert answer.status == status, (wanted, await answer.text())
        assert set(resources.found) == {("Project", "a.x")}
    await storage.close()


async def test_a_handler_that_forgets_to_ask_sends_nothing(
    kube: FakeReviews, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(request: web.Request, query: Query) -> Any:
        return {"secret": "of b"}

    storage = open_storage(f"file://{tmp_path}/bucket")
    app = make_app(settings(), database=None, storage=storage, ingester=RecordingIngester(),
                   clock=SystemClock(), registry=CollectorRegistry(), kube=kube)  # fmt: skip
    app.add_routes(routes([Endpoint("GET", "/forgetful", "x", dict, forgetful, "x",
                                    params=("project",), check=Across((READ,)))]))  # fmt: skip
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession(address.url) as session,
    ):
        for path in ("/forgetful", "/forgetful?project=a.x"):
            async with session.get(path, headers=bearer(ALICE)) as answer:
                assert answer.status == 500
                assert "of b" not in await answer.text()
    await storage.close()
    assert "asked about no right" in caplog.text


async def test_answers_are_kept_for_seconds_and_refusals_for_less(
    kube: FakeReviews, tmp_path: Path
) -> None:
    clock = Hand()
    async with running(kube, tmp_path, clock=clock, auth_cache=10.0) as (session, _):

        async def status(path: str, token: str = ALICE) -> int:
            async with session.get(path, headers=bearer(token)) as answer:
                return answer.status

        together = await asyncio.gather(*(status("/builds/a.x/logs") for _ in range(20)))
        assert together == [404] * 20
        assert kube.asked == {"tokenreviews": 1, "subjectaccessreviews": 1}
        kube.grants.clear()
        clock.advance(9)
        assert await status("/builds/a.x/logs") == 404
        clock.advance(2)
        assert await status("/builds/a.x/logs") == 403
        kube.grants.add(("alice", READ_TEXT, "a"))
        assert await status("/builds/a.x/logs") == 403
        clock.advance(2.1)
        assert await status("/builds/a.x/logs") == 404
        del kube.users[ALICE]
        clock.advance(11)
        assert await status("/builds/a.x/logs") == 401


async def test_without_kubernetes_what_is_known_lives_on_for_its_seconds(
    kube: FakeReviews, tmp_path: Path
) -> None:
    clock = Hand()
    async with running(kube, tmp_path, clock=clock, auth_cache=10.0) as (session, _):
        async with session.get("/builds/a.x/logs", headers=bearer(ALICE)) as answer:
            assert answer.status == 404
        kube.away = True
        clock.advance(9)
        async with session.get("/builds/a.x/logs", headers=bearer(ALICE)) as answer:
            assert answer.status == 404
        for token in (ALICE, "another"):
            clock.advance(2)
            async with session.get("/builds/a.x/logs", headers=bearer(token)) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        kube.away = False
        async with session.get("/builds/a.x/logs", headers=bearer(ALICE)) as answer:
            assert answer.status == 404


def jwt(ends: float) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    return f"e30.{body}.c2lnbmF0dXJl"


async def login(session: aiohttp.ClientSession, token: str, **headers: str) -> Any:
    async with session.post("/login", json={"token": token}, headers=headers) as answer:
        return answer.status, answer.headers.get("Set-Cookie", ""), await answer.json()


async def test_a_session_says_who_and_never_by_which_token(
    kube: FakeReviews, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(kube, tmp_path) as (session, _):
        status, cookie, body = await login(session, ALICE)
        assert (status, body["user"], body["groups"]) == (200, "alice", ["team-a"])
        for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"):
            assert word in cookie
        value = cookie.split(";")[0].partition("=")[2]
        claims = value.split(".")[1]
        told = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode()
        assert ALICE not in cookie + told
        assert json.loads(told)["user"] == "alice"
        held = {"Cookie": f"spanyard-session={value}"}
        async with session.get("/whoami", headers=held) as answer:
            assert (await answer.json())["user"] == "alice"
        async with session.get("/builds/a.x/logs", headers=held) as answer:
            assert answer.status == 404
        async with session.get("/builds/b.x/logs", headers=held) as answer:
            assert answer.status == 403
        # Another site's page has no such cookie (SameSite), and is refused besides.
        async with session.post(
            "/logout", headers=held | {"Origin": "https://evil.example", "X-Spanyard-Request": "1"}
        ) as answer:
            assert answer.status == 403
        async with session.post("/logout", headers=held | {"X-Spanyard-Request": "1"}) as answer:
            assert "Max-Age=0" in answer.headers["Set-Cookie"]
        status, cookie, body = await login(session, "wrong-token-of-mallory")
        assert (status, cookie) == (401, "")
        async with session.post("/login", data=b'{"token": "abcdef', headers={
            "Content-Type": "application/json"
        }) as answer:  # fmt: skip
            assert answer.status == 400
            assert "abcdef" not in await answer.text()
    assert ALICE not in caplog.text
    assert "wrong-token-of-mallory" not in caplog.text


async def test_a_session_ends_with_its_token_or_its_time(kube: FakeReviews, tmp_path: Path) -> None:
    clock = Hand()
    now = clock.time_ns() / 1e9
    short = kube.person(jwt(now + 100), "alice")
    long = kube.person(jwt(now + 10**6), "alice")
    async with running(kube, tmp_path, clock=clock, session_lifetime=3600.0) as (session, _):
        _, first, _ = await login(session, short)
        _, second, _ = await login(session, long)
        assert "Max-Age=100;" in first
        assert "Max-Age=3600;" in second
        for advance, statuses in ((99, (200, 200)), (7, (401, 200)), (3600, (401, 401))):
            clock.advance(advance)
            for cookie, status in zip((first, second), statuses, strict=True):
                async with session.get("/whoami", headers={"Cookie": cookie}) as answer:
                    assert answer.status == status


async def test_behind_tls_the_cookie_is_for_tls_alone(kube: FakeReviews, tmp_path: Path) -> None:
    async with running(kube, tmp_path, trusted_proxies=["127.0.0.0/8"]) as (session, _):
        _, cookie, _ = await login(session, ALICE, **{"X-Forwarded-Proto": "https"})
        assert cookie.startswith("__Host-spanyard-session=")
        assert "Secure" in cookie
    async with running(kube, tmp_path, base_path="/x", trusted_proxies=["127.0.0.1"]) as (
        session,
        _,
    ):
        async with session.post(
            "/x/login", json={"token": ALICE}, headers={"X-Forwarded-Proto": "https"}
        ) as answer:
            assert answer.headers["Set-Cookie"].startswith("__Secure-spanyard-session=")
            assert "Path=/x" in answer.headers["Set-Cookie"]
        async with session.post("/login", json={"token": ALICE}) as answer:
            assert answer.status == 404
        async with session.post("/internal/hints", json={"keys": []}) as answer:
            assert answer.status == 401
    async with running(kube, tmp_path) as (session, _):
        # Nobody is a proxy unless named.
        _, cookie, _ = await login(session, ALICE, **{"X-Forwarded-Proto": "https"})
        assert "Secure" not in cookie


async def test_a_proxy_is_believed_from_its_address_alone_and_never_kubernetes_own_names(
    kube: FakeReviews, tmp_path: Path
) -> None:
    kube.grants |= {("oidc:bob", READ_TEXT, "a"), ("system:admin", READ_TEXT, "")}
    believed: dict[str, Any] = {
        "auth_proxy_user_header": "X-Forwarded-User", "auth_proxy_prefix": "oidc:",
        "trusted_proxies": ["127.0.0.1"],
    }  # fmt: skip
    bob = {"X-Forwarded-User": "bob", "X-Forwarded-Groups": "dev, ops"}
    async with running(kube, tmp_path, **believed) as (session, _):
        async with session.get("/whoami", headers=bob) as answer:
            assert (await answer.json()) == {
                "auth": "kubernetes", "user": "oidc:bob",
                "groups": ["oidc:dev", "oidc:ops", "system:authenticated"],
            }  # fmt: skip
        async with session.get("/builds/a.x/logs", headers=bob) as answer:
            assert answer.status == 404
    async with running(kube, tmp_path, **(believed | {"auth_proxy_prefix": ""})) as (session, _):
        for told in ({"X-Forwarded-User": "system:admin"},
                     {"X-Forwarded-User": "x", "X-Forwarded-Groups": "system:masters"}):  # fmt: skip
            async with session.get("/whoami", headers=told) as answer:
                assert answer.status == 401
    elsewhere = believed | {"trusted_proxies": ["10.0.0.0/8"]}
    async with (
        running(kube, tmp_path, **elsewhere) as (session, _),
        session.get("/whoami", headers=bob) as answer,
    ):
        assert answer.status == 401
    with pytest.raises(SettingError, match="auth_proxy_user_header"):
        settings(auth_proxy_user_header="X-Forwarded-User")


async def test_a_pods_token_opens_nothing_for_people_and_theirs_nothing_for_pods(
    kube: FakeReviews, tmp_path: Path
) -> None:
    pod = kube.pod("pods-token", "a", "x-server-1", "uid-1", {"spanyard.dev/project": "x"})
    kube.grants.add(("system:serviceaccount:a:spanyard-runner", READ_TEXT, "a"))
    async with running(kube, tmp_path) as (session, _):
        async with session.get("/builds/a.x/logs", headers=bearer(pod)) as answer:
            assert answer.status == 401
        for token, status in ((pod, 200), (ALICE, 401)):
            async with session.post(
                "/internal/hints", json={"keys": []}, headers=bearer(token)
            ) as answer:
                assert answer.status == status


async def test_a_review_that_says_nothing_of_the_audience_lets_no_pod_in(
    kube: FakeReviews, tmp_path: Path
) -> None:
    pod = kube.pod("pods-token", "a", "x-server-1", "uid-1", {"spanyard.dev/project": "x"})
    kube.blind = True
    async with (
        running(kube, tmp_path) as (session, _),
        session.post("/internal/hints", json={"keys": []}, headers=bearer(pod)) as answer,
    ):
        assert answer.status == 401


async def test_in_a_cluster_it_answers_to_the_names_that_are_allowed(
    kube: FakeReviews, tmp_path: Path
) -> None:
    async with running(kube, tmp_path, listen="0.0.0.0", allowed_hosts=["obs.example.com"]) as (
        session, _,
    ):  # fmt: skip
        for host, path, status in (
            ("obs.example.com", "/openapi.json", 200), ("obs.example.com:8443", "/openapi.json", 200),
            ("evil.example.com", "/openapi.json", 421), ("10.1.2.3:8080", "/readyz", 503),
            ("spanyard-gateway:80", "/internal/hints", 401),
        ):  # fmt: skip
            method = "POST" if path.startswith("/internal") else "GET"
            async with session.request(
                method, path, headers={"Host": host}, json={} if method == "POST" else None
            ) as answer:
                assert answer.status == status, host


async def test_no_token_is_taken_from_an_address(kube: FakeReviews, tmp_path: Path) -> None:
    async with running(kube, tmp_path) as (session, _):
        for name in ("token", "access_token", "authorization"):
            async with session.get(f"/projects/a.x/logs?{name}={ALICE}") as answer:
                assert answer.status == 400
                assert ALICE not in await answer.text()


async def test_a_ticket_for_live_is_minted_for_one_pod(kube: FakeReviews, tmp_path: Path) -> None:
    from spanyard_core.tickets import TicketError, check_live_ticket

    async with running(kube, tmp_path) as (_, app):
        gate = app[GATE]
        ticket = gate.mint_live_ticket("uid-1")
        check_live_ticket(gate.verifier, ticket, "uid-1", time.time())
        with pytest.raises(TicketError):
            check_live_ticket(gate.verifier, ticket, "uid-2", time.time())


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert settings(listen="0.0.0.0").listen
    for wrong, said in (
        ({"auth": "none", "listen": "0.0.0.0"}, "--auth kubernetes"),
        ({"base_path": "/x/"}, "base_path"), ({"base_path": "x"}, "base_path"),
        ({"base_path": "/.."}, "base_path"), ({"tls_cert": "/c.pem"}, "tls_key"),
        ({"trusted_proxies": ["10.0.0.0/8", "x"]}, "trusted_proxies"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=said):
            settings(**wrong)
