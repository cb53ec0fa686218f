"""Signing in and out of the page, in a real browser over a gateway that asks who one is."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.app import make_app
from spanyard_gateway.live.mount import LiveParts, NoCollectors, NoPods
from spanyard_gateway.settings import GatewaySettings
from tests.e2e.browser import Tab, installed, tab
from tests.fakes.gateway_api import RecordingIngester, filled
from tests.fakes.reviews import FakeReviews
from tests.fakes.threads import in_a_thread

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TOKEN = "token-of-alice"
ROOM = "logs?project=a.x"


@asynccontextmanager
async def a_gateway(folder: Path, auth: str) -> AsyncIterator[str]:
    kube = FakeReviews()
    kube.person(TOKEN, "alice", "team-a")
    kube.grants.add(("alice", "get projects/telemetry", "a"))
    settings = GatewaySettings(storage="file:///s", clickhouse="chdb:///c", auth=auth)
    async with filled(folder) as (db, storage):
        app = make_app(
            settings, database=db, storage=storage, ingester=RecordingIngester(),
            clock=SystemClock(), registry=CollectorRegistry(),
            kube=kube if auth == "kubernetes" else None,
            live=LiveParts(NoPods(), NoCollectors()),
        )  # fmt: skip
        async with serving(app, "127.0.0.1", 0) as address:
            yield address.url


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    installed()
    with in_a_thread(a_gateway(tmp_path, "kubernetes"), "gateway") as url:
        yield url


def sign_in(found: Tab) -> None:
    found.page.get_by_label("token").fill(TOKEN)
    found.page.get_by_role("button", name="Sign in").click()
    found.page.get_by_role("button", name="Sign out").wait_for()


def kept(found: Tab) -> list[str]:
    """What of ours the browser keeps."""
    names = "[...Object.keys(localStorage), ...Object.keys(sessionStorage)]"
    return [str(name) for name in found.page.evaluate(names)]


def test_who_signs_out_leaves_nothing_in_the_browser_in_no_tab_and_is_told_so(
    gateway: str,
) -> None:
    with tab(gateway) as found:
        page = found.page
        found.go(ROOM)
        found.sees("Sign in to Spanyard")
        with page.expect_websocket() as opened:
            sign_in(found)
        socket = opened.value
        page.get_by_role("navigation").get_by_text("alice").wait_for()
        search = page.get_by_role("combobox", name="Search log lines")
        search.fill("level:error secret")
        search.press("Enter")
        page.wait_for_url("**q=level*")
        assert kept(found) == ["spanyard.asked.logs"]
        with found.another(page.url) as other:
            other.page.get_by_role("button", name="Sign out").wait_for()
            # The gateway is away for a moment: nobody believes that they are out when they are not.
            page.route("**/logout", lambda route: route.abort())
            page.get_by_role("button", name="Sign out").click()
            found.sees("You are still signed in")
            page.unroute("**/logout")
            found.troubles.clear()
            assert found.axe() == []
            page.get_by_role("button", name="Sign out").click()
            for one in (found, other):
                one.sees("You are signed out")
                one.sees("Sign in to Spanyard")
        if not socket.is_closed():
            socket.wait_for_event("close")
        assert page.context.cookies() == []
        assert kept(found) == []
        assert "secret" not in page.url
        assert page.request.get(f"{gateway}/projects").status == 401
        page.go_back()
        found.sees("Sign in to Spanyard")
        assert page.get_by_role("button", name="Sign out").count() == 0
        assert found.axe() == []
        found.go(ROOM)
        sign_in(found)
        page.get_by_role("combobox", name="Search log lines").wait_for()
        # A browser tells of each 401: of somebody who is not signed in.
        assert [told for told in found.troubles if "401" not in told] == []


def test_nobody_is_asked_to_sign_out_where_nobody_signs_in(tmp_path: Path) -> None:
    installed()
    with in_a_thread(a_gateway(tmp_path, "none"), "gateway") as url, tab(url) as found:
        with found.page.expect_response("**/whoami") as asked:
            found.go("")
        assert asked.value.json()["auth"] == "none"
        found.sees("There is no project yet")
        assert found.page.get_by_role("button", name="Sign out").count() == 0
        found.is_fine()
