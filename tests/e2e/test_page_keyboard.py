"""Through every room of the page with keys alone, in a real browser: the focus is always somewhere."""

import json

import pytest

from tests.e2e.browser import Tab, tab
from tests.e2e.test_page import Stack, stack

__all__ = ["stack"]

FOCUS = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return {what: "nothing"};
    const box = one.getBoundingClientRect();
    const style = getComputedStyle(one);
    const outline = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset);
    let [left, top, right, bottom] = [0, 0, innerWidth, innerHeight];
    for (let above = one.parentElement; above; above = above.parentElement) {
        if (getComputedStyle(above).overflow === "visible") continue;
        const edge = above.getBoundingClientRect();
        left = Math.max(left, edge.left);
        top = Math.max(top, edge.top);
        right = Math.min(right, edge.right);
        bottom = Math.min(bottom, edge.bottom);
    }
    // Sides of the outline that are not cut off; of what is wider or taller than its place some are.
    const across = box.left < right && box.right > left, down = box.top < bottom && box.bottom > top;
    const sides = [
        down && box.left - outline >= left - 1, down && box.right + outline <= right + 1,
        across && box.top - outline >= top - 1, across && box.bottom + outline <= bottom + 1,
    ];
    return {
        what: `${one.tagName.toLowerCase()}#${one.id}.${one.className}`,
        name: one.getAttribute("aria-label") || one.innerText?.slice(0, 80) || "",
        room: Boolean(one.closest("#room")),
        ring: one.matches(":focus-visible") && style.outlineStyle !== "none",
        sides: across && down ? sides.filter(Boolean).length : 0,
    };
}"""


TABLE_AT_ONCE = """async summary => {
    const there = [];
    for (let i = 0; i < 2; i++) {
        summary.click();
        await new Promise(done => queueMicrotask(() => queueMicrotask(done)));
        there.push(Boolean(summary.parentElement.querySelector("table")));
    }
    return there;
}"""
"""After each of two clicks, before any task that waits: whether there is a table."""


class Walk:
    """Somebody without a mouse."""

    def __init__(self, found: Tab) -> None:
        self.found = found
        self.page = found.page

    def focus(self) -> dict[str, object]:
        """What has the focus, which is seen."""
        told: dict[str, object] = self.page.evaluate(FOCUS)
        assert told["what"] != "nothing", self.page.url
        assert told["ring"], (self.page.url, told)
        assert told["sides"], (self.page.url, told)  # type: ignore[operator]
        return told

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def in_room(self) -> None:
        """Wait until the focus is in the room; it is seen there."""
        self.page.wait_for_function(
            "() => document.activeElement && document.activeElement.closest('#room')"
        )
        self.focus()

    def room(self, key: str, heading: str) -> None:
        """To a room by its key; the focus is in it."""
        self.press("g", key)
        self.page.get_by_role("heading", level=1, name=heading).wait_for()
        self.found.settled()
        self.in_room()

    def tab_to(self, name: str) -> None:
        """On by Tab to what has this name, seen at each step."""
        for _ in range(120):
            self.press("Tab")
            if self.page.evaluate("() => document.activeElement === document.body"):
                continue  # between the end of the page and its beginning
            if str(self.focus()["name"]).startswith(name):
                return
        pytest.fail(f"Tab does not lead to {name}")

    def on(self, selector: str) -> None:
        """Wait until the focus is on one of these; it is seen there."""
        self.page.wait_for_function(
            "selector => document.activeElement && document.activeElement.matches(selector)",
            arg=selector,
        )
        self.focus()

    def there_and_back(self, selector: str, inside: str) -> None:
        """From an entry of a list to what it stands for, and back to the same entry."""
        self.on(selector)
        entry = self.page.evaluate("document.activeElement.href")
        before = self.page.url
        self.press("Enter")
        self.page.wait_for_url(lambda url: url != before)
        self.found.sees(inside)
        self.found.settled()
        self.in_room()
        self.page.go_back()
        self.page.wait_for_url(before)
        self.page.wait_for_function("href => document.activeElement?.href === href", arg=entry)
        self.found.settled()
        self.focus()


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light", "phone"])
def test_every_room_its_list_and_an_entry_of_it_are_reached_by_keys_alone(
    stack: Stack, dark: bool, width: int
) -> None:
    bad = {"type": "log", "id": "1", "projectId": "local.support", "level": "loud",
           "message": "for the keyboard", "timestamp": "2026-11-21T10:00:00Z"}  # fmt: skip
    place = stack.data / "bucket" / "observability" / "logs" / "local.support"
    place.mkdir(parents=True, exist_ok=True)
    name = place / f"20261121T100000Z_keyboard-{width}.jsonl"
    name.with_suffix(".tmp").write_text(json.dumps(bad) + "\n", "utf-8")
    name.with_suffix(".tmp").rename(name)
    stack.until("quarantine?project=local.support")
    with tab(stack.gateway, dark=dark, width=width) as found:
        page, walk = found.page, Walk(found)
        found.go("?project=local.support&range=1d")
        found.settled()
        # From the address bar: the first Tab offers to leave out the rail.
        walk.press("Tab")
        assert walk.focus()["name"] == "Skip to the room"
        walk.press("Enter")
        walk.on("#room")
        # Overview, Builds, Deployments: to an entry, into it, and back to it.
        walk.press("j")
        walk.there_and_back(".card h3 a", "question answered")
        walk.press("j")
        walk.there_and_back(".latest a", "artifact of")
        walk.room("b", "Builds")
        walk.press("j")
        walk.there_and_back("tr.link a", "artifact of")
        walk.room("d", "Deployments")
        walk.press("j")
        walk.there_and_back("tr.link a", "question answered")
        # The deployment's log and its timeline, by their tabs; Esc leads back to the list.
        walk.press("j", "Enter")
        page.get_by_role("tab", name="Timeline").wait_for()
        walk.in_room()
        walk.tab_to("Timeline")
        walk.press("Enter")
        page.locator(".story-row").first.wait_for()
        walk.press("k")
        page.locator(".story-row.at").wait_for()
        walk.focus()
        walk.press("Escape")
        page.wait_for_url("**/ui/deployments?*")
        walk.on("tr.link a")
        # Traces: j chooses and Enter opens; in the trace the spans and what one holds.
        walk.room("t", "Traces")
        page.locator(".traces tbody tr").first.wait_for()
        walk.press("j")
        page.wait_for_url("**at=*")
        walk.focus()
        walk.press("Enter")
        page.wait_for_url("**/ui/traces/local.support/*")
        page.get_by_role("tree").wait_for()
        walk.in_room()
        walk.press("j")
        page.wait_for_url("**span=*")
        walk.focus()
        page.get_by_role("tabpanel").wait_for()
        walk.press("Enter")
        walk.on("[role=tabpanel]")
        walk.press("Escape")
        page.wait_for_url("**/ui/traces?*")
        walk.on("tr.link a")
        # Logs: search, then a line, and what it holds.
        walk.room("l", "Logs")
        page.locator(".log-row").first.wait_for()
        walk.press("/")
        walk.on(".query input")
        page.keyboard.type("question")
        walk.press("Enter")
        page.wait_for_url("**q=question*")
        walk.press("Escape", "Escape")
        page.locator(".log-row", has_text="question answered").first.wait_for()
        walk.press("j")
        page.locator(".log-row.at").wait_for()
        walk.on(".log-lines")
        walk.press("Enter")
        page.get_by_role("link", name="100 lines before and after").wait_for()
        walk.tab_to("100 lines before and after")
        walk.press("Enter")
        page.get_by_role("heading", name="Around one line").wait_for()
        page.locator(".log-row.at").wait_for()
        walk.in_room()
        page.go_back()
        page.wait_for_url("**q=question*")
        walk.in_room()
        # Metrics: a plot's table leads to a trace.
        walk.room("m", "Metrics")
        found.sees("95 % within")
        duration = page.locator("figure", has_text="Duration").get_by_text("As a table")
        for _ in range(3):
            walk.tab_to("As a table")
        assert duration.evaluate("one => one === document.activeElement")
        # Who presses Tab right after Enter is led into the table: it is there before the next key.
        assert duration.evaluate(TABLE_AT_ONCE) == [True, False]
        walk.press("Enter")
        walk.tab_to("trace ")
        walk.press("Enter")
        page.wait_for_url("**/ui/traces/local.support/*")
        walk.in_room()
        page.go_back()
        found.sees("95 % within")
        walk.in_room()
        # Scores: the worst ones.
        walk.room("s", "Scores")
        page.locator(".worst a").first.wait_for()
        walk.press("j")
        walk.there_and_back(".worst a", "invoke_agent")
        # Proof: a line in quarantine is looked at; the dialog gives the focus back.
        walk.room("p", "Proof")
        page.get_by_role("button", name="Look").first.wait_for()
        walk.press("j")
        walk.on("td button")
        walk.press("Enter")
        page.get_by_role("dialog", name="a line in quarantine").wait_for()
        walk.focus()
        walk.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        walk.on("td button")
        # The frame: time, keys, and anywhere.
        for key, dialog in (("t", "time range"), ("?", "keys"), ("Control+k", "go anywhere")):
            walk.press(key)
            page.get_by_role("dialog", name=dialog).wait_for()
            walk.focus()
            walk.press("Escape")
            page.get_by_role("dialog", name=dialog).wait_for(state="hidden")
            walk.on("td button")
        walk.press("Control+k")
        page.keyboard.type("room builds")
        page.get_by_role("option", name="room Builds", selected=True).wait_for()
        walk.press("Enter")
        page.wait_for_url("**/ui/builds?*")
        walk.in_room()
        assert found.troubles == []
