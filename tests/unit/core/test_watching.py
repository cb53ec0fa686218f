"""A watch that goes on, and what keeps it from asking as fast as somebody answers."""

import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from spanyard_core.kube import PODS, KubeError, WatchEvent
from spanyard_core.kube.access import Access
from spanyard_core.kube.client import PAGE, KubeClient
from spanyard_core.kube.watching import Page, watched
from tests.fakes.handclock import HandClock


def item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


class Server:
    """Answers a listing with one object, and each watch by the next of `answers`, then for ever with
    the last one."""

    def __init__(self, *answers: list[Any]) -> None:
        self.clock = HandClock()
        self.answers = list(answers)
        self.asked: list[float] = []
        self.listed = 0

    async def pages(self) -> AsyncIterator[Page]:
        self.listed += 1
        yield Page([item("a", 1)], "1")

    async def lines(self, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        self.asked.append(self.clock.now)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for each in answer:
            if isinstance(each, Exception):
                raise each
            if isinstance(each, float):
                self.clock.advance(each)
            else:
                yield msgspec.json.encode(each)

    async def events(self, until_asked: int) -> list[WatchEvent]:
        """What is told until it is asked for the next watch."""
        found: list[WatchEvent] = []
        whole = self.lines

        async def lines(query: Mapping[str, str]) -> AsyncIterator[bytes]:
            if len(self.asked) == until_asked:
                raise KubeError("enough", status=418)
            async for line in whole(query):
                yield line

        async def collect() -> None:
            events = watched("x", self.pages, lines, self.clock, random.Random(1))
            async for event in events:
                found.append(event)  # noqa: PERF401 - those before the error count

        with pytest.raises(KubeError, match="enough"):
            await collect()
        return found


GONE = {"type": "ERROR", "object": {"code": 410}}


@pytest.mark.parametrize("answer", [[], [GONE], [KubeError("too old", status=410)]])
async def test_what_ends_each_watch_at_once_is_asked_more_and_more_seldom(
    answer: list[Any],
) -> None:
    server = Server(answer)
    await server.events(12)
    pauses = [b - a for a, b in zip(server.asked, server.asked[1:], strict=False)]
    assert min(pauses) > 0.1
    assert all(pause >= 7 for pause in pauses[-3:])


async def test_a_watch_that_told_something_or_lasted_is_asked_again_at_once() -> None:
    changed = {"type": "MODIFIED", "object": item("a", 2)}
    server = Server([changed], [250.0], [changed], [])
    events = await server.events(3)
    assert [event.type for event in events] == ["ADDED", "SYNCED", "MODIFIED", "MODIFIED"]
    assert server.asked[1] == server.asked[0]
    assert server.asked[2] - server.asked[1] == 250.0
    assert server.listed == 1


async def test_a_listing_whose_snapshot_is_forgotten_is_asked_for_in_one() -> None:
    asked: list[Mapping[str, str]] = []

    class Forgetful(KubeClient):
        async def _json(
            self, method: str, path: str, query: Mapping[str, str], **_: Any
        ) -> dict[str, Any]:
            asked.append(query)
            if "continue" in query:
                raise KubeError("too old", status=410)
            items = [item("a", 1)] if query["limit"] != "0" else [item("a", 1), item("b", 1)]
            more = "next" if query["limit"] != "0" else ""
            return {"metadata": {"resourceVersion": "1", "continue": more}, "items": items}

    client = Forgetful(Access(server="http://none.example"))
    found = await client.list(PODS, "n")
    assert [each["metadata"]["name"] for each in found] == ["a", "b"]
    assert [query["limit"] for query in asked] == [str(PAGE), str(PAGE), "0"]
