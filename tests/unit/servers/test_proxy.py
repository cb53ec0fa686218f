"""The stable port: round robin, switches without a dropped request, and what it says itself."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spanyard_local.servers import proxy as module
from spanyard_local.servers import relay
from spanyard_local.servers.ports import Target
from spanyard_local.servers.proxy import Proxy
from spanyard_local.servers.slots import Slots
from tests.fakes.ports import own_port


class Backend:
    """A server of lines: answers each with its name and the line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0
        self.heard = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> Target:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Target("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        answering = asyncio.create_task(self._answer(lines, writer))
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self.heard += 1
                lines.put_nowait(line)
        lines.put_nowait(b"")
        await answering
        writer.close()

    async def _answer(self, lines: "asyncio.Queue[bytes]", writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await lines.get():
                await self.gate.wait()
                writer.write(f"{self.name}: ".encode() + line)
                await writer.drain()

    async def hears(self, lines: int) -> None:
        """Wait until so many lines have come through, answered or not."""
        async with asyncio.timeout(30):
            while self.heard < lines:
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()


@contextlib.asynccontextmanager
async def backends(*names: str) -> AsyncIterator[list[tuple[Backend, Target]]]:
    made = [Backend(name) for name in names]
    try:
        yield [(backend, await backend.open()) for backend in made]
    finally:
        for backend in made:
            backend.gate.set()
            await backend.close()


@contextlib.asynccontextmanager
async def proxied(*targets: Target) -> AsyncIterator[Proxy]:
    proxy = Proxy("shop")
    await proxy.open()
    if targets:
        proxy.route(targets)
    try:
        yield proxy
    finally:
        await proxy.close()


class Client:
    """A connection that speaks lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\n")
        async with asyncio.timeout(30):
            return (await self.reader.readline()).decode().strip()


@contextlib.asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(proxy: Proxy) -> str:
    async with client(proxy) as made:
        return await made.say("hello")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.05)
    monkeypatch.setattr(relay, "IDLE_S", 0.05)


async def test_connections_go_round_robin() -> None:
    async with backends("a", "b") as found, proxied(*(t for _, t in found)) as proxy:
        said = [(await ask(proxy))[0] for _ in range(6)]
        assert sorted(said) == ["a"] * 3 + ["b"] * 3
        assert said[:2] * 3 == said


async def test_a_target_that_is_dead_is_passed_over() -> None:
    async with backends("a") as [(_, alive)]:
        dead = Target("127.0.0.1", own_port())
        async with proxied(dead, alive) as proxy:
            assert [await ask(proxy) for _ in range(4)] == ["a: hello"] * 4


async def test_large_answers_pass_whole_and_a_half_closed_client_gets_its_answer() -> None:
    size = 3_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read()  # until the client has said all
        writer.write(b"x" * len(got))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, proxied(Target("127.0.0.1", server.sockets[0].getsockname()[1])) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"y" * size)
        writer.write_eof()
        assert len(await reader.read()) == size
        writer.close()
        await writer.wait_closed()


async def test_at_a_switch_a_request_is_answered_by_the_old_one_and_new_ones_go_to_the_new(
    quick: None,
) -> None:
    async with (
        backends("old", "new") as [(old, old_target), (_, new_target)],
        proxied(old_target) as proxy,
        client(proxy) as slow,
    ):
        old.gate.clear()
        asked = asyncio.create_task(slow.say("slow"))
        await old.hears(1)
        proxy.route([new_target])
        released = asyncio.create_task(proxy.release(old_target, 30))
        assert await ask(proxy) == "new: hello"
        await asyncio.sleep(0.2)
        assert not released.done()  # it waits for the answer, however quiet
        old.gate.set()
        assert await asked == "old: slow"
        await released  # the connection was kept alive; idle, it is closed
        assert await slow.reader.read() == b""


async def test_a_kept_alive_connection_goes_over_at_its_next_request() -> None:
    async with (
        backends("old", "new") as [(old, old_target), (_, new_target)],
        proxied(old_target) as proxy,
        client(proxy) as kept,
    ):
        request = "GET /1 HTTP/1.1\r"
        assert await kept.say(request) == f"old: {request}".strip()
        proxy.route([new_target])
        assert await kept.say("what is no request stays") == "old: what is no request stays"
        old.gate.clear()
        asked = asyncio.create_task(kept.say(request))
        assert await asked == f"new: {request}".strip()
        async with asyncio.timeout(30):
            await proxy.release(old_target, 30)
        assert await kept.say("on") == "new: on"


async def test_a_request_that_is_being_answered_does_not_go_over() -> None:
    async with (
        backends("old", "new") as [(old, old_target), (_, new_target)],
        proxied(old_target) as proxy,
        client(proxy) as kept,
    ):
        old.gate.clear()
        asked = asyncio.create_task(kept.say("POST / HTTP/1.1\r"))
        await old.hears(1)
        proxy.route([new_target])
        kept.writer.write(b"GET /its-body-says HTTP/1.1\r\n")
        await old.hears(2)
        old.gate.set()
        assert (await asked).startswith("old: POST")
        assert (await kept.reader.readline()).startswith(b"old: GET")


async def test_an_idle_connection_does_not_hold_up_a_switch(quick: None) -> None:
    async with (
        backends("old") as [(_, target)],
        proxied(target) as proxy,
        client(proxy) as idle,
    ):
        assert await idle.say("hello") == "old: hello"
        proxy.route([])
        async with asyncio.timeout(30):
            await proxy.release(target, 30)


async def test_a_request_that_waits_for_another_replica_is_not_idle(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def instead(target: Target) -> None:
        waits.set()
        await goes_on.wait()

    async with (
        backends("old") as [(_, target)],
        proxied(target) as proxy,
    ):
        monkeypatch.setattr(proxy, "_instead", instead)
        async with client(proxy) as kept:
            asked = asyncio.create_task(kept.say("GET / HTTP/1.1\r"))
            await waits.wait()
            [connection] = proxy._connections
            released = asyncio.create_task(proxy.release(target, 30))
            await asyncio.sleep(relay.IDLE_S * 4)
            assert not connection.idle
            goes_on.set()
            assert await asked == "old: GET / HTTP/1.1"
            await released


async def test_a_release_has_its_limit() -> None:
    async with (
        backends("old") as [(old, target)],
        proxied(target) as proxy,
        client(proxy) as slow,
    ):
        old.gate.clear()
        asked = asyncio.create_task(slow.say("slow"))
        await old.hears(1)
        proxy.route([])
        async with asyncio.timeout(30):
            await proxy.release(target, 0.1)
        old.gate.set()
        assert await asked == "old: slow"  # it may still be answered


async def test_without_a_ready_replica_it_says_so_in_http(quick: None) -> None:
    async with proxied() as proxy:
        proxy.route([], "keeps ending, last with exit code 3")
        async with client(proxy) as made:
            made.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = (await made.reader.read()).decode()
    assert answer.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 1" in answer
    assert answer.endswith("no replica of shop is ready: keeps ending, last with exit code 3\n")


async def test_a_request_waits_for_a_replica_that_is_just_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 30.0)
    async with backends("a") as [(_, target)], proxied() as proxy:
        asked = asyncio.create_task(ask(proxy))
        await asyncio.sleep(0.05)
        proxy.route([target])
        assert await asked == "a: hello"


async def test_too_many_connections_are_refused_and_the_others_go_on() -> None:
    slots = Slots(1)
    async with backends("a") as [(_, target)]:
        one, other = Proxy("one", slots), Proxy("other", slots)
        for proxy in (one, other):
            await proxy.open()
            proxy.route([target])
        async with client(one) as first:
            assert await first.say("hello") == "a: hello"
            with contextlib.suppress(ConnectionError):  # or it just ends
                assert await ask(other) == ""
            assert slots.refused == 1  # all proxies share the room
            assert await first.say("again") == "a: again"
        async with asyncio.timeout(30):
            while slots._taken:
                await asyncio.sleep(0.01)
        assert await ask(other) == "a: hello"
        for proxy in (one, other):
            await proxy.close()


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [(256, 10_240, 1_000), (256, 256, 16), (1_024, 1_024, 256), (-1, -1, 1_000)],
)
def test_connections_leave_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, limit: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.append(both))
    assert Slots().limit == limit


async def test_it_takes_the_wished_port_or_another_when_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wished = taken.getsockname()[1]
        proxy = Proxy("shop")
        free = own_port()
        assert await proxy.open(wished, free) == free
        assert not await proxy.move(wished)
        assert proxy.port == free
        other = own_port()
        assert await proxy.move(other)
        assert proxy.port == other
        await proxy.close()


async def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    async with backends("a") as [(_, target)], proxied(target) as proxy:
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"hello\n")
            await reader.readline()
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        tasks: Any = proxy._tasks
        async with asyncio.timeout(30):
            while tasks:
                await asyncio.sleep(0.01)
        assert not proxy._connections
