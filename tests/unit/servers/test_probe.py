"""One look at a server."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from spanyard_local.servers.ports import Target, listening
from spanyard_local.servers.probe import look
from spanyard_local.shim_tree import LINUX
from tests.fakes.ports import own_port


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that says this to whatever it is asked; None: nothing."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await ended.wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 399 Odd\r\n\r\n", ""),
        (b"HTTP/1.0 204\r\n\r\n", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "GET /h answered 404 Not Found"),
        (b"HTTP/1.1 503 Down\r\n\r\n", "GET /h answered 503 Down"),
        (b"SSH-2.0-x\r\n", "GET /h got no HTTP answer but 'SSH-2.0-x'"),
        (b"", "GET /h got no HTTP answer"),
    ],
)
async def test_a_status_from_200_to_399_is_well(answer: bytes, trouble: str) -> None:
    async with answering(answer) as port:
        found = await look(port, "/h", 60)
    assert (found.trouble, found.target) == (trouble, Target("127.0.0.1", port))


async def test_a_slow_answer_is_not_waited_for() -> None:
    async with answering(None) as port:
        found = await look(port, "/h", 0.05)
    assert found.trouble == "GET /h did not answer within 0.05 s"
    assert not found.well


async def test_without_a_path_an_open_port_is_well() -> None:
    async with answering(None) as port:
        assert (await look(port, "", 60)).well
    assert (await look(own_port(), "", 60)).trouble.startswith("nobody listens on port ")


async def test_a_server_on_the_other_loopback_address_is_found() -> None:
    try:
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n", "::1") as port:
            assert (await look(port, "/h", 60)).target == Target("::1", port)
    except OSError:
        pytest.skip("this machine has no ::1, so no server can be there")


@pytest.mark.skipif(not LINUX, reason="only Linux tells which process listens where")
def test_the_ports_a_process_listens_on_are_found() -> None:
    with socket.socket() as server, socket.socket() as idle:
        for one in (server, idle):
            one.bind(("127.0.0.1", 0))
        server.listen()
        found = listening([os.getpid()])
        assert server.getsockname()[1] in found
        assert idle.getsockname()[1] not in found
        assert listening([2**22 + 1]) == []
