"""The page of a gateway in a cluster, as a user opens it: a forwarded port, a token, Chromium."""

import urllib.request

import pytest

from tests.cluster import sources
from tests.cluster.stack import TEAM, Stack, reached
from tests.e2e.browser import installed, tab

pytestmark = pytest.mark.slow

PROJECT = "shop"
NAME = "paged"


def test_the_page_asks_for_a_token_and_shows_a_deployment_and_its_lines_as_they_come(
    stack: Stack, built: str, door: str
) -> None:
    installed()
    stack.cluster.apply(sources.deployment(NAME, PROJECT, buildRef={"name": built}))
    stack.wait_until_ready(NAME)
    token = stack.cluster.kubectl("create", "token", "reader", "-n", TEAM, "--duration=10m").strip()
    with (
        tab(door) as found,
        reached(stack.cluster, TEAM, f"{NAME}-server") as address,
    ):
        page = found.page
        found.go("deployments")
        found.sees("Sign in to Spanyard")
        assert found.axe() == []
        page.get_by_label("token").fill("nonsense")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        assert "Kubernetes does not know the token" in page.get_by_role("alert").inner_text()
        # A browser tells of each 401: nobody was signed in, and what was no token.
        assert all("401" in told for told in found.troubles), found.troubles
        found.troubles.clear()
        page.get_by_label("token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name=NAME).first.click()
        page.wait_for_url(f"**/deployments/{TEAM}.{NAME}*")
        found.sees("Serving")
        page.locator(".log-row", has_text="serving on").wait_for()
        flood = f"{address}/flood?mark=printed&from=0&to=3"
        with urllib.request.urlopen(flood, timeout=60) as answer:
            assert answer.read() == b"done"
        page.locator(".log-row", has_text="printed 2 ").wait_for()
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert token not in str(cookie), "the cookie says who, not by which token"
        assert token not in page.url
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert token not in kept
        page.reload()
        page.locator(".log-row").first.wait_for()
        found.is_fine()
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", NAME, "-n", TEAM)
