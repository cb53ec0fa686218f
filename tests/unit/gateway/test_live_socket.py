"""`/ws` itself: what clients say and hear, rightly and wrongly, and when it ends."""

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web

from spanyard_gateway.live.socket import RefusedError
from spanyard_gateway.live.stored import Target
from tests.fakes.live_socket import CHANNEL, Hurried, connected, served
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE


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


async def test_a_subscription_is_left_while_the_client_reads_nothing_and_the_others_go_on() -> None:
    async with served() as (gateway, url), connected(url, max_msg_size=0) as client:
        pod = gateway.world.new_pod()
        gateway.world.padding = "x" * 1_000
        await gateway.world.print(pod, 10_000)
        await client.say(type="subscribe", id="b", channel=CHANNEL)
        await client.hear("live")
        await client.say(type="subscribe", id="a", channel=CHANNEL, history=10_000)
        assert (await client.hear())["type"] == "subscribed"
        transport = client.socket._conn.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        [request] = gateway.live._sockets.values()
        async with asyncio.timeout(60):
            while not request.protocol.writing_paused:
                await asyncio.sleep(0.01)
        await client.say(type="unsubscribe", id="a")
        async with asyncio.timeout(60):
            while gateway.live.counts.subscriptions > 1:
                await asyncio.sleep(0.01)
        transport.resume_reading()
        assert (await client.hear("ended"))["id"] == "a"
        await client.say(type="ping")
        await client.hear("heartbeat")
        await gateway.world.print(pod, 1)
        assert (await client.hear("server:log"))["id"] == "b"


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
