"""The rooms Logs, Traces and Trace in a real browser: search, time, keys, what hangs together."""

import json
import re
import urllib.parse
import urllib.request
from typing import Any

import pytest

from tests.e2e.browser import tab
from tests.e2e.test_page import Stack, stack
from tests.fakes.processes import wait_for

__all__ = ["stack"]

OTHER_BARS = "many => document.querySelector('.bars').getAttribute('aria-valuemax') !== many"
SPAN = "new URL(location.href).searchParams.get('span')"
COPIED = """() => new MutationObserver(() => {
    window.wasCopied ||= [...document.querySelectorAll("button")].some(one => one.innerText === "Copied");
}).observe(document.body, {subtree: true, childList: true, characterData: true})"""
"""What a button says for a moment only is noticed."""


def test_lines_are_searched_narrowed_opened_and_seen_in_their_place(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go("logs?project=local.support&range=1d")
        page.locator(".log-row").first.wait_for()
        # A value of a facet goes into the search and out again.
        info = page.locator(".facets fieldset", has_text="level").get_by_role("button", name="info")
        info.click()
        page.wait_for_url("**q=level%3Ainfo*")
        page.locator('.facets button[aria-pressed="true"]').wait_for()
        page.get_by_role("button", name="ask for all again").click()
        page.wait_for_url(re.compile(r"/logs(?!.*q=)"))
        # What is wrong is said where it is.
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type("levl:error")
        page.keyboard.press("Enter")
        page.get_by_role("alert").filter(has_text="level").wait_for()
        assert page.locator(".query-mirror u").inner_text() == "levl"
        box = page.get_by_role("combobox", name="Search log lines")
        box.fill("lev")
        page.get_by_role("option", name="level:").wait_for()
        box.fill('"question answered"')
        box.press("Enter")
        page.wait_for_url(re.compile(r"q=%22question\+answered%22"))
        page.locator(".log-row", has_text="question answered").first.wait_for()
        rows = page.locator(".log-row:not(.told)").all_inner_texts()
        assert rows
        assert all("question answered" in row for row in rows)
        # j and Enter choose and open a line; around it are lines that the search left out.
        page.keyboard.press("Escape")
        page.locator(".log-lines").focus()
        page.keyboard.press("j")
        page.wait_for_url("**line=*")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="100 lines before and after").click()
        page.locator(".log-row.at", has_text="question answered").wait_for()
        assert page.locator(".log-row", has_not_text="question answered").count() > 0
        refused = [t for t in found.troubles if "400" not in t]  # the query that was wrong
        assert refused == []


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light", "phone"])
def test_a_link_to_a_line_shows_it_however_long_those_before_it_are(
    stack: Stack, dark: bool, width: int
) -> None:
    for n in range(20):
        stack.ask(f"What about refunds for all that I have ever ordered at your shop, number {n}?")
    lines: list[dict[str, Any]] = []

    def stored() -> bool:
        query = "q=container:server&order=desc&limit=200"
        with urllib.request.urlopen(
            f"{stack.gateway}/projects/local.support/logs?{query}"
        ) as found:
            lines[:] = json.load(found)["items"]
        return any("at your shop, number 19" in line["message"] for line in lines)

    wait_for("the lines are stored", stored)
    assert len(lines) > 110, "a hundred before it, and some behind it"
    with tab(stack.gateway, dark=dark, width=width) as found:

        def seen() -> bool:
            row = found.page.locator(".log-row.at").bounding_box()
            view = found.page.locator(".log-lines").bounding_box()
            assert row
            assert view
            return view["y"] <= row["y"] and row["y"] + 20 <= view["y"] + view["height"]

        for line, wrap in ((lines[10], ""), (lines[10], "&wrap=1"), (lines[0], "&wrap=1")):
            id_, moment = (urllib.parse.quote(line[name]) for name in ("id", "timestamp"))
            found.go(
                f"logs?project=local.support&range=1d&around={id_}&moment={moment}&line={id_}{wrap}"
            )
            found.page.locator(".log-row.at").wait_for()
            found.settled()
            assert seen(), (line, wrap)
            # By keys to lines that are out of sight.
            for _ in range(20):
                before = found.page.url
                found.page.keyboard.press("k")
                found.page.wait_for_function("before => location.href !== before", arg=before)
            found.page.locator(".log-row.at").wait_for()
            assert seen(), (found.page.url, wrap)
        # A link to the newest line, at the end of what comes: it stays in its place.
        newest = urllib.parse.quote(lines[0]["id"])
        found.go(f"logs?project=local.support&range=1d&q=container:server&line={newest}")
        found.page.locator(".log-row.at").wait_for()
        found.settled()
        found.page.wait_for_timeout(300)  # what would begin to follow is a frame away
        following = found.page.get_by_role("button", name="Follow")
        assert following.get_attribute("aria-pressed") == "false"
        found.is_fine()


def test_a_time_is_chosen_by_key_and_by_brush_and_stands_in_the_address(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go("traces?project=local.support")
        found.sees("question")
        page.locator("body").press("t")
        page.get_by_role("dialog", name="time range").get_by_role("button", name="last day").click()
        page.wait_for_url("**range=1d*")
        bars = page.locator(".bars")
        bars.wait_for()
        bars.focus()
        page.keyboard.press("ArrowLeft")
        # Into the last bar, again and again: each time there are other bars.
        for _ in range(3):
            many = bars.get_attribute("aria-valuemax")
            page.keyboard.press("Enter")
            page.wait_for_url(re.compile(r"from=.*to="))
            page.wait_for_function(OTHER_BARS, arg=many)
        for _ in range(3):
            page.go_back()
        page.wait_for_url("**range=1d*")
        # The list by keyboard: j chooses, Enter opens, Esc leads back to it as it was.
        page.locator(".traces tbody tr").first.wait_for()
        page.locator("#room").focus()
        page.keyboard.press("j")
        page.wait_for_url("**at=*")
        page.keyboard.press("Enter")
        page.wait_for_url("**/traces/local.support/*")
        page.get_by_role("tree").wait_for()
        page.keyboard.press("j")
        page.wait_for_url("**span=*")
        page.keyboard.press("Escape")
        page.wait_for_url("**/traces?*range=1d*")
        assert found.troubles == []


def test_a_conversation_can_be_taken_along_and_the_palette_leads_anywhere(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        found.go(f"traces/local.support/{stack.trace}")
        page.get_by_role("treeitem", name="model call").first.click()
        page.evaluate(COPIED)
        page.get_by_role("button", name="Copy as curl").click()
        page.wait_for_function("window.wasCopied")
        assert page.evaluate("navigator.clipboard.readText()").startswith("curl ")
        page.keyboard.press("Control+k")
        page.get_by_role("combobox", name="go anywhere").fill("proof")
        page.get_by_role("option", name="room Proof").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/proof*")
        found.sees("records stored")
        assert found.troubles == []


def test_what_is_missing_late_or_open_is_told_with_its_cause_and_what_to_do(stack: Stack) -> None:
    def worse(route: Any) -> None:
        answer = route.fetch()
        proof = answer.json()
        (writer,) = [one for one in proof["writers"] if one["state"] == "open"][:1]
        proof["gaps"] = [
            {"writer": writer["writer"], "projectId": "local.support", "signal": "logs",
             "cause": "rotated-away", "message": "gone: <b>0.log.1</b>", "afterSeq": 17, "lines": 4,
             "bytes": 0, "fromTime": "", "toTime": "", "timestamp": "2026-11-22T10:00:00Z"},
        ]  # fmt: skip
        proof["backlog"] |= {"objects": 3, "bytes": 4000, "oldestAt": "2026-11-21T10:00:00Z"}
        route.fulfill(response=answer, body=json.dumps(proof))

    with tab(stack.gateway) as found:
        page = found.page
        found.go("proof?project=local.support")
        found.sees(" to be loaded")
        region = page.get_by_role("region", name="open sources")
        region.get_by_text("still runs").first.wait_for()
        region.locator("details").first.evaluate("details => { details.open = true; }")
        region.get_by_text(re.compile("records? so far")).first.wait_for()
        assert page.get_by_role("region", name="losses").count() == 0
        page.route("**/projects/local.support/proof", worse)
        losses = page.get_by_role("region", name="losses")
        losses.get_by_text("4 lines").wait_for()
        for told in ("deleted before it was read", "containerLogMaxSize", "gone: <b>0.log.1</b>"):
            assert told in losses.inner_text()
        found.sees("3 objects wait (4.00 kB) to be loaded, the oldest for")
        found.sees("/readyz of the ingester says")
        found.is_fine()


def test_words_are_found_in_a_trace_and_a_link_shows_the_same_to_somebody_else(
    stack: Stack,
) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go(f"traces/local.support/{stack.trace}")
        tree = page.get_by_role("tree")
        tree.wait_for()
        page.get_by_role("heading", name="question").wait_for()
        page.get_by_role("list", name="kinds of spans").get_by_text("model call").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("refunds 5")  # in what spans hold, which is not on this page
        page.get_by_role("search").get_by_text(re.compile(r"\d spans")).wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**find=refunds*span=*")
        tree.locator(".fall-row.at.hit").wait_for()
        page.locator(".detail mark", has_text="refunds").first.wait_for()
        # Once more by key, with all folded away: what hides the next one is unfolded.
        first = page.url
        page.keyboard.press("Escape")
        tree.focus()
        page.keyboard.press("n")
        page.wait_for_function("before => location.href !== before", arg=first)
        page.keyboard.press("Shift+N")
        page.wait_for_function("before => location.href === before", arg=first)
        tree.get_by_role("treeitem").first.get_by_role("button", name="fold").click()
        page.wait_for_function("document.querySelectorAll('.fall-row').length === 1")
        page.keyboard.press("n")
        page.wait_for_function("document.querySelectorAll('.fall-row').length > 1")
        box = page.get_by_role("searchbox", name="Find in this trace")
        box.fill("nobody said this")
        found.sees("no span has this")
        tree.get_by_role("treeitem").first.click()
        top = page.evaluate(SPAN)
        box.fill("refunds 5")
        box.press("Enter")  # before there is an answer: the next one is chosen when it comes
        page.wait_for_function(f"top => {SPAN} !== top", arg=top)
        tree.locator(".fall-row.at.hit").wait_for()
        chosen = tree.locator(".fall-row.at.hit").get_attribute("id")
        found.is_fine()
        link = page.url
    with tab(stack.gateway, dark=True, width=390) as other:
        other.page.goto(link)
        other.page.locator(f"#{chosen}.at.hit").wait_for()
        other.page.locator(".detail mark", has_text="refunds").first.wait_for()
        assert other.page.get_by_role("searchbox").input_value() == "refunds 5"
        other.is_fine()


def test_a_link_of_each_room_shows_somebody_else_the_same(stack: Stack) -> None:
    """What is chosen stands in the address: a browser that knows nothing else has it all."""
    ours, times = "local.support-agent", "project=local.support&range=1d"
    rooms = {
        f"?{times}&utc=1&live=0": ['button.live[aria-pressed="false"]', "text=Latest builds"],
        f"logs?{times}&q=level:info&wrap=1": [
            '.facets button[aria-pressed="true"]', 'button[aria-pressed="true"]:text("Wrap")',
            ".log-row.wrap",
        ],
        f"traces?{times}&q=status:ok+duration:>=100ms": [
            'button[aria-pressed="true"]:text("100 ms")',
        ],
        f"traces/local.support/{stack.trace}?tab=Attributes": ['[aria-selected="true"]:text("Attr")'],
        f"metrics?{times}&by=revision&metric=agent.duration": [
            "text=support-agent, revision 1", "text=agent.duration: Values",
        ],
        f"scores?{times}&name=helpfulness&by=none": ["h2:text('helpfulness')"],
        f"builds/{ours}?fold=fetch&find=packed": ["text=of 3 lines"],
        f"deployments/{ours}?view=timeline&kinds=revision": [
            '[role=tab][aria-selected="true"]:text("Timeline")',
            'button[aria-pressed="false"]:text("build line")', ".story-row:has-text('revision')",
        ],
        "proof?project=local.support&quarantine=deleted": [
            "select[aria-label='what became of it'] >> nth=0", "text=There is none.",
        ],
    }  # fmt: skip
    with tab(stack.gateway) as found:
        for place, signs in rooms.items():
            found.go(place)
            for sign in signs:
                found.page.locator(sign).first.wait_for()
        found.go(f"scores?{times}&name=helpfulness&by=none")
        found.page.locator("h2:text('helpfulness')").wait_for()
        assert found.page.locator("h2:text('grounded')").count() == 0
        assert found.page.get_by_label("lines", exact=True).input_value() == "none"
        assert found.troubles == []
