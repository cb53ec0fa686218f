"""The rooms Logs, Traces and Trace in a real browser: search, time, keys, what hangs together."""

import json
import re
from typing import Any

from tests.e2e.browser import tab
from tests.e2e.test_page import Stack, stack

__all__ = ["stack"]


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
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"from=.*to="))
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
        page.get_by_role("button", name="Copy as curl").click()
        page.get_by_role("button", name="Copied").wait_for()
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
