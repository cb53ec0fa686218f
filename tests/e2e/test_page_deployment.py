"""The rooms of deployments and builds in a real browser: two revisions, one that fails, one story."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import ask
from tests.e2e.browser import installed, tab
from tests.fakes.git_server import git
from tests.fakes.up import ROOT, Up

SUBJECT = "Answer <b>about</b> orders"
ROOM = "deployments/local.support-agent"


@dataclass(frozen=True)
class Rollouts:
    """An `up` whose second revision serves in place of the first."""

    up: Up
    gateway: str
    agent: str
    app: Path

    def ask(self, question: str) -> str:
        return ask(self.agent, question)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:
    installed()
    folder = tmp_path_factory.mktemp("rollouts")
    app = folder / "support-agent"
    shutil.copytree(ROOT / "examples" / "support-agent", app)
    git(app, "init", "-q", "-b", "main")
    git(app, "add", "-A")
    git(app, "commit", "-q", "-m", SUBJECT, "--author", "Ann <i>B</i> <ann@localhost>")
    with Up(folder / "data", app) as up:
        gateway = up.address()
        served = up.until(
            lambda e: e["event"] == "deployment" and e["status"].get("reason") == "Serving"
        )
        found = Rollouts(up, gateway, served["status"]["endpoint"], app)
        for n in range(21):
            found.ask(f"Where is my order {n}?")
        source = app / "support_agent" / "server.py"
        source.write_text(source.read_text("utf-8") + "\n# an edit\n", "utf-8")
        up.until(lambda e: e["event"] == "deployment" and e["status"].get("revision") == 2)
        for n in range(3):
            found.ask(f"Is there a refund for {n}?")
        yield found


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light", "phone"])
def test_the_rooms_are_fit_for_everybody(stack: Rollouts, dark: bool, width: int) -> None:
    with tab(stack.gateway, dark=dark, width=width) as found:
        for place, text in {
            f"{ROOM}?compare=1,2": "too few to tell",
            f"{ROOM}?view=timeline": "revision 2 serves",
            "builds/local.support-agent": "artifact of",
        }.items():
            found.go(place)
            # What was answered last is stored a moment later, and asked for again.
            found.sees(text)
            assert found.axe() == [], place
            wide = found.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{place} scrolls sideways: {wide} px of {width}"
        assert found.troubles == []


def test_two_revisions_stand_side_by_side_with_their_samples(stack: Rollouts) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go(ROOM)
        row = page.locator(".revisions tbody tr", has_text="Serving")
        row.wait_for()
        assert "1 of 1 ready" in row.inner_text()
        assert "instead of 1" in row.inner_text()
        row.get_by_role("button", name="compare revision 2 with 1").click()
        page.wait_for_url("**compare=2%2C1*")
        sides = page.locator(".compare tbody tr")
        # The latest ones are stored a moment later; the page asks again.
        both = sides.filter(has_text=re.compile(r"^requests\s*21\s*3(?!\d)"))
        both.wait_for()
        told = {line.split("\t")[0]: line.split("\t") for line in sides.all_inner_texts()}
        assert [cell.strip() for cell in told["requests"][1:3]] == ["21", "3"]
        assert "too few to tell" in told["p95"][3]
        assert told["tokens per request"][1].strip() not in {"", "–", "0"}
        page.go_back()
        page.locator(".compare").wait_for(state="detached")
        assert found.troubles == []


def test_the_timeline_is_one_story_that_leads_to_every_room(stack: Rollouts) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go(f"{ROOM}?view=timeline&kinds=commit,build,revision")
        found.sees("revision 2 serves")
        told = [line.split("\n") for line in page.locator(".story-row .title").all_inner_texts()]
        order = [line[0] for line in told]
        begins = [next(i for i, line in enumerate(order) if line.startswith(text)) for text in (
            "queued", "fetch", "succeeded", "revision 1 starts", "revision 1 serves", "revision 2 starts",
            "revision 2 serves",
        )]  # fmt: skip
        assert begins == sorted(begins), order
        kinds = page.locator("button[aria-pressed]:has(.sign)")
        heights = {round(each.bounding_box()["height"]) for each in kinds.all()}  # type: ignore[index]
        assert kinds.count() > 5
        assert len(heights) == 1, "a sign stands beside its word"
        page.keyboard.press("k")
        page.wait_for_url("**entry=*")
        page.locator(".story-row.at", has_text="revision").wait_for()
        page.locator(".story-row.at a.when").click()  # a link that is found again tomorrow
        page.wait_for_url("**from=*")
        page.reload()
        page.locator(".story-row.at").wait_for()
        found.go(f"{ROOM}?view=timeline&kinds=span,score&all=1")
        page.locator(".story-row", has_text="helpfulness").first.wait_for()
        page.locator(".story-row", has_text="helpfulness").first.locator(".title a").click()
        page.wait_for_url("**/traces/local.support/*")
        assert found.troubles == []


def test_what_was_committed_is_told_where_builds_are_as_text(stack: Rollouts) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        for place, where in {
            "builds": "td .commit-line",
            "builds/local.support-agent": ".facts.about",
            ROOM: ".revisions .commit-line",
            f"{ROOM}?view=timeline&kinds=commit": ".story-row .title",
        }.items():
            found.go(place)
            told = page.locator(where, has_text=SUBJECT).first
            told.wait_for()
            assert re.search(r"\b[0-9a-f]{12}(-dirty)?\b(?![0-9a-f])", told.inner_text()), place
            assert told.locator("b, i").count() == 0, place
        assert "by Ann" in told.inner_text()
        found.go("builds/local.support-agent-2")  # of the folder as it was edited
        page.locator(".facts.about code", has_text="-dirty").wait_for()
        assert "by Ann" in page.locator(".facts.about").inner_text()
        assert found.troubles == []


def test_a_line_moves_into_the_timeline_as_it_is_written(stack: Rollouts) -> None:
    with tab(stack.gateway) as found:
        live = found.streams()
        found.go(f"{ROOM}?view=timeline&all=1&kinds=server:log")
        found.page.locator(".story-row").first.wait_for()
        live()
        # From now on nobody answers who asks what is stored: it comes by the stream, or never.
        found.page.route(re.compile("/timeline"), lambda route: None)
        stack.ask("Is this question seen at once?")
        found.sees("Is this question seen at once?")
        assert found.troubles == []


def test_many_scores_are_one_row_that_opens_and_long_comments_are_shown_whole(
    stack: Rollouts,
) -> None:
    comment = "It says where the parcel is, and not when it comes. " * 12

    def judged(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        if body["items"]:
            scored = dict(body["items"][0], kind="score", title="helpful", detail="", level="")
            body["items"] = [
                scored | {"id": f"score/w#{n}", "value": n / 100, "traceId": f"{n:032x}",
                          "detail": comment if n == 60 else ""}
                for n in range(80, 40, -1)
            ] + body["items"][:3]  # fmt: skip
        route.fulfill(response=answer, json=body)

    for dark, width in ((False, 1280), (True, 390)):
        with tab(stack.gateway, dark=dark, width=width) as found:
            page = found.page
            page.route(re.compile("/timeline"), judged)
            found.go(f"{ROOM}?view=timeline&kinds=revision")
            run = page.locator(".story-row.run")
            run.get_by_role("button", name="40 scores").wait_for()
            for told in ("40 ×", "mean 0.605", "worst 0.41"):
                assert told in run.inner_text()
            assert f"{41:032x}" in (run.get_by_role("link").get_attribute("href") or "")
            within = page.locator(".story-row.within")
            assert within.count() == 0
            # By keys: to it, into it, and out again from one of its own.
            while page.locator(".story-row.run.at").count() == 0:
                page.locator("body").press("k")
            page.keyboard.press("ArrowRight")
            within.nth(39).wait_for()
            page.keyboard.press("j")
            page.locator(".story-row.within.at").wait_for()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} px of {width}"
            # Who reads all of a comment needs no mouse for it.
            more = within.filter(has_text="parcel").get_by_role("button")
            more.focus()
            page.keyboard.press("Enter")
            within.get_by_role("button", name="Less", expanded=True).wait_for()
            text = within.locator(".cut-text.whole")
            assert text.evaluate("one => one.scrollHeight <= one.clientHeight")
            assert text.inner_text().strip() == comment.strip()
            found.is_fine()
            page.keyboard.press("ArrowLeft")
            within.first.wait_for(state="detached")
            page.locator(".story-row.run.at").wait_for()
            focused = "document.activeElement.className"
            assert page.evaluate(focused) == "story-box"
            # A link to one of them opens the run that it is in.
            found.go(f"{ROOM}?view=timeline&kinds=revision&entry=score/w%2350")
            page.locator(".story-row.within.at", has_text="0.5").wait_for()
            found.is_fine()


def test_a_failed_build_says_why_first_and_its_steps_lead_into_the_log(stack: Rollouts) -> None:
    manifest = stack.app / "spanyard.yaml"
    text = manifest.read_text("utf-8")
    broken = text.replace(
        "  install: |\n", "  install: |\n    echo before; echo ERROR gone >&2; exit 3\n"
    )
    assert broken != text
    manifest.write_text(broken, "utf-8")
    failed = stack.up.until(
        lambda e: e["event"] == "build" and e["status"].get("phase") == "Failed"
    )
    build = failed["id"]
    with tab(stack.gateway) as found:
        page = found.page
        found.go(f"builds/{build}")
        found.sees("StepFailed in install, exit code 3")
        card, steps = page.locator(".problem"), page.locator(".steps")
        assert card.bounding_box()["y"] < steps.bounding_box()["y"]
        assert "ERROR gone" in card.inner_text()
        steps.get_by_role("button", name="install").click()
        page.wait_for_url("**line=*")
        page.locator(".log-row", has_text="before").wait_for()
        found.go(f"{ROOM}?view=timeline&kinds=build")
        page.locator(".story-row.bad", has_text="failed: StepFailed").wait_for()
        page.keyboard.press("e")
        page.wait_for_url("**entry=*")
        assert found.troubles == []
