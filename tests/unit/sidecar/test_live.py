"""`/live`: history and live without a gap or a repeat, bounded, with every drop told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_sidecar.live import LiveLimits, live_routes
from spanyard_sidecar.ring import Batch, Ring


def lines(first: int, count: int, size: int = 0) -> bytes:
    return b"".join(
        json.dumps({"seq": seq, "message": "x" * size}).encode() + b"\n"
        for seq in range(first, first + count)
    )


class Listener:
    """A client of `/live`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self.socket.receive(), 60)
        assert message.type is WSMsgType.TEXT, message
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def records(self, count: int) -> list[tuple[str, int]]:
        """Writer and seq of the next records; checks that messages number them rightly."""
        found: list[tuple[str, int]] = []
        while len(found) < count:
            message = await self.hear()
            if message["type"] == "live":
                continue
            assert message["type"] == "lines", message
            seqs = [record["seq"] for record in message["records"]]
            assert seqs == list(range(message["first"], message["first"] + len(seqs)))
            found += [(message["writer"], seq) for seq in seqs]
        return found


@contextlib.asynccontextmanager
async def listening(
    ring: Ring, *, limits: LiveLimits | None = None, **options: Any
) -> AsyncIterator[Listener]:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(ring, limits=limits))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await stack.enter_async_context(session.ws_connect(url, **options))
        yield Listener(socket)


@contextlib.asynccontextmanager
async def serve(ring: Ring, *, limits: LiveLimits | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(live_routes(ring, clock=SystemClock(), limits=limits))
    async with serving(app, "127.0.0.1", 0, grace=0.5) as address:
        yield address.url + "/live"


async def test_hello_says_the_version_and_what_is_there() -> None:
    ring = Ring()
    ring.publish("app", "w", 1, lines(1, 1))
    async with listening(ring) as listener:
        hello = await listener.hear()
        assert hello.pop("time").endswith("Z")
        assert hello == {"type": "hello", "version": 1, "containers": ["app"]}


async def test_history_goes_over_to_live_without_gap_or_repeat() -> None:
    ring = Ring()
    ring.publish("app", "w", 1, lines(1, 50))
    async with listening(ring) as listener:
        await listener.hear()
        feeding = True

        async def feed() -> None:
            seq = 51
            while feeding:
                ring.publish("app", "w", seq, lines(seq, 7))
                seq += 7
                await asyncio.sleep(0.001)

        feeder = asyncio.create_task(feed())
        await asyncio.sleep(0.02)
        await listener.say(type="subscribe", container="app", after={"w": 10})
        found = await listener.records(400)
        feeding = False
        await feeder
    assert [seq for _, seq in found] == list(range(11, 11 + len(found)))


@pytest.mark.parametrize(
    ("history", "expected"),
    [(0, []), (1, [30]), (12, list(range(19, 31))), (10**9, list(range(1, 31)))],
)
async def test_without_a_place_the_newest_lines_come(history: int, expected: list[int]) -> None:
    ring = Ring()
    for first in (1, 11, 21):
        ring.publish("app", "w", first, lines(first, 10))
    async with listening(ring) as listener:
        await listener.hear()
        await listener.say(type="subscribe", container="app", history=history)
        found: list[int] = []
        while (message := await listener.hear())["type"] == "lines":
            found += [record["seq"] for record in message["records"]]
        assert found == expected
        assert message["type"] == "live"
        ring.publish("app", "w", 31, lines(31, 1))
        assert await listener.records(1) == [("w", 31)]


async def test_a_subscription_to_all_gets_containers_that_come_later() -> None:
    ring = Ring()
    ring.publish("app", "a", 1, lines(1, 2))
    async with listening(ring) as listener:
        await listener.hear()
        await listener.say(type="subscribe", history=10)
        assert await listener.records(2) == [("a", 1), ("a", 2)]
        assert await listener.hear() == {"type": "live", "container": None}
        ring.publish("otlp", "b", 1, lines(1, 1))
        message = await listener.hear()
        assert (message["container"], message["writer"]) == ("otlp", "b")


async def test_other_containers_are_not_told() -> None:
    ring = Ring()
    async with listening(ring) as listener:
        await listener.hear()
        await listener.say(type="subscribe", container="app")
        assert (await listener.hear())["type"] == "live"
        ring.publish("other", "x", 1, lines(1, 1))
        ring.publish("app", "w", 1, lines(1, 1))
        assert await listener.records(1) == [("w", 1)]
        await listener.say(type="unsubscribe", container="app")
        while ring.subscribers:
            await asyncio.sleep(0.001)
        ring.publish("app", "w", 2, lines(2, 1))
        await listener.say(type="subscribe", container="app", after={"w": 1})
        assert await listener.records(1) == [("w", 2)]


async def test_history_from_the_disk_ring_comes_first() -> None:
    def disk(container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        yield "w", 1, lines(1, 30)

    ring = Ring(disk=disk)
    ring.publish("app", "w", 21, lines(21, 20))
    async with listening(ring) as listener:
        await listener.hear()
        await listener.say(type="subscribe", container="app", after={"w": 5})
        assert [seq for _, seq in await listener.records(35)] == list(range(6, 41))


async def test_a_slow_client_is_told_exactly_what_it_missed() -> None:
    ring = Ring()
    limits = LiveLimits(waiting_bytes=200_000)
    async with listening(ring, limits=limits, max_msg_size=1 << 24) as listener:
        await listener.hear()
        await listener.say(type="subscribe", container="app")
        assert (await listener.hear())["type"] == "live"
        seq = 1
        while not ring.dropped_lines:  # nobody reads: the socket's buffers fill up, then ours
            ring.publish("app", "w", seq, lines(seq, 10, 5000))
            seq += 10
            await asyncio.sleep(0)
        for _ in range(20):
            ring.publish("app", "w", seq, lines(seq, 10, 5000))
            seq += 10
        next_seq = 1
        dropped = 0
        while next_seq < seq:
            message = await listener.hear()
            if message["type"] == "dropped":
                assert (message["writer"], message["reason"]) == ("w", "slow-client")
                dropped += message["count"]
                next_seq += message["count"]
            else:
                assert message["first"] == next_seq
                next_seq += len(message["records"])
        assert dropped == ring.dropped_lines > 0


async def test_large_blocks_come_in_messages_of_bounded_size() -> None:
    ring = Ring()
    limits = LiveLimits(message_bytes=10_000)
    async with listening(ring, limits=limits) as listener:
        await listener.hear()
        ring.publish("app", "w", 1, lines(1, 100, 500) + lines(101, 1, 30_000) + lines(102, 1))
        await listener.say(type="subscribe", container="app", history=1000)
        sizes = []
        found: list[int] = []
        while len(found) < 102:
            message = await listener.hear()
            assert message["first"] == len(found) + 1
            sizes.append(len(message["records"]))
            found += [record["seq"] for record in message["records"]]
        assert found == list(range(1, 103))
        assert max(sizes) < 20


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        '{"type":"subscribe","containers":["a"]}',
        '{"type":"subscribe","container":5}',
        '{"type":"publish"}',
        "[" * 50_000,
    ],
)
async def test_what_is_not_understood_ends_the_connection_with_a_reason(text: str) -> None:
    async with listening(Ring()) as listener:
        await listener.hear()
        await listener.socket.send_str(text)
        message = await listener.hear()
        assert message["type"] == "error"
        assert "not understood" in message["message"]
        assert (await listener.socket.receive()).type is WSMsgType.CLOSE
        assert listener.socket.close_code == 1008


async def test_subscriptions_are_limited_and_not_doubled() -> None:
    for wishes, reason in (
        ([{"container": "a"}, {"container": "a"}], "subscribed already"),
        ([{}, {"container": "a"}], "subscribed already"),
        ([{"container": "a"}, {}], "beside single ones"),
        ([{"container": "a"}, {"container": "b"}, {"container": "c"}], "are most"),
    ):
        ring = Ring()
        async with listening(ring, limits=LiveLimits(subscriptions=2)) as listener:
            await listener.hear()
            for wish in wishes:
                await listener.say(type="subscribe", **wish)
            while (message := await listener.hear())["type"] == "live":
                pass
            assert reason in message["message"]
        assert ring.subscribers == 0


async def test_connections_are_limited() -> None:
    async with serve(Ring(), limits=LiveLimits(connections=1)) as url:
        async with aiohttp.ClientSession() as session, session.ws_connect(url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url)
            assert refused.value.status == 503
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(30):  # until the place is given back
                while True:
                    with contextlib.suppress(aiohttp.WSServerHandshakeError):
                        async with session.ws_connect(url) as socket:
                            assert (await socket.receive_json())["type"] == "hello"
                        break
                    await asyncio.sleep(0.02)


async def test_a_page_in_a_browser_may_not_listen() -> None:
    async with serve(Ring()) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, headers={"Origin": "http://evil.example"})
        assert refused.value.status == 403


async def test_a_listener_that_leaves_leaves_nothing_behind() -> None:
    ring = Ring()
    async with listening(ring) as listener:
        await listener.hear()
        await listener.say(type="subscribe")
        assert (await listener.hear())["type"] == "live"
        assert ring.subscribers == 1
        await listener.socket.close()
        async with asyncio.timeout(30):
            while ring.subscribers:
                await asyncio.sleep(0.01)


async def test_who_leaves_at_once_leaves_nothing_behind_either() -> None:
    ring = Ring()
    ring.publish("app", "w", 1, lines(1, 1))
    async with listening(ring) as listener:
        await listener.hear()
        for n in range(100):
            await listener.say(type="subscribe", container=f"c{n}")
            await listener.say(type="unsubscribe", container=f"c{n}")
        await listener.say(type="subscribe", container="app", history=1)
        assert await listener.records(1) == [("w", 1)]
        assert ring.subscribers == 1
        assert ring.containers == ["app"]
        assert len(ring._kept) == 1, "a container is not there because somebody asked for it"


async def test_a_history_that_fails_ends_the_connection_and_not_the_collector(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        raise RuntimeError("no disk")
        yield

    async with listening(Ring(disk=broken)) as listener:
        await listener.hear()
        await listener.say(type="subscribe", container="app")
        assert (await listener.socket.receive()).type is WSMsgType.CLOSE
        assert listener.socket.close_code == 1011
    assert "no disk" in caplog.text
