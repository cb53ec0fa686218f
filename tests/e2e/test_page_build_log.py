"""The log of a build in a real browser: its steps fold, by hand and by keys, links and hits open them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Tab, installed, tab
from tests.e2e.story import PROJECT, TALKER, Story, numbers

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LONG = 12_000
"""Lines of a step; the stream begins with the newest 10,000."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    installed()
    with Story(tmp_path_factory.mktemp("steps")) as it:
        it.up.endpoint(TALKER)
        yield it


def head(found: Tab, step: str) -> Any:
    """Of a step: among the lines, or pinned above them."""
    return found.page.locator(".log-head", has=found.page.get_by_text(step, exact=True))


def lines(found: Tab) -> list[str]:
    """Those that are seen."""
    return [str(text) for text in found.page.locator(".said-line").all_inner_texts()]


def to_the_top(found: Tab) -> None:
    """Scroll there, and stay: a drawing that was on its way takes who follows back to the end."""
    found.page.wait_for_function(
        """() => {
            const box = document.querySelector(".log-lines");
            if (box.scrollTop === 0) return true;
            box.scrollTop = 0;
            return false;
        }""",
        polling=200,
    )


def late(found: Tab, build: str) -> None:
    """From now on the page learns how the build stands after its lines have come."""
    held: list[Any] = []
    live: list[str] = []

    def answer(route: Any) -> None:
        if live:
            route.continue_()
        else:
            held.append(route)

    def socket(ours: Any) -> None:
        theirs = ours.connect_to_server()

        def heard(text: str) -> None:
            told = json.loads(text)["type"]
            if told == "build:status":
                return
            ours.send(text)
            if told == "live":
                live.append(told)
                while held:
                    held.pop().continue_()

        theirs.on_message(heard)

    found.page.route(re.compile(rf"/builds/{re.escape(build)}$"), answer)
    found.page.route_web_socket(re.compile("/ws$"), socket)


def is_folded(found: Tab, step: str, folded: bool = True) -> None:
    """Wait until it is."""
    head(found, step).get_by_role("button", expanded=not folded).first.wait_for()


def test_steps_fold_by_hand_by_keys_and_open_for_links_hits_and_who_follows(story: Story) -> None:
    story.edit("""
        seq -f 'sheet %.0f' 60
        while [ ! -e "$GATES/sheets" ]; do sleep 0.05; done
        echo 'the last sheet'
        while [ ! -e "$GATES/torn" ]; do sleep 0.05; done
        echo 'ERROR torn' >&2
        exit 4
    """)
    build = story.build("Building", "build")
    with tab(story.gateway) as found:
        page = found.page
        found.go(f"builds/{build}?project={PROJECT}")
        found.sees("sheet 60")
        found.is_fine()
        # One that was printed before is folded; who follows goes on to see what comes.
        page.get_by_role("button", name="Fold all").click()
        is_folded(found, "install")
        is_folded(found, "build")
        page.wait_for_url("**fold=*build*")
        assert lines(found) == []
        page.get_by_role("button", name="Follow", exact=True).click()
        is_folded(found, "build", False)
        story.open("sheets")
        found.sees("the last sheet")
        page.wait_for_url(re.compile(r"fold=fetch%2Cinstall$"))
        assert not any("part" in line for line in lines(found))
        page.locator("body").press("k")
        page.locator("body").press("ArrowLeft")
        is_folded(found, "build")
        page.locator(".log-head.at", has_text="build").wait_for()
        page.locator("body").press("k")
        page.locator(".log-head.at", has_text="install").wait_for()
        page.locator("body").press("ArrowRight")
        is_folded(found, "install", False)
        found.sees("part 30 is there")
        # A search opens what has a hit, and leaves the rest as it was.
        box = page.get_by_role("searchbox", name="Search in these lines")
        box.fill("sheet 6")
        found.sees("sheet 60")
        assert lines(found) == ["sheet 6", "sheet 60"]
        is_folded(found, "build", False)
        box.fill("")
        is_folded(found, "build")
        found.sees("part 30 is there")
        found.is_fine()
        story.open("torn")
        page.get_by_role("region", name="failure").wait_for()
        is_folded(found, "install", False)  # nothing folds before the reader's eyes
        found.is_fine()
        # Who comes later sees why it failed; the steps that went well are folded.
        found.go(f"builds/{build}?project={PROJECT}")
        torn = page.locator(".said-line", has_text="ERROR torn")
        torn.wait_for()
        to_the_top(found)
        is_folded(found, "install")
        is_folded(found, "build", False)
        page.get_by_role("list", name="steps").get_by_role("button", name="install").click()
        is_folded(found, "install", False)
        page.locator(".log-head.at", has_text="install").wait_for()
        found.sees("made ready")
        # A link to a line of a folded step opens it, also when the lines come before the word of what failed.
        head_of_install = page.url
        page.locator(".log-row", has_text="part 7 is there").locator("a").first.click()
        page.wait_for_url(lambda url: url != head_of_install)
        link = page.url
        assert "line=" in link
        page.goto("about:blank")
        late(found, build)
        page.goto(re.sub(r"&?fold=[^&]*", "", link))
        page.get_by_role("region", name="failure").wait_for()
        page.locator(".log-row.at", has_text="part 7 is there").wait_for()
        assert torn.count() == 0
        # Within a step its head stays above; it folds from there.
        page.locator(".log-pin").get_by_role("button").click()
        is_folded(found, "install")
        assert not any("part" in line for line in lines(found))
        head(found, "install").get_by_role("button").focus()
        page.keyboard.press("Enter")
        is_folded(found, "install", False)
        page.keyboard.press("e")
        page.locator(".log-row.at", has_text="ERROR torn").wait_for()
        found.is_fine()


def test_older_lines_of_a_long_build_come_when_they_are_looked_for(story: Story) -> None:
    story.edit(f"seq -f 'long %.0f' {LONG}")
    build = story.build("Succeeded")
    with tab(story.gateway) as found:
        page = found.page
        story.until(f"projects/{PROJECT}/logs?build={build}&text=long")
        found.go(f"builds/{build}?project={PROJECT}")
        found.sees(f"long {LONG}")
        assert page.get_by_text("long 1", exact=True).count() == 0
        page.get_by_role("button", name="Load older lines").click()
        found.scrolls_up_to("made ready")
        found.sees("made ready")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        text = Path(download.value.path()).read_text("utf-8")
        assert numbers("long", text) == list(range(1, LONG + 1))
        is_folded(found, "build", False)
        head(found, "build").get_by_text(f"{LONG:,} lines").first.wait_for()
        found.is_fine()
