"""A TCP proxy that loses answers: the server does what it was asked, the client is not told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class LosingProxy:
    """Forwards to a port on loopback."""

    target: int
    port: int = 0
    _left: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lose(self, answers: int) -> None:
        """Close the connection instead of passing on the next `answers` answers."""
        self._left = answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions of one connection; when either ends, so does the other."""
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
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

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self._left > 0:
                self._left -= 1
                return
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def losing_proxy(target: int) -> AsyncIterator[LosingProxy]:
    """Serve on a free loopback port in front of `target` until the block ends."""
    proxy = LosingProxy(target)
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
