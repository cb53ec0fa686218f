"""A day at the page, in a real browser over a real `spanyard up`: deploy, watch, search, mend.

Nothing waits by the clock: builds and requests stand at gates that the test opens.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.browser import Tab, installed, tab
from tests.e2e.story import BUILD, PROJECT, TALKER, Story, numbers

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

TRAP = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    installed()
    with Story(tmp_path_factory.mktemp("story")) as it:
        it.up.endpoint(TALKER)
        yield it


def log(found: Tab) -> Any:
    return found.page.get_by_role("log")


def region(found: Tab, name: str) -> Any:
    return found.page.get_by_role("region", name=name)


def colour(found: Any) -> str:
    return str(found.evaluate("element => getComputedStyle(element).color"))


def downloaded(found: Tab) -> str:
    """All lines of the log, seen or not."""
    with found.page.expect_download() as download:
        found.page.get_by_role("button", name="Download").click()
    return Path(download.value.path()).read_text("utf-8")


def search(found: Tab, words: str) -> None:
    """In the frame's box."""
    found.page.get_by_role("button", name="Search").first.click()
    found.page.get_by_role("combobox", name="go anywhere").fill(words)
    found.page.get_by_role("dialog").get_by_role("option").first.wait_for()
    found.page.keyboard.press("Enter")


def test_an_edit_is_built_before_the_readers_eyes_and_its_failure_stands_first(
    story: Story,
) -> None:
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"builds?project={PROJECT}")
        page.get_by_role("link", name=BUILD, exact=True).wait_for()
        story.edit("""
            printf 'collecting \\033[31mred\\033[0m parts\\n'
            while [ ! -e "$GATES/glue" ]; do sleep 0.05; done
            echo 'looking for glue'
            while [ ! -e "$GATES/fail" ]; do sleep 0.05; done
            echo 'there is no glue' >&2
            exit 3
        """)
        page.get_by_role("link", name=f"{BUILD}-2").click()
        log(found).get_by_text("red", exact=True).wait_for()
        found.sees("Building")
        assert log(found).get_by_text("looking for glue").count() == 0
        red = colour(log(found).get_by_text("red", exact=True))
        assert red != colour(log(found).get_by_text("collecting"))
        story.open("glue")
        log(found).get_by_text("looking for glue").wait_for()
        assert page.get_by_text("Building").first.is_visible()
        assert region(found, "failure").count() == 0
        story.open("fail")
        card = region(found, "failure").first
        card.wait_for()
        for told in ("exit code 3", "there is no glue"):
            assert told in card.inner_text()
        log(found).get_by_text("there is no glue").wait_for()
        assert card.bounding_box()["y"] < log(found).bounding_box()["y"]
        page.get_by_text("Building").first.wait_for(state="detached")
        found.is_fine()
        story.edit("echo mended")
        page.go_back()
        page.get_by_role("link", name=f"{BUILD}-3").click()
        log(found).get_by_text("mended").wait_for()
        found.sees("Succeeded")
        with found.another(page.url) as fresh:
            log(fresh).get_by_text("mended").wait_for()
            fresh.sees("Succeeded")
            fresh.is_fine()
        found.is_fine()
        found.go(f"deployments/{TALKER}?project={PROJECT}")
        page.get_by_role("link", name="story-3").first.wait_for()
        story.up.endpoint(TALKER, revision=2)
        found.is_fine()


def test_the_log_goes_on_by_itself_after_a_crash_of_everything(story: Story) -> None:
    with tab(story.gateway) as found:
        found.go(f"deployments/{TALKER}?project={PROJECT}")
        found.sees("Following")
        story.say(*(f"tick {n}" for n in range(1, 41)))
        log(found).get_by_text("tick 40", exact=True).wait_for()
        crashed = numbers("talker begins in process", downloaded(found))[-1]
        found.is_fine()
        banner = found.page.get_by_text("connection is lost")
        story.up.kill()
        banner.wait_for()
        found.is_fine(away=True)
        story.restart()
        found.sees("Connected again after")  # for 20 s
        story.say(*(f"tick {n}" for n in range(41, 46)))
        log(found).get_by_text("tick 45", exact=True).wait_for()
        banner.wait_for(state="hidden")
        # What it said while there was nobody to listen is stored by the next one, and comes too.
        log(found).get_by_text(f"talker ends in process {crashed}").wait_for()
        lines = downloaded(found)
        assert numbers("tick", lines) == list(range(1, 46))
        began, ended = (numbers(f"talker {word} in process", lines) for word in ("begins", "ends"))
        assert len(set(began)) == len(began)
        assert sorted(ended) == sorted(began[:-1])
        found.is_fine(away=True)


def test_a_trace_is_watched_while_its_request_is_thought_about(story: Story) -> None:
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"deployments/{TALKER}?project={PROJECT}")
        found.sees("Following")
        answer = story.ask("riddle", "riddle")
        line = log(found).get_by_text("thinking about: riddle")
        line.wait_for()
        trace = re.findall(r"trace_id=(\w+)", line.inner_text())[0]
        page.locator(f'a[href*="{trace}"]').first.click()
        spans = page.get_by_role("tree")
        row = {
            name: spans.get_by_role("treeitem").filter(has_text=name)
            for name in ("invoke_agent talker", "chat slow-model", "execute_tool riddle")
        }
        for name in ("invoke_agent talker", "chat slow-model"):
            row[name].get_by_text("running").wait_for()
        assert row["execute_tool riddle"].count() == 0
        heading = page.get_by_role("main").inner_text()
        page.wait_for_function(
            "old => document.querySelector('main').innerText !== old", arg=heading
        )
        row["chat slow-model"].click()
        region(found, "span chat slow-model").get_by_text("riddle", exact=True).wait_for()
        found.is_fine()
        story.open("riddle")
        row["execute_tool riddle"].get_by_text("running").wait_for()
        row["chat slow-model"].get_by_text("running").wait_for(state="detached")
        region(found, "span chat slow-model").get_by_text("I have thought about: riddle").wait_for()
        assert row["invoke_agent talker"].get_by_text("running").count() == 1
        story.open("riddle-tool")
        page.get_by_role("main").get_by_text("running").first.wait_for(state="detached")
        assert answer.result() == trace
        found.is_fine()
        with found.another(page.url) as fresh:  # the chosen span is in the address
            talk = region(fresh, "span chat slow-model")
            talk.get_by_text("I have thought about: riddle").wait_for()
            fresh.is_fine()
        page.go_back()
        log(found).get_by_text("answered: riddle").wait_for()
        found.is_fine()


def test_the_frames_search_leads_to_a_line_and_to_a_trace(story: Story) -> None:
    story.say("the walrus was here", "nobody else was")
    trace = story.asked("oysters", "oysters")
    story.until(f"projects/{PROJECT}/logs?text=walrus")
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"?project={PROJECT}")
        found.sees(f"Overview of {PROJECT}")
        search(found, "walrus")
        page.wait_for_url("**/ui/logs*")
        log(found).get_by_text("walrus was here").wait_for()
        assert log(found).get_by_text("nobody else was").count() == 0
        found.is_fine()
        search(found, trace)
        page.wait_for_url(f"**/ui/traces/{PROJECT}/{trace}*")
        page.get_by_role("treeitem").filter(has_text="execute_tool oysters").wait_for()
        page.go_back()
        log(found).get_by_text("walrus was here").wait_for()
        found.is_fine()


def test_a_line_in_quarantine_is_mended_and_found_and_another_is_given_up_after_a_question(
    story: Story,
) -> None:
    line = {"type": "log", "id": "1", "projectId": PROJECT, "level": "info",
            "message": "came in late", "timestamp": datetime.now(UTC).isoformat()}  # fmt: skip
    bad = {**line, "id": "2", "level": "loud", "message": f"mended {TRAP}"}
    worse = {**line, "id": "3", "level": "louder", "message": "for nothing"}
    content = "".join(json.dumps(one) + "\n" for one in (line, bad, worse))
    story.object("story", content.encode())
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"proof?project={PROJECT}")

        def row(text: str) -> Any:
            return page.get_by_role("row").filter(has_text=text)

        row("mended").get_by_text("loud").first.wait_for()
        row("mended").get_by_role("button", name="Look").click()
        dialog = page.get_by_role("dialog")
        box = dialog.get_by_role("textbox", name="the line")
        assert TRAP.replace('"', '\\"') in box.input_value()
        found.is_fine()
        box.fill(box.input_value().replace("loud", "warn"))
        dialog.get_by_role("button", name="Replay").click()
        found.sees("Replayed: line 2")
        row("mended").wait_for(state="detached")  # or what is clicked next moves under the pointer
        row("for nothing").get_by_role("button", name="Look").click()
        dialog.get_by_role("button", name="Delete …").click()
        sure = dialog.get_by_role("button", name="Delete for good")
        assert sure.is_disabled()
        dialog.get_by_text(f"1 quarantined line of {PROJECT}").wait_for()
        found.is_fine()
        dialog.get_by_role("textbox", name="delete").fill("delete")
        sure.click()
        found.sees("Deleted: line 3")
        row("for nothing").wait_for(state="detached")
        found.is_fine()
        story.until(f"projects/{PROJECT}/logs?text={quote(f'mended {TRAP}')}")
        search(found, "mended")
        log(found).get_by_text(TRAP).wait_for()
        assert page.locator("img[src=x]").count() == 0
        found.is_fine()


def test_what_an_application_says_is_text_wherever_it_is_shown(story: Story) -> None:
    story.say(f"before {TRAP} after", "rings \x07 and turns \u202e round", "]]><script>alert(1)")
    trace = story.asked(TRAP, "trap")
    with tab(story.gateway) as found:
        page = found.page
        page.on("dialog", lambda dialog: found.troubles.append(f"a dialog: {dialog.message}"))
        found.go(f"deployments/{TALKER}?project={PROJECT}")
        log(found).get_by_text(f"before {TRAP} after").wait_for()
        log(found).get_by_text("rings \u2407 and turns \ufffd round").wait_for()
        log(found).get_by_text("]]><script>alert(1)").wait_for()
        assert page.locator("img[src=x]").count() == 0
        found.go(f"traces?project={PROJECT}")
        page.get_by_role("link", name="question").first.wait_for()
        found.go(f"traces/{PROJECT}/{trace}")
        row = page.get_by_role("treeitem").filter(has_text=f"execute_tool {TRAP}")
        row.click()
        found.sees(TRAP)
        page.get_by_role("tab", name="Raw").click()
        found.sees("invoke_agent")
        assert page.locator("img[src=x]").count() == 0
        assert "taken" not in page.title()
        found.is_fine()
