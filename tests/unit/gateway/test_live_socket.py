"""`/ws` itself: what clients say wrong, and what they may cost."""

import asyncio
import contextlib
import json
import random
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_gateway.live.channels import Channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.socket import LiveSockets, RefusedError, SocketLimits
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, World

CHANNEL = f"server:{NAMESPACE}.{DEPLOYMENT}"


class Client:
    """One socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types, or of any."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), 60)
            assert message.type is WSMsgType.TEXT, message
            found: dict[str, Any] = json.loads(message.data)
            if not kinds or found["type"] in kinds:
                return found

    async def end(self) -> int | None:
        """Wait for the server's close; gives its code."""
        while (found := await asyncio.wait_for(self.socket.receive(), 60)).type is WSMsgType.TEXT:
            pass
        self.reason = str(found.extra or "")
        return self.socket.close_code


class Hurried(SystemClock):
    """Heartbeats come 150 times as often; whether a pong is late is still aiohttp's to say: with
    heartbeats of 0.1 s a process that stands still for 50 ms would have lost its client."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 150)


class Served:
    """A gateway's sockets over a world."""

    def __init__(self, limits: SocketLimits, clock: SystemClock) -> None:
        self.world = World(random.Random(1))
        self.world.random_failures = False
        self.allowed = True
        hub = Hub(self.world, self.world, self.world, clock, random.Random(1))
        self.live = LiveSockets(hub, Statuses(lambda: None, clock), self._find, self._check, limits)
        self.hub = hub

    async def _find(self, request: web.Request, channel: Channel) -> Target:
        if channel.name != DEPLOYMENT:
            raise RefusedError("not-found", "there is no such deployment")
        return Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)

    async def _check(self, request: web.Request, target: Target) -> None:
        if not self.allowed:
            raise RefusedError("forbidden", "not any more")


@contextlib.asynccontextmanager
async def served(
    limits: SocketLimits | None = None, clock: SystemClock | None = None
) -> AsyncIterator[tuple[Served, str]]:
    found = Served(limits or SocketLimits(), clock or SystemClock())
    app = web.Application()
    app.add_routes([web.get("/ws", found.live.handle)])
    running = asyncio.create_task(found.hub.run())
    try:
        async with serving(app, "127.0.0.1", 0, grace=0.5, before_stop=found.live.close) as address:
            yield found, address.url + "/ws"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
        client = Client(socket)
        hello = await client.hear("hello")
        assert hello["version"] == 1
        yield client


async def test_history_then_live_over_one_socket_with_two_channels() -> None:
    async with served() as (gateway, url), connected(url) as client:
        pod = gateway.world.new_pod()
        await gateway.world.print(pod, 30)
        await client.say(type="subscribe", id="a", channel=CHANNEL, history=10)
        await client.say(
            type="subscribe", id="b", channel=CHANNEL, filter={"q": "-level:info"}, history=0
        )
        seen: dict[str, list[int]] = {"a": [], "b": []}
        lives: set[str] = set()
        while len(lives) < 2:
            message = await client.hear("server:log", "live")
            if message["type"] == "live":
                lives.add(message["id"])
            else:
                seen[message["id"]] += [item["seq"] for item in message["items"]]
        assert seen == {"a": list(range(21, 31)), "b": []}
        await gateway.world.print(pod, 20)
        while len(seen["a"]) < 30 or len(seen["b"]) < 4:
            message = await client.hear("server:log")
            assert message["serverId"] == f"{NAMESPACE}.{DEPLOYMENT}"
            seen[message["id"]] += [item["seq"] for item in message["items"]]
        assert seen == {"a": list(range(21, 51)), "b": [35, 40, 45, 50]}
        await client.say(type="unsubscribe", id="a")
        assert (await client.hear("ended"))["id"] == "a"
        await client.say(type="ping")
        assert set((await client.hear("heartbeat"))["resume"]) == {"b"}
    assert gateway.live.counts.connections == 0


@pytest.mark.parametrize(
    "said",
    [
        "nonsense",
        "[]",
        '{"type":"dance"}',
        '{"type":"subscribe","id":1,"channel":"x"}',
        '{"type":"subscribe","id":"a","channel":"server:a.b","more":1}',
        '{"type":"subscribe","id":"a","channel":"server:a.b","filter":{"level":["loud"]}}',
        "[" * 10_000,
    ],
)
async def test_garbage_is_told_and_ends_the_connection(said: str) -> None:
    async with served() as (_, url), connected(url) as client, connected(url) as other:
        await client.socket.send_str(said)
        error = await client.hear("error")
        assert error["code"] == "not-understood"
        assert await client.end() == 1008
        await other.say(type="ping")
        await other.hear("heartbeat")


async def test_a_heartbeat_tells_times_and_no_numbers_which_messages_have_told() -> None:
    async with served() as (gateway, url), connected(url) as client:
        await gateway.world.print(gateway.world.new_pod(), 10)
        await client.say(type="subscribe", id="a", channel=CHANNEL)
        live = await client.hear("live")
        assert live["resume"]["seen"]
        for _ in range(50):
            await client.say(type="ping")
        beats = [await client.hear("heartbeat") for _ in range(50)]
        for beat in beats:
            assert set(beat["resume"]) == {"a"}
            assert beat["resume"]["a"]["at"] >= live["resume"]["at"]
            assert beat["resume"]["a"]["seen"] == {}


async def test_too_large_a_message_ends_the_connection() -> None:
    async with served(SocketLimits(message_bytes=10_000)) as (_, url), connected(url) as client:
        await client.socket.send_str("x" * 20_000)
        assert await client.end() == 1009
        assert client.reason == "a message is larger than 10,000 bytes, which is the limit"


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"channel": "nothing"}, "bad-channel"),
        ({"channel": "server:nodot"}, "bad-channel"),
        ({"channel": "trace:a.b"}, "bad-channel"),
        ({"channel": "server:local.else"}, "not-found"),
        ({"channel": CHANNEL, "history": 20_000}, "bad-history"),
        ({"channel": CHANNEL, "history": -1}, "bad-history"),
        ({"channel": CHANNEL, "filter": {"text": "x" * 2_000}}, "bad-channel"),
        # All of it would stay in memory as long as somebody listens.
        ({"channel": "server:local." + "x" * 200_000}, "bad-channel"),
        ({"channel": "project:" + "x" * 200_000 + ".shop"}, "bad-channel"),
        ({"channel": CHANNEL, "filter": {"container": ["x"] * 51}}, "bad-channel"),
        ({"channel": CHANNEL, "filter": {"level": ["error"] * 51}}, "bad-channel"),
        ({"channel": CHANNEL, "filter": {"stream": ["x" * 254]}}, "bad-channel"),
        ({"channel": CHANNEL, "id": ""}, "bad-id"),
        ({"channel": CHANNEL, "resume": {"at": -1, "seen": {}}}, "bad-resume"),
        ({"channel": CHANNEL, "resume": {"at": 10**30, "seen": {}}}, "bad-resume"),
        ({"channel": CHANNEL, "resume": {"at": 1, "seen": {"pod0/app/0@e": -5}}}, "bad-resume"),
        ({"channel": CHANNEL, "resume": {"at": 1, "seen": {"pod0/app/0@e": 2**64}}}, "bad-resume"),
        (
            {
                "channel": CHANNEL,
                "resume": {"at": 1, "seen": dict.fromkeys(map(str, range(4_001)), 1)},
            },
            "bad-resume",
        ),
        ({"channel": CHANNEL, "filter": {"q": "level:eror"}}, "bad-query"),
        ({"channel": CHANNEL, "filter": {"q": "tool:mail"}}, "bad-query"),
    ],
)
async def test_a_refused_subscription_leaves_the_socket_open(
    wish: dict[str, Any], code: str
) -> None:
    async with served() as (_, url), connected(url) as client:
        await client.say(**{"type": "subscribe", "id": "a", **wish})
        error = await client.hear("error")
        assert error["code"] == code, error
        assert error["message"]
        await client.say(type="subscribe", id="good", channel=CHANNEL)
        assert (await client.hear("subscribed"))["id"] == "good"


async def test_a_mistake_in_a_search_is_told_with_its_place() -> None:
    async with served() as (_, url), connected(url) as client:
        await client.say(type="subscribe", id="a", channel=CHANNEL, filter={"q": "a level:eror"})
        error = await client.hear("error")
        assert (error["id"], error["at"]) == ("a", {"start": 8, "end": 12})


WRONG: list[dict[str, Any]] = [
    *({"filter": each} for each in ("error", ["error"], 5, None, {"else": 1}, {"level": "error"})),
    *(
        {"filter": {"level": each}}
        for each in (["eror"], [5], [None], [["error"]], {"error": 1}, 7)
    ),
    *({"filter": {n: 5}} for n in ("stream", "container", "text", "q")),
    *({"filter": {n: [5]}} for n in ("stream", "container", "text", "q")),
    *({"filter": {n: None}} for n in ("stream", "container", "text", "q")),
    *({"history": each} for each in ("5", 1.5, None, [], True)),
    *({"resume": each} for each in ("5", [], {}, {"at": 1}, {"at": "1", "seen": {}})),
    *({"resume": {"at": 1, "seen": each}} for each in ([], {"w": "1"}, {"w": None}, {"w": 1.5})),
    *({"channel": each} for each in (None, 5, [CHANNEL], {})),
    *({"id": each} for each in (None, 5, ["a"])),
    {"type": "Subscribe"},
    {"more": 1},
]


async def test_a_value_of_a_wrong_type_is_told_with_its_place_and_ends_the_connection() -> None:
    async with served() as (gateway, url):
        for wrong in WRONG:
            async with connected(url) as client:
                await client.say(**{"type": "subscribe", "id": "a", "channel": CHANNEL, **wrong})
                error = await client.hear()
                assert (error["type"], error["code"]) == ("error", "not-understood"), wrong
                assert "$" in error["message"] or "more" in error["message"], (wrong, error)
                assert await client.end() == 1008
        assert gateway.live.counts.subscriptions == 0
        async with connected(url) as client:
            await client.socket.send_bytes(b'{"type":"ping"}')
            assert "JSON texts" in (await client.hear())["message"]
            assert await client.end() == 1008


async def test_a_subscription_is_left_while_its_history_comes_and_its_id_is_free_again() -> None:
    async with served() as (gateway, url), connected(url, max_msg_size=0) as client:
        pod = gateway.world.new_pod()
        gateway.world.padding = "x" * 1_000
        await gateway.world.print(pod, 10_000)
        for _ in range(5):
            await client.say(type="subscribe", id="a", channel=CHANNEL, history=10_000)
            assert (await client.hear())["type"] == "subscribed"
            first = await client.hear()
            assert (first["type"], first["history"]) == ("server:log", True)
            await client.say(type="subscribe", id="a", channel=CHANNEL)
            await client.say(type="unsubscribe", id="a")
            seen, codes = first["last"], []
            while (message := await client.hear())["type"] != "ended":
                if message["type"] == "error":
                    codes.append(message["code"])
                elif message["type"] == "server:log":
                    assert message["items"][0]["seq"] == seen + 1, "of the first, none twice"
                    seen = message["last"]
            assert codes == ["bad-id"], "it was subscribed already"
        await client.say(type="subscribe", id="a", channel=CHANNEL, history=1)
        assert (await client.hear())["type"] == "subscribed", "nothing of those before"
        assert [i["seq"] for i in (await client.hear())["items"]] == [10_000]
        await client.hear("live")
        await client.say(type="unsubscribe", id="b")
        assert (await client.hear("ended"))["id"] == "b", "said of what is not there, it is as well"
        assert gateway.live.counts.subscriptions == 1


async def test_tokens_of_all_connections_are_bounded_and_let_go_with_their_subscriptions() -> None:
    limits = SocketLimits(resumed=30, resumed_in_all=50)
    async with served(limits) as (gateway, url), connected(url) as one, connected(url) as two:

        async def resumed(client: Client, id_: str) -> str:
            resume = {"at": 1, "seen": {f"pod{n}/app/0@e": 1 for n in range(20)}}
            await client.say(type="subscribe", id=id_, channel=CHANNEL, resume=resume)
            said = await client.hear("subscribed", "error")
            return str(said.get("code", "subscribed"))

        assert [await resumed(one, "a"), await resumed(one, "b")] == ["subscribed", "bad-resume"]
        async with connected(url) as three:
            assert await resumed(three, "a") == "subscribed"
            assert await resumed(two, "a") == "away", "a client asks again for that"
        async with asyncio.timeout(60):
            while gateway.live.holdings.total > 20:
                await asyncio.sleep(0.01)
        assert await resumed(two, "a") == "subscribed"
        await one.say(type="unsubscribe", id="a")
        await one.hear("ended")
        assert await resumed(one, "b") == "subscribed"


async def test_subscriptions_and_connections_are_bounded() -> None:
    limits = SocketLimits(subscriptions=3, connections=2)
    async with served(limits) as (_, url), connected(url) as client, connected(url):
        for n in range(4):
            await client.say(type="subscribe", id=str(n), channel=CHANNEL)
        error = await client.hear("error")
        assert (error["id"], error["code"]) == ("3", "too-many")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url)
            assert refused.value.status == 503


async def test_a_right_that_is_taken_away_ends_open_subscriptions() -> None:
    async with served(clock=Hurried()) as (gateway, url), connected(url) as client:
        gateway.world.new_pod()
        await client.say(type="subscribe", id="a", channel=CHANNEL)
        await client.hear("live")
        gateway.allowed = False
        error = await client.hear("error")
        assert (error["id"], error["code"]) == ("a", "forbidden")
        assert gateway.live.counts.subscriptions == 0


async def test_a_moment_without_kubernetes_ends_no_stream_a_minute_does() -> None:
    clock = Hurried()
    async with served(clock=clock) as (gateway, url), connected(url) as client:
        asked = 0

        async def away(request: web.Request, target: Target) -> None:
            nonlocal asked
            asked += 1
            raise RefusedError("away", "Kubernetes does not answer")

        pod = gateway.world.new_pod()
        for name in ("a", "b"):
            await client.say(type="subscribe", id=name, channel=CHANNEL)
            await client.hear("live")
        answers, gateway.live.check = gateway.live.check, away
        for passed in (0, 59):
            clock.now += passed
            asked = 0
            while asked < 3:
                assert (await client.hear("heartbeat", "error"))["type"] == "heartbeat"
        gateway.live.check = answers
        await gateway.world.print(pod, 1)
        assert (await client.hear("server:log", "error"))["type"] == "server:log"
        asked, gateway.live.check = 0, away
        clock.now += 60
        ended = [await client.hear("error") for _ in range(2)]
        assert [(one["id"], one["code"]) for one in ended] == [("a", "away"), ("b", "away")]
        assert asked == 1, "one question that nobody answers stands for all of a round"


async def test_when_rights_cannot_be_looked_after_any_more_the_connection_ends() -> None:
    async with served(clock=Hurried()) as (gateway, url), connected(url) as client:

        async def fails(request: web.Request, target: Target) -> None:
            raise RuntimeError("nobody thought of this")

        gateway.live.check = fails
        await client.say(type="subscribe", id="a", channel=CHANNEL)
        assert await client.end() == 1011


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut_off_and_holds_up_nobody() -> None:
    limits = SocketLimits(waiting_bytes=400_000, send_timeout=1.0)
    async with served(limits) as (gateway, url), connected(url) as client:
        pod = gateway.world.new_pod()
        gateway.world.padding = "x" * 2_000
        async with connected(url, max_msg_size=0) as sleeper:
            for each in (client, sleeper):
                await each.say(type="subscribe", id="a", channel=CHANNEL)
                await each.hear("live")
            transport = sleeper.socket._conn.transport  # type: ignore[union-attr]
            assert transport is not None
            transport.pause_reading()
            heard = 0
            for _ in range(60):
                await gateway.world.print(pod, 100)
                while heard < pod.writers[0].last:
                    message = await client.hear("server:log", "dropped")
                    heard = message["last"]
            # Its kernel's buffers are full, and its time is up: it is cut off.
            async with asyncio.timeout(20):
                while gateway.live.counts.connections > 1:
                    await asyncio.sleep(0.05)
            assert heard == pod.writers[0].last == 6_000


@pytest.mark.slow
async def test_a_gateway_that_ends_does_not_wait_for_who_reads_nothing() -> None:
    limits = SocketLimits(send_timeout=300.0, end_timeout=0.5)
    async with served(limits) as (gateway, url), connected(url, max_msg_size=0) as sleeper:
        pod = gateway.world.new_pod()
        gateway.world.padding = "x" * 20_000
        await sleeper.say(type="subscribe", id="a", channel=CHANNEL)
        await sleeper.hear("live")
        transport = sleeper.socket._conn.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        for _ in range(20):
            await gateway.world.print(pod, 50)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(8):
            await gateway.live.close()
            while gateway.live.counts.connections:
                await asyncio.sleep(0.05)


async def test_an_ending_gateway_tells_clients_to_come_again() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with served() as (_, url):
            client = await stack.enter_async_context(connected(url))
            ending = asyncio.create_task(client.end())
            await asyncio.sleep(0)
        assert await ending == 1001


async def test_a_collector_that_does_not_answer_is_told_when_a_subscription_begins() -> None:
    async with served() as (gateway, url), connected(url) as client:
        pod = gateway.world.new_pod()
        pod.answers = False
        await client.say(type="subscribe", id="a", channel=CHANNEL)
        told = await client.hear("partial")
        assert (told["id"], told["reason"]) == ("a", "collector-away")
        assert told["message"] == f"pod {pod.live.name}: refused"
        await client.hear("live")


async def test_nobody_listening_costs_no_connection() -> None:
    async with served() as (gateway, url):
        gateway.world.new_pod()
        async with connected(url) as client:
            await asyncio.sleep(0.05)
            assert gateway.world.connections == 0, "connected, and listening to nothing"
            await client.say(type="subscribe", id="a", channel=CHANNEL)
            await client.hear("live")
            assert gateway.hub.connections == 1


@pytest.mark.slow
async def test_a_flood_of_subscriptions_is_held_back_and_nobody_else_notices() -> None:
    """Twenty connections say as many as are taken, each with a token of 2,000 writers (200 kB)."""
    rate, seconds = 2_000_000, 4.0
    limits = SocketLimits(
        said_burst=500_000, said_rate=400_000, said_burst_in_all=1_000_000, said_rate_in_all=rate,
        resumed_in_all=20_000, patience=3.0,
    )  # fmt: skip
    seen = {f"pod{n:04}-{'x' * 80}/app/0@e": n for n in range(2_000)}
    wish = {"type": "subscribe", "channel": CHANNEL, "resume": {"at": 1, "seen": seen}}
    heard: set[str] = set()
    rest, size = json.dumps(wish)[1:], len(json.dumps(wish))
    clock, answers, said = asyncio.get_running_loop().time, Counter[str](), 0
    async with served(limits) as (gateway, url), connected(url) as other:
        pod = gateway.world.new_pod()
        await other.say(type="subscribe", id="a", channel=CHANNEL)
        await other.hear("live")
        before, began = _resident_mb(), clock()

        async def hear(flood: Client) -> None:
            async for message in flood.socket:
                answer = json.loads(message.data)
                if answer["type"] in {"error", "subscribed"}:
                    answers[answer.get("code", "subscribed")] += 1
                    heard.add(answer["id"])  # whoever gives way is told twice

        def over() -> bool:
            return clock() - began > seconds and count > 5

        async def pour() -> None:
            nonlocal said
            while not over():
                async with connected(url, max_msg_size=0) as flood:
                    hearing = asyncio.create_task(hear(flood))
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        while not over() and not hearing.done():
                            said += 1
                            async with asyncio.timeout(seconds):
                                await flood.socket.send_str(f'{{"id":"{said}",{rest}')
                    hearing.cancel()

        count, turns = 0, list[int]()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(pour())
            while not over():
                await asyncio.sleep(0.1)
                await gateway.world.print(pod, 1)
                count += 1
                assert [i["seq"] for i in (await other.hear("server:log"))["items"]] == [count]
                async with connected(url) as comes:
                    before_it = len(heard)
                    resume = {"at": 1, "seen": {"pod0/app/0@e": count}}
                    await comes.say(type="subscribe", id="a", channel=CHANNEL, resume=resume)
                    told = await comes.hear("subscribed", "error")
                    assert told["type"] == "subscribed", "whoever holds little is not sent away"
                    turns.append(len(heard) - before_it)
        taken = len(heard) * size
        assert 1_000_000 < taken <= 1_500_000 + rate * (clock() - began), "it is held back"
        assert answers["subscribed"], "what comes in time is taken"
        assert answers["away"], "and what is too much is refused"
        assert sorted(turns)[len(turns) // 2] < 8, "and is not behind twenty who say much"
        assert _resident_mb() - before < 100
        async with asyncio.timeout(20):
            while gateway.live.counts.subscriptions > 1:
                await asyncio.sleep(0.05)
        assert gateway.live.holdings.total == 0


@pytest.mark.slow
async def test_who_says_more_than_anybody_waits_for_is_told_to_come_again_and_say_less() -> None:
    limits = SocketLimits(said_burst=10_000, said_rate=1_000, patience=0.5)
    async with served(limits) as (gateway, url), connected(url) as client:
        for _ in range(3):
            await client.say(type="ping")
            await client.hear("heartbeat")
        for _ in range(3):
            await client.socket.send_str(" " * 8_000 + '{"type":"ping"}')
        with contextlib.suppress(AssertionError):
            while True:
                await client.hear("heartbeat")
        assert client.socket.close_code == 1013
        assert gateway.live.counts.too_fast == 1


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def test_thousands_of_messages_to_one_who_reads_slowly_stay_in_order() -> None:
    async with served() as (gateway, url), connected(url) as client:
        pod = gateway.world.new_pod()
        gateway.world.padding = "x" * 500
        await client.say(type="subscribe", id="a", channel=CHANNEL)
        await client.hear("live")
        seqs: list[int] = []
        for n in range(1, 41):
            await gateway.world.print(pod, 100)
            if n % 10 == 0:
                while len(seqs) < n * 100:
                    message = await client.hear()
                    assert message["type"] == "server:log", message
                    seqs += [item["seq"] for item in message["items"]]
        assert seqs == list(range(1, 4_001))
