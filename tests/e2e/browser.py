"""A real Chromium, driven by Playwright: the one that is installed, never one that is downloaded."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

UI = Path(__file__).resolve().parents[2] / "gateway" / "ui"
AXE = UI / "node_modules/axe-core/axe.min.js"
AWAY = (
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_EMPTY_RESPONSE",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",  # it went in the middle of an answer
    "ERR_CONTENT_LENGTH_MISMATCH",
    "WebSocket connection",
)
"""What a browser tells of a gateway that is gone."""
PATIENCE_S = 60.0
"""Of whoever waits for what a page surely shows."""
REQUIRED = os.environ.get("SPANYARD_REQUIRE_BROWSER") == "1"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
    # Where a test answers for the gateway, a page of this machine may still open its sockets.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
)  # fmt: skip


def needed(*programs: str) -> None:
    """Skip, with the reason, where they are not there; fail where they are required."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        told = f"{', '.join(missing)} not there; on Debian: apt-get install {' '.join(missing)}"
        if REQUIRED:
            pytest.fail(told)
        pytest.skip(told)


def installed() -> None:
    """Chromium, and axe, which is got when it is not there."""
    needed("chromium", "npm")
    if not AXE.exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=UI, check=True)


class Tab:
    """A page of the browser; collects what goes wrong in it."""

    def __init__(self, page, address: str) -> None:  # type: ignore[no-untyped-def]
        self.page = page
        self.address = address
        self.troubles: list[str] = []
        self._told: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def _said(self, message) -> None:  # type: ignore[no-untyped-def]
        if message.type in {"error", "warning"}:
            self.troubles.append(f"{message.type}: {message.text} ({message.location})")

    def go(self, place: str) -> None:
        """Open a place below `/ui/`."""
        self.page.goto(f"{self.address}/ui/{place}")

    def sees(self, text: str, seconds: float = PATIENCE_S) -> None:
        """Wait until the text is seen."""
        self.page.get_by_text(text).filter(visible=True).first.wait_for(timeout=seconds * 1000)

    def settled(self) -> None:
        """Wait until all that the room asks for first is there, and drawn."""
        self.page.wait_for_function(
            """() => document.querySelector("#room h1")
                && !document.querySelector(".skeleton, [aria-busy=true]")"""
        )
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def streams(self) -> Callable[[], None]:
        """Call it before the room is opened; what it gives waits until a stream of it is live."""
        heard: list[str] = []

        def frame(payload: str | bytes) -> None:
            message = json.loads(payload)
            if message["type"] == "live":
                heard.append(message["id"])
            if message["type"] == "server:log" and not message.get("history"):
                self._told.extend(item["line"] for item in message["items"])

        def live() -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not heard:
                assert time.monotonic() < deadline, "no stream began"
                self.page.wait_for_timeout(20)

        self.page.on("websocket", lambda socket: socket.on("framereceived", frame))
        return live

    def was_told(self, text: str) -> bool:
        """Whether a line with it came by a stream of `streams`, as it was written."""
        return any(text in line for line in self._told)

    def scrolls_up_to(self, line: str) -> None:
        """Scroll the log up, as older lines come, until this one is drawn."""
        self.page.wait_for_function(
            """line => {
                const box = document.querySelector(".log-lines");
                box.scrollTop = 0;
                return [...box.querySelectorAll(".said-line")].some(one => one.innerText === line);
            }""",
            arg=line,
            polling=100,
        )

    @contextlib.contextmanager
    def another(self, url: str) -> Iterator["Tab"]:
        """A further tab of the browser, opened by a link."""
        page = self.page.context.new_page()
        try:
            other = Tab(page, self.address)
            page.goto(url)
            yield other
        finally:
            page.close()

    def is_fine(self, *, away: bool = False) -> None:
        """No complaint of the page, nothing serious for axe. `away`: the gateway was."""
        told = [one for one in self.troubles if not (away and any(word in one for word in AWAY))]
        assert told == [], self.page.url
        self.troubles.clear()
        assert self.axe() == [], self.page.url

    def axe(self) -> list[str]:
        """What axe finds serious or critical, by rule and place."""
        # Read by the browser itself: the page's own policy allows no script that it is given.
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run()")
        return [
            f"{violation['id']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]


@contextlib.contextmanager
def tab(address: str, *, dark: bool = False, width: int = 1280, height: int = 800) -> Iterator[Tab]:
    """One tab in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        try:
            context = browser.new_context(
                color_scheme="dark" if dark else "light",
                viewport={"width": width, "height": height},
            )
            context.set_default_timeout(PATIENCE_S * 1000)
            yield Tab(context.new_page(), address)
        finally:
            browser.close()
