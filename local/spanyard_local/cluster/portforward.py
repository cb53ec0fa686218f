"""A port of this machine that leads to one of a pod, through the API server.

Kubernetes' protocol `v4.channel.k8s.io`: a WebSocket per connection, in each message the first byte
says the channel (0 data, 1 errors), and the first message of each channel repeats the port.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from spanyard_core.errors import SpanyardError
from spanyard_core.kube.access import Access

log = logging.getLogger("spanyard.portforward")

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_BYTES = 2
_BLOCK = 1 << 15
_CONNECT_S = 15.0
HOST = "127.0.0.1"


class ForwardError(SpanyardError):
    """The API server does not open a way to the pod; says why and what to do."""


@dataclass(frozen=True, slots=True)
class PodPort:
    """Where connections shall lead."""

    namespace: str
    pod: str
    port: int

    @property
    def path(self) -> str:
        """The API server's."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}/portforward?ports={self.port}"


Find = Callable[[bool], Awaitable[PodPort]]
"""The pod for the next connection; True: the last one could not be reached, look again."""


class PortForward:
    """See the module. `problem` is why the last connection failed, empty when it did not."""

    def __init__(self, access: Access, find: Find) -> None:
        self._access = access
        self._find = find
        self._session: aiohttp.ClientSession | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.problem = ""

    async def open(self, port: int = 0) -> int:
        """Listen on loopback; gives the port. Raises ForwardError when it is taken."""
        connector = aiohttp.TCPConnector(ssl=self._access.trust or True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        try:
            self._server = await asyncio.start_server(self._accepted, HOST, port)
        except OSError as error:
            await self._session.close()
            told = f"port {port} cannot be listened on: {error.strerror}; choose another"
            raise ForwardError(told) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer), name="a forwarded connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            socket = await self._connected()
            async with socket:
                self.problem = ""
                sending = asyncio.create_task(_send(reader, socket), name="to the pod")
                try:
                    await self._receive(socket, writer)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except SpanyardError as error:
            self.problem = str(error)
            log.debug("%s", error)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            self.problem = f"the connection through the API server broke: {error}"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):  # the client was quicker
                await writer.wait_closed()

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        """A way to the pod; to another one when it has gone."""
        try:
            return await self._connect(await self._find(False))
        except ForwardError:
            return await self._connect(await self._find(True))

    async def _connect(self, where: PodPort) -> aiohttp.ClientWebSocketResponse:
        assert self._session is not None
        for renew in (False, True):
            token = await self._access.token(renew)
            headers = {**self._access.headers}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await self._session.ws_connect(
                        self._access.server + where.path,
                        protocols=(PROTOCOL,),
                        headers=headers,
                        proxy=self._access.proxy or None,
                        max_msg_size=0,
                    )
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401 and not renew:
                    continue
                raise ForwardError(_refusal(where, error.status)) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ForwardError(
                    f"the API server {self._access.server} does not answer: {error or 'timeout'}"
                ) from error
        raise AssertionError  # the second round returns or raises

    async def _receive(
        self, socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter
    ) -> None:
        begun: set[int] = set()
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel not in begun:
                begun.add(channel)
                data = data[_PORT_BYTES:]
            if not data:
                continue
            if channel == _ERROR:
                raise ForwardError(f"the pod: {data.decode(errors='replace').strip()}")
            writer.write(data)
            await writer.drain()


async def _send(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    # The protocol has no half-closed connections: the end of what is sent is not told.
    while data := await reader.read(_BLOCK):
        await socket.send_bytes(bytes([_DATA]) + data)


def _refusal(where: PodPort, status: int) -> str:
    if status in {401, 403}:
        return (
            f"you may not forward ports of pods in the namespace {where.namespace} ({status}): that "
            "needs `create` and `get` on pods/portforward. Ask for them, or name the gateway's own "
            "address with --server"
        )
    if status == 404:
        return f"the pod {where.pod} of the gateway has gone"
    return f"the API server opens no way to the pod {where.pod} ({status})"
