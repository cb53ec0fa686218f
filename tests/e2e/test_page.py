"""The page in a real browser, over a real `spanyard up`."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.asking import ask, wait_for
from tests.e2e.browser import UI, installed, needed, tab
from tests.fakes.up import ROOT, Up

PAGE = ROOT / "gateway" / "spanyard_gateway" / "page"


@dataclass(frozen=True)
class Stack:
    """An `up` with the example, which has answered questions."""

    gateway: str
    agent: str
    data: Path
    trace: str

    def until(self, path: str) -> None:
        """Wait until the gateway has something there."""
        wait_for(self.gateway, path)

    def ask(self, question: str) -> str:
        """The trace of the answer."""
        return ask(self.agent, question)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    installed()
    folder = tmp_path_factory.mktemp("page")
    with Up(folder / "data", ROOT / "examples" / "support-agent") as up:
        gateway = up.address()
        serving = up.until(
            lambda e: e["event"] == "deployment" and e["status"].get("reason") == "Serving"
        )
        found = Stack(gateway, serving["status"]["endpoint"], folder / "data", "")
        trace = [found.ask(f"What about refunds {n}?") for n in range(6)][-1]
        found.until(f"traces/{trace}")
        found.until("projects/local.support/scores")
        yield Stack(gateway, found.agent, found.data, trace)


ROOMS = {
    "": "local.support-agent",
    "builds": "local.support-agent",
    "builds/local.support-agent": "Succeeded",
    "deployments": "local.support-agent",
    "deployments/local.support-agent": "question answered",
    "traces": "question",
    "traces/local.support/TRACE": "invoke_agent",
    "logs": "question answered",
    "metrics?metric=agent.duration": "agent.duration: Values",
    "metrics?by=revision": "support-agent, revision 1",
    "scores": "support-agent, revision 1",
    "proof": "records stored",
}


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light", "phone"])
def test_every_room_shows_what_is_there_without_an_error_and_axe_finds_nothing_serious(
    stack: Stack, dark: bool, width: int
) -> None:
    with tab(stack.gateway, dark=dark, width=width) as found:
        for room, text in ROOMS.items():
            found.go(room.replace("TRACE", stack.trace))
            found.sees(text)
            found.settled()
            assert found.axe() == [], room
            wide = found.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{room or 'overview'} scrolls sideways: {wide} px of {width}"
        assert found.troubles == []


def test_a_line_is_seen_as_it_is_written_and_the_trace_opens_from_it(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        live = found.streams()
        found.go("deployments/local.support-agent")
        found.sees("Following")
        found.sees("question answered")
        live()
        trace = stack.ask("Where is my order 4711?")
        found.sees("Where is my order 4711?")
        assert found.was_told("Where is my order 4711?")
        found.page.locator(f'a[href*="{trace}"]').first.click()
        found.sees("invoke_agent")
        assert re.search(rf"/ui/traces/local\.support/{trace}", found.page.url)
        found.sees("Where is my order 4711?")  # the conversation
        found.page.get_by_role("tree").press("j")
        found.page.wait_for_url("**span=*")
        found.page.go_back()
        assert found.troubles == []


def test_why_a_trace_failed_can_be_read_without_scrolling_sideways(stack: Stack) -> None:
    trace = stack.ask("Where is it? " * 700)
    with tab(stack.gateway, dark=True, width=390) as found:
        found.go(f"traces/local.support/{trace}")
        found.sees("context_length_exceeded: the prompt has")
        for part in (".detail", ".fall"):
            wide, shown = found.page.evaluate(
                f"(e => [e.scrollWidth, e.clientWidth])(document.querySelector('{part}'))"
            )
            assert wide <= shown, part
        assert found.troubles == []


def test_what_a_stream_knew_before_the_database_is_asked_for_until_it_is_stored(
    stack: Stack,
) -> None:
    trace = stack.ask("Where is it? " * 700)
    early = [2]
    """The gateway's answers of the moment before the trace was loaded."""

    def answered(route) -> None:  # type: ignore[no-untyped-def]
        if early[0]:
            early[0] -= 1
            route.fulfill(json={"items": []})
        else:
            route.continue_()

    with tab(stack.gateway) as found:
        found.page.route(re.compile(rf"/spans\?.*{trace}"), answered)
        found.go(f"traces/local.support/{trace}")
        found.sees("context_length_exceeded: the prompt has")
        assert early == [0]
        assert found.troubles == []


def test_what_spans_hold_is_asked_for_when_they_are_looked_at_and_once(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page, asked = found.page, list[str]()
        page.on("request", lambda request: asked.append(request.url))
        with page.expect_response(lambda answer: f"/traces/{stack.trace}/spans?" in answer.url):
            found.go(f"traces/local.support/{stack.trace}")
        found.sees("What about refunds 5?")
        calls = page.get_by_role("treeitem").filter(has_text="model call")
        calls.last.click()
        found.sees("said in the call before")
        page.get_by_role("tab", name="Raw").click()
        found.sees('"gen_ai.input.messages"')
        calls.first.click()
        page.get_by_role("tab", name="Conversation").click()
        found.sees("What about refunds 5?")
        assert [url for url in asked if f"/traces/{stack.trace}?" in url] == []
        # The root; the last call with those before it, of which the first is one.
        assert len([url for url in asked if f"/traces/{stack.trace}/spans?" in url]) == 2
        assert found.troubles == []


def test_searching_keys_and_links_to_a_line(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go("")
        found.sees("Overview of local.support")
        page.keyboard.press("g")
        page.keyboard.press("l")
        found.sees("question answered")
        page.keyboard.press("Control+k")
        page.keyboard.type("refund")
        page.get_by_role("option", name="lines for: refund").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/logs*q=refund*")
        page.locator(".log-row time").first.wait_for()
        rows = page.locator(".log-row:not(.told)").all_inner_texts()
        assert rows
        assert all("refund" in row.lower() for row in rows)
        page.locator(".log-row a").first.click()
        page.wait_for_url("**line=*")
        link = page.url
        page.goto("about:blank")
        page.goto(link)
        page.locator(".log-row.at").wait_for()
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        assert found.troubles == []


def test_plots_carry_the_numbers_that_the_gateway_has_and_lead_to_traces(stack: Stack) -> None:
    with urllib.request.urlopen(f"{stack.gateway}/projects/local.support/traces/series") as answer:
        at_least = json.load(answer)["series"][0]["total"]["traces"]
    assert at_least >= 6
    with tab(stack.gateway) as found:
        page = found.page
        found.go("")
        found.sees("Overview of local.support")
        page.keyboard.press("g")
        page.keyboard.press("m")
        found.sees("95 % within")
        told = page.get_by_text(re.compile(r"\d+ requests")).inner_text()
        assert int(re.search(r"(\d+) requests", told)[1]) >= at_least  # type: ignore[index]
        requests = page.locator("figure", has_text="Requests")
        requests.get_by_text("As a table").click()
        rows = requests.locator("tbody tr").all_inner_texts()
        rates = [re.findall(r"([\d.e-]+)/s", row)[0] for row in rows]
        assert rates
        assert all(float(rate) > 0 for rate in rates)
        page.get_by_label("metric", exact=True).select_option("agent.questions")
        own = page.locator("figure", has_text="agent.questions")
        own.get_by_text("As a table").click()
        assert "question/s" in own.locator("tbody").inner_text()
        slow = page.locator("figure", has_text="Duration")
        slow.get_by_text("As a table").click()
        slow.get_by_role("button", name=re.compile("^trace ")).first.click()
        page.wait_for_url("**/ui/traces/local.support/*")
        found.sees("invoke_agent")
        page.go_back()
        plot = page.locator("figure", has_text="Requests").locator(".u-over")
        plot.hover()  # once it stands still: what comes above moves it
        box = plot.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 40, steps=4)
        page.mouse.up()
        page.wait_for_url("**from=*to=*")
        found.sees("95 % within")
        assert found.troubles == []


def test_scores_are_told_by_revision_and_lead_to_the_worst_traces(stack: Stack) -> None:
    with tab(stack.gateway) as found:
        page = found.page
        found.go("scores?name=helpfulness")
        found.sees("too few to judge by")
        page.locator(".shares .num").nth(9).wait_for()
        assert page.locator(".shares .num").count() == 10
        page.locator(".worst a").first.click()
        page.wait_for_url("**/ui/traces/local.support/*")
        found.sees("invoke_agent")
        found.go("scores?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z")
        found.sees("spanyard.score(")
        assert found.troubles == []


def test_a_quarantined_line_is_looked_at_corrected_and_replayed(stack: Stack) -> None:
    good = {"type": "log", "id": "1", "projectId": "local.support", "level": "info",
            "message": "from the archive", "timestamp": "2026-11-21T10:00:00Z"}  # fmt: skip
    bad = {**good, "message": "corrected in the page", "level": "loud"}
    place = stack.data / "bucket" / "observability" / "logs" / "local.support"
    place.mkdir(parents=True, exist_ok=True)
    name = place / "20261121T100000Z_page-test.jsonl"
    temporary = name.with_suffix(".tmp")
    temporary.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n", "utf-8")
    temporary.rename(name)
    with tab(stack.gateway) as found:
        page = found.page
        found.go("proof?project=local.support")
        page.get_by_role("button", name="Look").first.wait_for()
        page.get_by_role("button", name="Look").first.click()
        line = page.get_by_role("textbox", name="the line")
        line.fill(line.input_value().replace("loud", "warn"))
        page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        found.sees("Replayed: line 2")
        stack.until("projects/local.support/logs?text=corrected+in+the+page")
        found.go(
            "logs?project=local.support&text=corrected+in+the+page"
            "&from=2026-11-21T09:00:00Z&to=2026-11-21T11:00:00Z"
        )
        found.page.locator(".log-row", has_text="corrected in the page").first.wait_for()
        assert found.troubles == []


def test_the_pages_files_are_what_its_source_gives(tmp_path: Path) -> None:
    needed("npm")
    copy = tmp_path / "gateway" / "ui"
    shutil.copytree(UI, copy, ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "gateway" / "spanyard_gateway").mkdir()
    for command in (
        ["npm", "ci", "--no-audit", "--no-fund"],
        ["npm", "run", "build"],
        ["npm", "test"],
    ):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    built = tmp_path / "gateway" / "spanyard_gateway" / "page"
    fresh = {str(p.relative_to(built)): p.read_bytes() for p in built.rglob("*") if p.is_file()}
    kept = {str(p.relative_to(PAGE)): p.read_bytes() for p in PAGE.rglob("*") if p.is_file()}
    assert fresh.keys() == kept.keys(), "run `make page` and commit what it makes"
    assert fresh == kept, "run `make page` and commit what it makes"
    sent = sum(len(_packed(data)) for data in fresh.values())
    assert sent <= 150_000, f"the first load is {sent:,} bytes compressed; at most 150,000"


def _packed(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, 9)
