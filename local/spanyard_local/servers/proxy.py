"""One stable port of a deployment: connections go round robin to the replicas that are ready.

URLs survive rollouts and restarts, and nothing drops at a switch: a new connection goes to the new
replicas, one that is open goes over at its next request (see `relay`). Bytes are passed on as they
are; only when no replica is ready does it speak HTTP itself, to say so.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from spanyard_core.errors import SpanyardError
from spanyard_local.servers.ports import Target
from spanyard_local.servers.relay import BLOCK, Line, Relay
from spanyard_local.servers.slots import SHARED, Slots

HOST = "127.0.0.1"
HOLD_S = 2.0
"""How long a request waits for a replica that is just being started again."""
CONNECT_S = 5.0


class Proxy:
    """See the module."""

    def __init__(self, name: str, slots: Slots = SHARED) -> None:
        self._name = name
        self._slots = slots
        self._server: asyncio.Server | None = None
        self._targets: list[Target] = []
        self._turn = 0
        self._why_not = "it has not started yet"
        self._routed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Relay] = set()
        self.port = 0

    async def open(self, *wanted: int) -> int:
        """Listen on the first of these ports that is free, else on any; returns it.

        Raises SpanyardError when no port is to be had at all.
        """
        for port in wanted:
            if await self._listen(port) is None:
                return self.port
        error = await self._listen(0)
        if error is not None:
            raise SpanyardError(f"no port of {HOST} is to be had: {error}")
        return self.port

    async def move(self, port: int) -> bool:
        """Listen on this port instead, if it is free; open connections go on."""
        old = self._server
        if await self._listen(port) is not None:
            return False
        if old is not None:
            old.close()
        return True

    async def _listen(self, port: int) -> Exception | None:
        try:
            self._server = await asyncio.start_server(self._accept, HOST, port, limit=BLOCK)
        except (OSError, OverflowError) as error:
            return error
        self.port = self._server.sockets[0].getsockname()[1]
        return None

    def route(self, targets: Sequence[Target], why_not: str = "") -> None:
        """From now on new connections go to these; when there are none, `why_not` is told."""
        self._targets = list(targets)
        self._why_not = why_not or self._why_not
        if self._targets:
            self._routed.set()
        else:
            self._routed.clear()

    async def release(self, target: Target, limit: float) -> None:
        """Return when no request to this replica is open, or after `limit` seconds.

        It must not be among those of `route` any more. Idle connections are closed.
        """
        deadline = time.monotonic() + limit
        while open_here := [c for c in self._connections if c.target == target]:
            for connection in open_here:
                if connection.idle:
                    connection.abort()
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Listen no more and break off what is open."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    # --- one connection ---------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name=f"{self._name} connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._slots.take():
            # Not even told: telling takes time and a descriptor, which is what there is none of.
            writer.transport.abort()
            return
        try:
            found = await self._connect()
            if found is None:
                why = f"no replica of {self._name} is ready: {self._why_not}"
                await _refuse(reader, writer, why)
                return
            relay = Relay(found, reader, writer, instead=self._instead)
            self._connections.add(relay)
            try:
                await relay.run()
            finally:
                self._connections.discard(relay)
        except OSError:
            pass  # the client went away; nobody is left to be told
        finally:
            writer.transport.abort()
            self._slots.give()

    async def _instead(self, target: Target) -> Line | None:
        return None if target in self._targets else await self._connect()

    async def _connect(self) -> Line | None:
        """A connection to the next replica that takes one."""
        deadline = time.monotonic() + HOLD_S
        while True:
            for _ in range(len(self._targets)):
                self._turn += 1
                target = self._targets[self._turn % len(self._targets)]
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_S):
                        reader, writer = await asyncio.open_connection(
                            target.host, target.port, limit=BLOCK
                        )
                    return Line(target, reader, writer)
                if not self._targets:  # another route meanwhile
                    break
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if self._targets:
                await asyncio.sleep(min(0.05, left))  # it just died; soon that is known
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._routed.wait()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, why: str) -> None:
    # What the client sent is read first: unread bytes would turn the answer into a reset.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await reader.read(BLOCK)
    body = f"{why}\n".encode()
    writer.write(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    writer.write_eof()
    await writer.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await reader.read(1)
