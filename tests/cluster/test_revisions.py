"""Two revisions of a Deployment on a real cluster, told apart, and its story from commit to score."""

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster import sources
from tests.cluster.addresses import NODE_ADDRESS
from tests.cluster.stack import TEAM, Stack, eventually, reached
from tests.fakes.git_server import git_over_http, repository

pytestmark = pytest.mark.slow

PROJECT = NAME = "story"
ID = f"{TEAM}.{PROJECT}"
ASKED = {1: 24, 2: 21}
"""The page says which is better from 20 on."""
FAILED = 7
WORSE = {"ms": "250", "tokens": "900", "score": "0.25"}
BETTER = {"ms": "5", "tokens": "100", "score": "0.75"}


@dataclass(frozen=True)
class Story:
    """What was done, and when that began (RFC 3339)."""

    began: str
    commits: list[str]
    refused: list[str]
    """Requests that had no answer while the second one took the first one's place."""
    templates: dict[int, list[str]]
    """As the status tells them, by number of the revision."""


def ask(address: str, name: str, **how: str) -> None:
    query = "&".join(f"{key}={value}" for key, value in {"id": name, "fail": "no", **how}.items())
    with urllib.request.urlopen(f"{address}/ask?{query}", timeout=30) as answer:
        assert answer.read() == b"done"


@contextmanager
def always_asked(url: str) -> Iterator[list[str]]:
    """Each request in a connection of its own, about twenty in a second; yields what went wrong."""
    wrong: list[str] = []
    enough = threading.Event()

    def ask_on() -> None:
        while not enough.wait(0.05):
            try:
                urllib.request.urlopen(url, timeout=60).close()
            except OSError as error:
                wrong.append(f"{time.strftime('%X')}: {error!r}")

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        yield wrong
    finally:
        enough.set()
        asking.join()


def revisions(stack: Stack) -> dict[int, dict[str, Any]]:
    """As the gateway tells them to the page."""
    found = stack.found(f"/deployments/{TEAM}.{NAME}")
    told = found["resource"]["status"]["revisions"] if found else []
    return {one["number"]: one for one in told}


@pytest.fixture(scope="module")
def story(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Two commits, each built and served."""
    root = tmp_path_factory.mktemp("repositories")
    (application := root / "made").mkdir()
    files = {
        str(file.relative_to(application)): file.read_text("utf-8")
        for file in sources.application(application).rglob("*")
        if file.is_file()
    }
    commits = repository(root / "agent", files, {"README.md": "the second one\n"})
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def built(url: str, number: int) -> dict[str, Any]:
        source = {"git": {"url": f"{url}/agent/.git", "revision": commits[number - 1]}}
        return sources.build(
            f"story-{number}", PROJECT, source, install=sources.INSTALL, build=f"echo made {number}"
        )

    with git_over_http(root, host=NODE_ADDRESS) as url:
        stack.cluster.apply(
            sources.project(PROJECT), built(url, 1), sources.deployment(NAME, PROJECT, follow=True)
        )
        stack.wait_until_ready(NAME)
        with reached(stack.cluster, TEAM, f"{NAME}-server") as address:
            for n in range(ASKED[1]):
                ask(address, f"first-{n}", **BETTER)
            stack.cluster.apply(built(url, 2))
            labels = f"spanyard.dev/deployment={NAME}"
            with always_asked(f"{address}/health") as refused:
                eventually(
                    "the second revision serves",
                    lambda: revisions(stack).get(2, {}).get("state") == "Serving",
                    stack, within=120,
                )  # fmt: skip
                eventually("the first one has ended", lambda: len(stack.pods(labels)) == 1, stack)
            for n in range(ASKED[2]):
                ask(address, f"second-{n}", **WORSE, fail="yes" if n < FAILED else "no")
    found = eventually("its revisions", lambda: revisions(stack), stack)
    told = {number: one["templates"] for number, one in found.items()}
    yield Story(began, commits, refused, told)
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", NAME, "-n", TEAM)


def test_no_request_is_refused_while_one_revision_takes_the_others_place(story: Story) -> None:
    assert story.refused == []


def test_revisions_are_told_apart_by_errors_durations_tokens_and_scores(
    stack: Stack, story: Story
) -> None:
    """By the questions of the page, and the hashes in the status that say which series is whose."""
    assert sorted(story.templates) == [1, 2]
    assert all(len(hashes) == 1 for hashes in story.templates.values()), story.templates
    [one], [two] = story.templates[1], story.templates[2]
    asked = {"from": story.began, "by": "revision", "deployment": NAME, "buckets": 1}

    def totals(what: str) -> dict[str, dict[str, Any]]:
        found = stack.found(f"/projects/{ID}/{what}/series", **asked) or {"series": []}
        return {series["revision"]: series["total"] for series in found["series"]}

    def counted(of: dict[str, Any]) -> tuple[int, ...]:
        return tuple(of[name] for name in ("traces", "errors", "inputTokens", "outputTokens"))

    wanted = {
        one: (ASKED[1], 0, 100 * ASKED[1], 7 * ASKED[1]),
        two: (ASKED[2], FAILED, 900 * ASKED[2], 7 * ASKED[2]),
    }
    # Traces and spans are stored apart: what they add up to is whole when both are.
    traces = eventually(
        "figures of both revisions",
        lambda: (
            (found := totals("traces"))
            and {revision: counted(total) for revision, total in found.items()} == wanted
            and found
        ),
        stack,
    )
    assert traces[one]["p50Ns"] < 200e6
    assert traces[two]["p50Ns"] >= 250e6
    scores = eventually(
        "scores of both revisions",
        lambda: (
            (s := totals("scores"))
            and {k: v["count"] for k, v in s.items()} == {one: ASKED[1], two: ASKED[2]}
            and s
        ),
        stack,
    )
    assert (scores[one]["mean"], scores[two]["mean"]) == (0.75, 0.25)
    # The lists have the same of each, and the database agrees with the pods' names.
    failed = stack.get(
        f"/projects/{ID}/traces", revision=two, status="error", **{"from": story.began}
    )
    assert len(failed["items"]) == FAILED
    assert stack.get(f"/projects/{ID}/traces", revision=one, status="error")["items"] == []
    [pod] = stack.pods(f"spanyard.dev/deployment={NAME}")
    assert pod["metadata"]["labels"]["pod-template-hash"] == two


def test_the_timeline_tells_one_story_from_the_commit_to_the_score(
    stack: Stack, story: Story
) -> None:
    def told(**query: Any) -> list[dict[str, Any]]:
        """None of it while one of the pages cannot be had."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = stack.found(
                f"/deployments/{TEAM}.{NAME}/timeline", order="asc", limit=40, **query, **more
            )
            if page is None or page["partial"]:
                return []
            found += page["items"]
            cursor = page.get("nextCursor") or ""
            if not cursor:
                return found

    def whole() -> list[dict[str, Any]] | None:
        found = told()
        kinds = [one["kind"] for one in found]
        enough = kinds.count("score") == sum(ASKED.values()) and kinds.count("span") == FAILED
        return found if enough and kinds.count("server:log") == FAILED else None

    found = eventually("all of the story", whole, stack)
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
    assert len({one["id"] for one in found}) == len(found), "an entry twice"
    [made, *_] = [n for n, one in enumerate(found) if one["kind"] == "commit"]
    assert story.commits[0] in str(found[made]), found[made]
    assert [story.commits[1] in str(one) for one in found if one["kind"] == "commit"] == [
        False,
        True,
    ]

    def first(kind: str, **has: Any) -> int:
        return next(
            n
            for n, one in enumerate(found)
            if one["kind"] == kind and all(one.get(key) == value for key, value in has.items())
        )

    second = f"{TEAM}.story-2"
    [one], [two] = story.templates[1], story.templates[2]
    order = [
        first("commit"),
        first("build", title="install", buildId=f"{TEAM}.story-1"),
        first("build", title="succeeded", buildId=f"{TEAM}.story-1"),
        first("revision", title="revision 1 starts"),
        first("revision", title="revision 1 serves"),
        first("score", revision=one),
        first("commit", buildId=second),
        first("revision", title="revision 2 starts"),
        first("revision", title="revision 2 serves"),
        first("span", revision=two, status="error"),  # it has the time of its begin
        first("server:log", revision=two),
    ]  # fmt: skip
    assert order == sorted(order), [found[n] for n in order]
    failed = found[first("span", revision=two)]
    line = found[first("server:log", revision=two)]
    assert line["title"] == "no answer to second-0"
    judged = found[first("score", revision=two)]
    assert failed["traceId"] == line["traceId"] == judged["traceId"]
    assert judged["value"] == 0.25
    # Lines of builds are there for who asks for all.
    lines = eventually(
        "lines of the builds", lambda: told(kinds="build:log", notable="false"), stack
    )
    built = [one["title"] for one in lines]
    assert [text for text in built if text in {"made 1", "made 2"}] == ["made 1", "made 2"]
