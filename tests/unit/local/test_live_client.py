"""The client of live streams: whatever breaks, each record is shown, left out or told as dropped, once."""

import ast
import asyncio
import contextlib
import json
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from spanyard_core.errors import SettingError
from spanyard_core.serve import serving
from spanyard_gateway.live.socket import SocketLimits
from spanyard_local.live_client import (
    AwayError,
    Back,
    Dropped,
    Event,
    Line,
    Lines,
    Live,
    LiveClient,
    LiveError,
    Lost,
    NoLiveError,
    NotAdmittedError,
    NoTokenError,
    Over,
    Passed,
    ProtocolError,
    Resume,
    Subscribed,
    client,
)
from spanyard_local.live_client.place import Place, Wish
from tests.fakes.live_gateway import CHANNEL, LiveGateway
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, World


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_S", 0.02)
    monkeypatch.setattr(client, "LONGEST_S", 0.2)
    monkeypatch.setattr(client, "AGAIN_S", 0.02)


# --- over the real server --------------------------------------------------------------------


class Account:
    """What one subscription was told of each writer."""

    def __init__(self) -> None:
        self.shown: dict[str, list[int]] = {}
        self.left: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.reasons: set[str] = set()

    def take(self, event: Event) -> None:
        if isinstance(event, Lines):
            self.shown.setdefault(event.writer, []).extend(item.seq for item in event.items)
            self.left[event.writer] = self.left.get(event.writer, 0) + event.left
        elif isinstance(event, Passed):
            self.left[event.writer] = self.left.get(event.writer, 0) + event.left
        elif isinstance(event, Dropped):
            self.dropped[event.writer] = self.dropped.get(event.writer, 0) + event.count
            self.reasons.add(event.reason)

    def total(self, writer: str) -> int:
        return (
            len(self.shown.get(writer, [])) + self.left.get(writer, 0) + self.dropped.get(writer, 0)
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_shown_left_and_dropped_are_all_there_was_over_restarts_of_everything(
    seed: int,
) -> None:
    rng = random.Random(seed)
    world = World(rng)
    pods = [world.new_pod()]
    limits = SocketLimits(waiting_bytes=20_000)
    async with LiveGateway(world, limits) as gateway, LiveClient(gateway.url) as live:
        accounts = {"all": Account(), "errors": Account()}
        await live.subscribe(CHANNEL, id="all")
        await live.subscribe(CHANNEL, id="errors", filter={"level": ["error"]})
        lost = 0

        async def listen(until: Callable[[], bool]) -> None:
            nonlocal lost
            while not until():
                event = await live.next(0.1)
                if isinstance(event, Lost):
                    lost += 1
                elif event is not None and event.id:
                    accounts[event.id].take(event)

        async def storing() -> None:
            while True:
                await asyncio.sleep(0.03)
                world.store()

        lives: set[str] = set()
        while len(lives) < 2:
            event = await live.next(10)
            assert event is not None
            lives |= {event.id} if isinstance(event, Live) else set()
        store = asyncio.create_task(storing())
        # What is drawn depends on when stores happen: one restart of the gateway is sure.
        for what in (*(rng.randrange(10) for _ in range(40)), 7):
            if what < 5:
                await world.print(rng.choice(pods), rng.randint(1, 200))
            elif what == 5:
                await world.restart_collector(rng.choice(pods))
            elif what == 6:
                pods.append(world.new_pod())
            elif what == 7:
                await gateway.stop()
                await world.print(rng.choice(pods), rng.randint(1, 50))
                await asyncio.sleep(0.05)
                await gateway.start()
            else:
                ends = asyncio.get_running_loop().time() + 0.05
                await listen(lambda ends=ends: asyncio.get_running_loop().time() > ends)  # type: ignore[misc]
        writers = [w for w in world.all.values() if w.printed]

        def whole() -> bool:
            return all(a.total(w.id) >= w.last for a in accounts.values() for w in writers)

        ends = asyncio.get_running_loop().time() + 30
        await listen(lambda: whole() or asyncio.get_running_loop().time() > ends)
        store.cancel()
        await asyncio.gather(store, return_exceptions=True)
    assert lost, "nothing was tried"
    for account in accounts.values():
        assert account.reasons <= {"slow-client", "not-stored"}
        for writer in writers:
            shown = account.shown.get(writer.id, [])
            assert shown == sorted(set(shown)), "in order, none twice"
            assert account.total(writer.id) == writer.last
    for writer in writers:
        assert all(seq % 5 == 0 for seq in accounts["errors"].shown.get(writer.id, []))


async def test_history_comes_first_and_a_token_goes_on_in_another_client() -> None:
    world = World(random.Random(1))
    world.random_failures = False
    pod = world.new_pod()
    await world.print(pod, 30)
    async with LiveGateway(world) as gateway:
        async with LiveClient(gateway.url) as live:
            name = await live.subscribe(CHANNEL, history=10)
            seqs: list[int] = []
            async for event in live:
                if isinstance(event, Lines):
                    seqs += [item.seq for item in event.items]
                if isinstance(event, Live):
                    break
            assert seqs == list(range(21, 31))
            token = live.resume(name)
        await world.print(pod, 5)
        while pod.writers[0].stored < 35:
            world.store()
        async with LiveClient(gateway.url) as live:
            await live.subscribe(CHANNEL, resume=token)
            while len(seqs) < 15:
                event = await live.next(10)
                if isinstance(event, Lines):
                    seqs += [item.seq for item in event.items]
            assert seqs == list(range(21, 36))


async def test_what_is_refused_for_now_is_asked_again_and_what_is_refused_is_told() -> None:
    async with LiveGateway(World(random.Random(1))) as gateway, LiveClient(gateway.url) as live:
        gateway.away = 2
        await live.subscribe(CHANNEL, id="a")
        await live.subscribe("server:local.else", id="b")
        heard = [await live.next(10) for _ in range(3)]
        over = [event for event in heard if isinstance(event, Over)]
        assert [(event.id, event.code) for event in over] == [("b", "not-found")]
        assert any(isinstance(event, Subscribed) and event.id == "a" for event in heard)
        assert live.subscriptions == ["a"]
        await live.unsubscribe("a")
        assert await live.next(0.05) is None


async def test_a_gateway_that_stays_away_is_given_up_when_patience_ends() -> None:
    async with LiveGateway(World(random.Random(1))) as gateway:
        async with LiveClient(gateway.url, patience=0.3) as live:
            await live.subscribe(CHANNEL)
            await gateway.stop()
            with pytest.raises(AwayError, match="no gateway answers at .* given up after"):
                [_ async for _ in live]
        with pytest.raises(AwayError):
            async with LiveClient(gateway.url):
                pass


async def test_the_example_prints_what_goes_wrong_and_ends_with_the_deployment() -> None:
    world = World(random.Random(1))
    world.random_failures = False
    pod = world.new_pod()
    await world.print(pod, 10)
    root = Path(__file__).parents[3]
    page = (root / "docs" / "live.md").read_text("utf-8")
    shown = page.split("```python\n")[1].split("```")[0]
    assert compile(shown, "docs/live.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with LiveGateway(world) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, root / "examples" / "watch" / "watch.py", f"{NAMESPACE}.{DEPLOYMENT}",
            gateway.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                told = [await process.stdout.readline() for _ in range(2)]
                await world.print(pod, 5)
                told.append(await process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
    assert [text.split(b" ", 1)[1] for text in told] == [
        b"error line 5\n", b"error line 10\n", b"error line 15\n",
    ]  # fmt: skip
    assert process.returncode == 130


# --- over a server that misbehaves -----------------------------------------------------------


Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def answering(serve: Serve) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/ws", serve), web.get("/elsewhere/ws", serve)])
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        yield address.url


def saying(*messages: Any, close: int = 0, reason: str = "") -> Serve:
    """A socket that says this to each connection, whatever it hears."""

    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for message in messages:
            await ws.send_str(message if isinstance(message, str) else json.dumps(message))
        if close:
            await ws.close(code=close, message=reason.encode())
        async for _ in ws:
            pass
        return ws

    return serve


HELLO = {"type": "hello", "version": 1, "time": "", "heartbeat": 15, "more": 1}


async def test_a_silent_connection_counts_as_gone() -> None:
    soon = {**HELLO, "heartbeat": 0.05}
    async with answering(saying(soon)) as url, LiveClient(url) as live:
        heard = [await live.next(10) for _ in range(3)]
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
            await live.next(10)


async def test_a_newer_gateway_may_say_more() -> None:
    more = {"type": "aurora", "id": "a", "x": 1}
    known = {"type": "subscribed", "id": "a", "channel": "x:y", "pods": 1, "mood": "fine"}
    async with answering(saying(HELLO, more, known)) as url, LiveClient(url) as live:
        await live.subscribe("x:y", id="a")
        assert await live.next(10) == Subscribed(id="a", channel="x:y", pods=1)


async def test_a_close_for_bad_words_is_not_tried_again() -> None:
    async with answering(saying(HELLO, close=1008)) as url, LiveClient(url) as live:
        with pytest.raises(ProtocolError):
            await live.next(10)


async def test_a_close_for_too_large_a_message_says_the_limit_and_is_not_tried_again() -> None:
    said = saying(HELLO, close=1009, reason="a message is larger than 5 bytes")
    async with answering(said) as url, LiveClient(url) as live:
        with pytest.raises(ProtocolError, match="connection: a message is larger than 5 bytes"):
            await live.next(10)


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
        heard = [await client.next(20) for _ in range(7)]
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
            await asyncio.wait_for(until_it_ends(), 20)


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
        heard = [await live.next(10) for _ in range(2)]
    assert [type(event) for event in heard] == [Lost, Back]
    assert asked == 3


async def test_a_gateway_that_hangs_up_at_each_first_word_is_asked_ever_less_often() -> None:
    subscribed = {"type": "subscribed", "id": "a", "channel": "x:y", "pods": 1}

    async def pauses(*said: Any) -> list[float]:
        async with answering(saying(*said, close=1001)) as url, LiveClient(url) as live:
            await live.subscribe("x:y", id="a")
            found: list[float] = []
            while len(found) < 8:
                event = await live.next(20)
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


# --- the place of a subscription -------------------------------------------------------------


def lines(first: int, last: int, *, left: int = 0, history: bool = False) -> Lines:
    items = [
        Line(seq=n, line=f"{n}", timestamp="", level="info") for n in range(first + left, last + 1)
    ]
    return Lines(
        id="a", type="server:log", writer="w", first=first, last=last, left=left, items=items, history=history
    )  # fmt: skip


def seqs(events: list[Event]) -> list[int]:
    return [item.seq for event in events if isinstance(event, Lines) for item in event.items]


def test_history_that_is_told_again_after_a_break_is_shown_once() -> None:
    place = Place(Wish("a", "server:a.b", history=5))
    told = [Subscribed(channel="c", pods=1), lines(3, 5, history=True)]
    heard = [x for event in told for x in place.take(event)]
    assert place.request() == {
        "type": "subscribe",
        "id": "a",
        "channel": "server:a.b",
        "history": 5,
    }
    again = [*told, lines(6, 7), Live(id="a", resume=Resume(9, {"w": 7, "v": 4})), lines(8, 8)]
    heard += [x for event in again for x in place.take(event)]
    assert seqs(heard) == [3, 4, 5, 6, 7, 8]
    assert not [event for event in heard if isinstance(event, Dropped)]
    assert place.resume() == Resume(9, {"v": 4, "w": 8})
    assert "history" not in place.request()


def test_a_history_that_has_moved_on_while_nobody_heard_it_leaves_no_silent_hole() -> None:
    """Only the newest are told anew; what lies between them and those that were shown is told."""
    told = [Subscribed(channel="c", pods=1), lines(3, 5, history=True)]
    over = Live(id="a", resume=Resume(9, {"w": 24}))
    for again, missing in (
        ([lines(20, 24, history=True), over], (6, 19, 14)),
        ([lines(6, 10, history=True), over], None),
        ([lines(4, 8, history=True), over], None),
        ([over], (6, 24, 19)),  # others' records are newer than all of its own
    ):
        place = Place(Wish("a", "server:a.b", history=5))
        heard = [x for event in [*told, told[0], *again] for x in place.take(event)]
        dropped = [event for event in heard if isinstance(event, Dropped)]
        assert [(d.first, d.last, d.count) for d in dropped] == ([missing] if missing else [])
        assert {d.reason for d in dropped} <= {"moved-on"}
        assert seqs(list(place.take(lines(25, 25)))) == [25]


def test_records_that_come_twice_are_passed_over_and_those_that_never_come_are_told() -> None:
    place = Place(Wish("a", "c:d", resume=Resume(1, {"w": 10})))
    assert list(place.take(lines(5, 10))) == []
    assert seqs(list(place.take(lines(9, 12)))) == [11, 12]
    assert [type(x) for x in place.take(Passed(id="a", writer="w", last=15, left=3))] == [Passed]
    assert seqs(list(place.take(lines(20, 21, left=1)))) == [21]
    [found] = Place(Wish("a", "c:d", resume=Resume(1, {"w": 10}))).take(
        Dropped(id="a", writer="w", first=11, last=12, count=2, reason="slow-client")
    )
    assert isinstance(found, Dropped)
    skipped = list(place.take(lines(30, 31)))
    assert isinstance(skipped[0], Dropped)
    assert (skipped[0].reason, skipped[0].count, skipped[0].last) == ("not-told", 8, 31)
