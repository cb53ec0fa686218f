"""An API server as far as a command line needs it to reach a gateway: Services, pods, portforward.

Speaks `v4.channel.k8s.io` as a kubelet does: a WebSocket per connection, data on channel 0, errors
on channel 1, the port as the first message of each. Pods lead to ports of this machine.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from spanyard_core.serve import serving

TOKEN = "of-the-user"


class ForwardingApi:
    """A cluster with a gateway; what it answers can be changed."""

    def __init__(self) -> None:
        self.url = ""
        self.pods: dict[str, int | str] = {}
        """Name → port of this machine, or the error that the kubelet tells."""
        self.ready: set[str] = set()
        self.services = [service("spanyard", "spanyard-gateway", {"app": "gateway"})]
        self.forbidden: set[str] = set()
        """Beginnings of paths that are answered 403."""
        self.env: list[dict[str, str]] = []
        self.connections = 0
        self.tokens = {TOKEN}
        self.asked: list[str] = []

    def kubeconfig(self, file: Path, *, token: str = TOKEN, namespace: str = "team") -> Path:
        user = {"token": token} if token else {}
        made = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [
                {"name": "test",
                 "context": {"cluster": "test", "user": "test", "namespace": namespace}}
            ],
        }  # fmt: skip
        file.write_text(json.dumps(made), "utf-8")
        return file

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        who = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if who not in self.tokens | {""}:
            return web.json_response({"message": "Unauthorized"}, status=401)
        if any(request.path.startswith(one) for one in self.forbidden):
            told = {"message": f"you cannot {request.method} {request.path}"}
            return web.json_response(told, status=403)
        parts = request.path.strip("/").split("/")
        if parts[-1] == "portforward":
            return await self._forward(request, parts[-2])
        if parts[-1] == "token":
            return web.json_response({"status": {"token": "of-the-account"}}, status=201)
        if parts[-1] == "services":
            found = [
                s
                for s in self.services
                if len(parts) == 3 or s["metadata"]["namespace"] == parts[3]
            ]
            return web.json_response({"items": found})
        if parts[-2] == "services":
            [*found] = [s for s in self.services if s["metadata"]["name"] == parts[-1]]
            return web.json_response(found[0]) if found else web.json_response({}, status=404)
        if parts[-1] == "pods":
            return web.json_response({"items": [self._pod(name) for name in self.pods]})
        return web.json_response({"message": "no such thing"}, status=404)

    def _pod(self, name: str) -> dict[str, Any]:
        ready = "True" if name in self.ready else "False"
        port = {"name": "http", "containerPort": 8080}
        return {
            "metadata": {"name": name, "creationTimestamp": "2026-11-21T12:00:00Z"},
            "spec": {"containers": [{"name": "gateway", "ports": [port], "env": self.env}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }

    async def _forward(self, request: web.Request, pod: str) -> web.StreamResponse:
        port = self.pods.get(pod)
        if port is None:
            return web.json_response({"message": f"pods {pod} not found"}, status=404)
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        self.connections += 1
        first = int(request.query["ports"]).to_bytes(2, "little")
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + first)
        if isinstance(port, str):
            await socket.send_bytes(b"\x01" + port.encode())
            await socket.close()
            return socket
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def down() -> None:
            while data := await reader.read(1000):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        sending = asyncio.create_task(down())
        try:
            with contextlib.suppress(ConnectionError):
                async for message in socket:
                    if message.type is WSMsgType.BINARY and message.data[0] == 0:
                        writer.write(message.data[1:])
                        await writer.drain()
        finally:  # also of one that is open when the API ends
            writer.close()
            sending.cancel()
            await asyncio.gather(sending, writer.wait_closed(), return_exceptions=True)
        return socket


def service(namespace: str, name: str, selector: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": "http"}]},
    }


@asynccontextmanager
async def running_api() -> AsyncIterator[ForwardingApi]:
    api = ForwardingApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        api.url = address.url
        yield api
