"""Following: no line twice, none lost, whatever the gateway does meanwhile."""

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spanyard_local.cli.build_log import BuildText, follow
from spanyard_local.cli.following import Follower
from spanyard_local.server_client import ServerClient, ServerError


class Pages(ServerClient):
    """Answers from a list; an error in it is raised."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__("http://gateway")
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, params: Any = None) -> Any:
        self.asked.append((path, dict(params or {})))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(cursor: str, *ids: str, more: bool = False) -> dict[str, Any]:
    return {"items": [{"recordId": i} for i in ids], "nextCursor": cursor, "caughtUp": not more}


def test_lines_come_once_and_an_outage_loses_none() -> None:
    slept: list[float] = []
    told: list[str] = []
    client = Pages([
        page("c0"), page("c1", "1", "2", more=True), page("c2", "3"),
        ServerError("away"), ServerError("busy", status=503), page("c3", "3", "4"),
        ServerError("gone", status=404),
    ])  # fmt: skip
    follower = Follower(client, "local.x", {"level": "warn"}, away=told.append, sleep=slept.append)
    assert not follower.was_shown({"recordId": "1"}), "it was in the history"
    lines = []
    try:
        for line in follower.lines():
            lines.append(line["recordId"])  # noqa: PERF401 - until it raises
    except ServerError as error:
        told.append(str(error))
    assert lines == ["2", "3", "4"]
    cursors = [params["cursor"] for _, params in client.asked]
    assert cursors == [None, "c0", "c1", "c2", "c2", "c2", "c3"]
    assert slept == [0.5, 0.5, 1.0, 0.5]
    assert told == [
        "away Trying again …",
        "the gateway answers again; nothing was left out",
        "gone",
    ]
    assert {params["level"] for _, params in client.asked} == {"warn"}


line_texts = st.sampled_from(["same", "same", "b", "", "ü", "c\x0bd"])


@given(st.lists(st.tuples(line_texts, st.integers(0, 20)), max_size=25), st.data())
def test_a_growing_log_gives_each_line_once_also_when_late_ones_come_in_between(
    drawn: list[tuple[str, int]], data: st.DataObject
) -> None:
    """The gateway orders by time what has come so far: a late part may lie before what was seen."""
    text, out = BuildText(), []
    arrived: list[tuple[int, int, str]] = []
    printed = ""
    for number, (line, when) in enumerate(drawn):
        arrived.append((when, number, line))
        if data.draw(st.booleans()):
            continue
        whole = "".join(f"{line}\n" for _, _, line in sorted(arrived))
        known = text.known()
        raw = whole.encode()
        fits = known and hashlib.sha256(raw[: known["offset"]]).hexdigest() == known["prefix"]
        offset = known["offset"] if fits else 0
        out += text.new(raw[offset:].decode(), offset)
        printed = whole
    assert sorted(out) == sorted(printed.removesuffix("\n").split("\n") if printed else [])


def build(phase: str) -> dict[str, Any]:
    return {"id": "local.b", "resource": {"status": {"phase": phase}}}


def log(text: str, offset: int = 0, *, complete: bool = False) -> dict[str, Any]:
    return {"text": text, "offset": offset, "complete": complete}


def test_a_build_is_followed_until_its_log_is_whole() -> None:
    client = Pages([
        build("Building"), log("a\n"), build("Building"), log("", 2),
        build("Succeeded"), log("b\n", 2, complete=True),
    ])  # fmt: skip
    slept: list[float] = []
    assert list(follow(client, "local.b", sleep=slept.append, clock=lambda: 0.0)) == ["a", "b"]
    assert slept == [0.5, 0.5]
    assert client.asked[-1][1]["offset"] == 2


def test_a_build_that_ended_without_a_whole_log_is_given_up_after_a_silence() -> None:
    now = iter(range(0, 1000, 10))
    answers = [x for _ in range(20) for x in (build("Failed"), log("a\n" if _ == 0 else "", 2 * (_ > 0)))]  # fmt: skip
    lines = list(
        follow(Pages(answers), "local.b", sleep=lambda s: None, clock=lambda: float(next(now)))
    )
    assert lines == ["a"]
