"""What the page says when things do not go on: spans that hang, lines that are elsewhere, ClickHouse
away, a reader who has scrolled away."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.browser import PATIENCE_S, installed, tab
from tests.e2e.story import PROJECT, TALKER, Story, numbers
from tests.e2e.test_page_story import downloaded, log

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FLOOD = 12_000
"""Lines; a stream begins with the newest 10,000."""
SERVER = f"deployments/{TALKER}?project={PROJECT}"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    installed()
    with Story(tmp_path_factory.mktemp("states")) as it:
        it.up.endpoint(TALKER)
        yield it


def there(what: Any, count: int) -> None:
    """So many of them, as soon as the page is drawn."""
    from playwright.sync_api import expect

    expect(what).to_have_count(count, timeout=PATIENCE_S * 1000)


def test_what_hangs_or_is_lost_is_marked_until_it_ends(story: Story) -> None:
    answer = story.ask("riddle of the sphinx", "sphinx")
    marks = ["hung"]  # of an unfinished one after ten minutes, and of one whose process has ended

    def told(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        for one in body.get("items") or body.get("spans") or []:
            one.update({} if one.get("endTime") else dict.fromkeys(marks, True))
        route.fulfill(response=answer, json=body)

    with tab(story.gateway) as found:
        page = found.page
        page.route(
            re.compile(r"/projects/[^/]+/(traces|spans)\?|/traces/[0-9a-f]{32}/(outline|spans)"),
            told,
        )
        found.go(f"traces?project={PROJECT}")
        row = page.locator(".traces tbody tr", has_text="question")
        row.get_by_text("hung", exact=True).wait_for()
        there(row.get_by_text("running", exact=True), 0)
        found.is_fine()
        row.get_by_role("link").first.click()
        heading = page.locator("#room .head")
        heading.get_by_text("hung", exact=True).wait_for()
        chat = page.get_by_role("treeitem").filter(has_text="chat slow-model")
        there(chat.locator(".span.hung"), 1)
        chat.click()
        found.sees("Nothing was heard of it, nor of any span below it")
        found.is_fine()
        marks[:] = ["lost"]
        page.reload()
        heading.get_by_text("lost", exact=True).wait_for()
        there(chat.locator(".span.lost"), 1)
        found.sees("The process that began it has ended")
        found.is_fine()
        marks.clear()
        story.open("sphinx")
        story.open("sphinx-tool")
        heading.get_by_text("ok", exact=True).wait_for()
        there(page.locator(".span.hung, .span.lost"), 0)
        assert answer.result() in page.url


def test_older_lines_come_as_one_scrolls_up_and_new_ones_are_counted_meanwhile(
    story: Story,
) -> None:
    story.say(*(f"flood {n}" for n in range(1, FLOOD + 1)))
    story.until(f'projects/{PROJECT}/logs?q="flood+{FLOOD}"')
    story.until(f'projects/{PROJECT}/logs?q="flood+1"')
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"logs?project={PROJECT}&q=flood")
        log(found).get_by_text(f"flood {FLOOD}", exact=True).wait_for()
        assert 1 not in numbers("flood", downloaded(found))
        found.scrolls_up_to("flood 1")
        log(found).get_by_text("flood 1", exact=True).wait_for()
        assert numbers("flood", downloaded(found)) == list(range(1, FLOOD + 1))
        pill = page.locator(".pill")
        assert pill.count() == 0
        story.say("flood again", "not of the search", "flood once more")
        page.get_by_role("button", name="2 new").wait_for()
        log(found).get_by_text("flood 1", exact=True).wait_for()  # nothing moved
        found.is_fine()
        pill.click()
        log(found).get_by_text("flood once more").wait_for()
        page.get_by_role("button", name="Following").wait_for()
        there(pill, 0)
        story.say("flood at last")
        log(found).get_by_text("flood at last").wait_for()


def test_while_clickhouse_is_away_a_banner_says_what_is_stale_until_it_is_back(
    story: Story,
) -> None:
    story.say("said before")
    story.until(f'projects/{PROJECT}/logs?q="said+before"')
    away = [True]

    def socket(ours: Any) -> None:
        theirs = ours.connect_to_server()

        def heard(text: str) -> None:
            message = json.loads(text)
            if away and message.get("history"):
                return  # what only the database has
            ours.send(text)
            if away and message["type"] == "subscribed":
                ours.send(json.dumps({"type": "partial", "id": message["id"],
                    "reason": "database-away", "message": "ClickHouse went for a walk"}))  # fmt: skip

        theirs.on_message(heard)

    def gone(route: Any) -> None:
        if away:
            told = json.dumps({"title": "Away", "detail": "ClickHouse went for a walk"})
            route.fulfill(status=503, content_type="application/problem+json", body=told)
        else:
            route.continue_()

    with tab(story.gateway) as found:
        page = found.page
        page.route_web_socket(re.compile("/ws$"), socket)
        page.route(re.compile(r"/projects$|/series"), gone)
        found.go(SERVER)
        banner = page.get_by_role("status").filter(has_text="ClickHouse went for a walk")
        banner.get_by_text("lines from before now").wait_for()
        found.sees("Following")
        assert log(found).get_by_text("said before").count() == 0
        story.say("said meanwhile")
        log(found).get_by_text("said meanwhile").wait_for()
        found.troubles.clear()  # a browser tells of each 503
        found.is_fine()
        away.clear()
        log(found).get_by_text("said before").wait_for()
        log(found).get_by_text("said meanwhile").wait_for()
        banner.wait_for(state="detached")
