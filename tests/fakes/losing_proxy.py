"""A TCP proxy that loses answers, or holds them back: the server does what it was asked, the client is
not told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class LosingProxy:
    """Forwards to a port on loopback, or on `host`."""

    target: int
    host: str = "127.0.0.1"
    port: int = 0
    held: int = 0
    """Bytes of answers that wait to be passed on, while something holds them back."""
    _left: int = 0
    _room: int | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lose(self, answers: int) -> None:
        """Close the connection instead of passing on the next `answers` answers."""
        self._left = answers

    def hold_after(self, size: int) -> None:
        """Pass on so many bytes more; then take little, as a client does who takes nothing."""
        self._room = size

    def go_on(self) -> None:
        """Pass on all again."""
        self._room = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions of one connection; when either ends, so does the other."""
        try:
            there, back = await self._connected()
        except BaseException as error:
            writer.transport.abort()  # who asked hears that nobody listens, as without us
            if isinstance(error, OSError):
                return
            raise
        pumps = [
            asyncio.create_task(_pump(reader, back), name="proxy: request"),
            asyncio.create_task(self._answers(there, writer), name="proxy: answer"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for stream in (writer, back):
                stream.close()
                with contextlib.suppress(ConnectionError):
                    await stream.wait_closed()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        line = socket.socket()
        try:
            # As little as may be: what lies in here was told already, to who sent it.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, (self.host, self.target))
            return await asyncio.open_connection(sock=line)
        except BaseException:
            line.close()
            raise

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self._left > 0:
                self._left -= 1
                return
            self.held = len(data)
            while self._room is not None and self._room < len(data):
                await asyncio.sleep(0.02)
            self.held = 0
            if self._room is not None:
                self._room -= len(data)
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def losing_proxy(target: int, host: str = "127.0.0.1") -> AsyncIterator[LosingProxy]:
    """Serve on a free loopback port in front of `target` until the block ends."""
    proxy = LosingProxy(target, host)
    open_ones: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer), name="proxy: connection")
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await server.wait_closed()
