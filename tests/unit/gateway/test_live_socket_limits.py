"""What clients of `/ws` may cost: bytes, connections, subscriptions, and the time of all others."""

import asyncio
import contextlib
import dataclasses
import json
import resource
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from spanyard_gateway.live.socket import SocketLimits
from tests.fakes.live_socket import CHANNEL, Client, connected, served


async def test_too_large_a_message_ends_the_connection() -> None:
    async with served(SocketLimits(message_bytes=10_000)) as (_, url), connected(url) as client:
        await client.socket.send_str("x" * 20_000)
        assert await client.end() == 1009
        assert client.reason == "a message is larger than 10,000 bytes, which is the limit"


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


async def test_nobody_listening_costs_no_connection() -> None:
    async with served() as (gateway, url):
        gateway.world.new_pod()
        async with connected(url) as client:
            await asyncio.sleep(0.05)
            assert gateway.world.connections == 0, "connected, and listening to nothing"
            await client.say(type="subscribe", id="a", channel=CHANNEL)
            await client.hear("live")
            assert gateway.hub.connections == 1


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


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut_off_and_holds_up_nobody() -> None:
    async with (
        served(SocketLimits(waiting_bytes=400_000)) as (gateway, url),
        connected(url) as client,
    ):
        # Of the sleeper alone: a machine that stands still for so long cuts nobody else off.
        gateway.live.limits = dataclasses.replace(gateway.live.limits, send_timeout=3.0)
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
            async with asyncio.timeout(120):
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
        async with asyncio.timeout(60):
            await gateway.live.close()
            while gateway.live.counts.connections:
                await asyncio.sleep(0.05)


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
        async with asyncio.timeout(60):
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
