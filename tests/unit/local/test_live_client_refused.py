"""The client of live streams at a gateway that is silent, refuses, hangs up, or says what it should not."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from spanyard_core.errors import SettingError
from spanyard_local.live_client import (
    AwayError,
    Back,
    Live,
    LiveClient,
    LiveError,
    Lost,
    NoLiveError,
    NotAdmittedError,
    NoTokenError,
    ProtocolError,
    Subscribed,
    client,
)
from tests.fakes.live_gateway import hurry
from tests.fakes.odd_gateway import HELLO, answering, saying


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_silent_connection_counts_as_gone() -> None:
    soon = {**HELLO, "heartbeat": 0.05}
    async with answering(saying(soon)) as url, LiveClient(url) as live:
        heard = [await live.next(60) for _ in range(3)]
    assert [type(event) for event in heard] == [Lost, Back, Lost]
    assert isinstance(heard[0], Lost)
    assert "said nothing for" in heard[0].reason


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["nonsense"], "does not understand"),
        ([[]], "does not understand"),
        ([{"type": "live", "id": "a", "resume": 7}], "does not understand"),
        ([{"type": "error", "code": "not-understood", "message": "a: b"}], "this client: a: b"),
        ([{**HELLO, "version": 2}], "version 2, this client knows 1"),
    ],
)
async def test_what_is_not_the_protocol_ends_in_an_error(said: list[Any], told: str) -> None:
    async with answering(saying(*said)) as url, LiveClient(url) as live:
        with pytest.raises(LiveError, match=told):
            await live.next(60)


async def test_a_newer_gateway_may_say_more() -> None:
    more = {"type": "aurora", "id": "a", "x": 1}
    known = {"type": "subscribed", "id": "a", "channel": "x:y", "pods": 1, "mood": "fine"}
    async with answering(saying(HELLO, more, known)) as url, LiveClient(url) as live:
        await live.subscribe("x:y", id="a")
        assert await live.next(60) == Subscribed(id="a", channel="x:y", pods=1)


async def test_a_close_for_bad_words_is_not_tried_again() -> None:
    async with answering(saying(HELLO, close=1008)) as url, LiveClient(url) as live:
        with pytest.raises(ProtocolError):
            await live.next(60)


async def test_a_close_for_too_large_a_message_says_the_limit_and_is_not_tried_again() -> None:
    said = saying(HELLO, close=1009, reason="a message is larger than 5 bytes")
    async with answering(said) as url, LiveClient(url) as live:
        with pytest.raises(ProtocolError, match="connection: a message is larger than 5 bytes"):
            await live.next(60)


async def test_who_asks_is_said_in_a_header_and_a_refused_token_is_renewed_once() -> None:
    asked: list[tuple[str, str]] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append((str(request.url), request.headers.get("Authorization", "")))
        if request.headers.get("Authorization") != "Bearer new":
            return web.json_response({"title": "No", "detail": "an old token"}, status=401)
        return await saying(HELLO)(request)

    async with answering(serve) as url:
        async with LiveClient(url, token=lambda renew: "new" if renew else "old"):
            pass
        with pytest.raises(NotAdmittedError, match="an old token"):
            async with LiveClient(url, token=lambda renew: "old"):
                pass
        with pytest.raises(NotAdmittedError):
            async with LiveClient(url):
                pass
    assert [who for _, who in asked] == ["Bearer old", "Bearer new", "Bearer old", "Bearer old", ""]
    assert not any("old" in where or "new" in where for where, _ in asked)


async def test_a_token_that_ends_in_the_middle_is_renewed_and_the_stream_goes_on_where_it_was() -> (
    None
):
    over = {"type": "error", "id": "a", "code": "not-signed-in", "message": "it has ended"}
    live = {"type": "live", "id": "a", "resume": {"at": 7, "seen": {"w": 3}}}
    subscribed = {"type": "subscribed", "id": "a", "channel": "c", "pods": 1}
    asked: list[tuple[str, Any]] = []
    renewals = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(json.dumps(HELLO))
        wish = await ws.receive_json()
        asked.append((request.headers["Authorization"], wish.get("resume")))
        for message in (subscribed, live, over) if len(asked) == 1 else (subscribed, live):
            await ws.send_str(json.dumps(message))
        async for _ in ws:
            pass
        return ws

    def token(renew: bool) -> str:
        nonlocal renewals
        if not renew:
            return "old"
        renewals += 1
        if renewals == 1:
            raise SettingError("the credential program failed")
        if renewals > 2:
            raise NoTokenError("there is no such ServiceAccount")
        return "new"

    async with answering(serve) as url, LiveClient(url, token=token) as client:
        await client.subscribe("c", id="a")
        heard = [await client.next(60) for _ in range(7)]
        kinds = [Subscribed, Live, Lost, Lost, Back, Subscribed, Live]
        assert [type(event) for event in heard] == kinds
        reasons = [event.reason for event in heard if isinstance(event, Lost)]
        assert reasons == [
            "the gateway no longer takes the token", "the credential program failed",
        ]  # fmt: skip
        assert asked == [("Bearer old", None), ("Bearer new", {"at": 7, "seen": {"w": 3}})]
        asked.clear()  # the next connection's token ends too, and there is no other
        await client._lose("the connection broke")

        async def until_it_ends() -> None:
            async for _ in client:
                pass

        with pytest.raises(NotAdmittedError, match="no such ServiceAccount"):
            await asyncio.wait_for(until_it_ends(), 60)


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, NotAdmittedError), (404, NoLiveError), (426, NoLiveError), (501, NoLiveError), (200, NoLiveError),
     (503, AwayError), (500, AwayError), (429, AwayError)],
)  # fmt: skip
async def test_a_refused_upgrade_says_which_remedy(status: int, error: type[LiveError]) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.json_response({"title": "Why", "detail": "a sentence"}, status=status)

    async with answering(serve) as url:
        with pytest.raises(error, match="a sentence"):
            async with LiveClient(url):
                pass


async def test_a_gateway_that_begins_is_waited_for_though_it_has_no_live_streams_yet() -> None:
    asked = 0
    once, always = saying(HELLO, close=1001), saying(HELLO)

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            return web.json_response({"title": "Not Found"}, status=404)
        return await (once if asked == 1 else always)(request)

    async with answering(serve) as url, LiveClient(url) as live:
        heard = [await live.next(60) for _ in range(2)]
    assert [type(event) for event in heard] == [Lost, Back]
    assert asked == 3


async def test_a_gateway_that_hangs_up_at_each_first_word_is_asked_ever_less_often() -> None:
    subscribed = {"type": "subscribed", "id": "a", "channel": "x:y", "pods": 1}

    async def pauses(*said: Any) -> list[float]:
        async with answering(saying(*said, close=1001)) as url, LiveClient(url) as live:
            await live.subscribe("x:y", id="a")
            found: list[float] = []
            while len(found) < 8:
                event = await live.next(60)
                found += [event.again] if isinstance(event, Lost) else []
        return found

    growing, same = await pauses(HELLO), await pauses(HELLO, subscribed)
    assert max(growing[4:]) > 3 * client.FIRST_S, "whoever says hello alone has answered nothing"
    assert max(same) <= 2 * client.FIRST_S, "each time it went on, and that was the first failure"


async def test_nobody_is_followed_elsewhere_with_a_token() -> None:
    seen: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        raise web.HTTPFound("/elsewhere/ws")

    async with answering(serve) as url:
        with pytest.raises(NoLiveError, match="302"):
            async with LiveClient(url, token=lambda renew: "t"):
                pass
    assert seen == ["/ws"]
