"""A pod of a team at the gateway: what it asks to have signed, and what it sends with that."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

from spanyard_core.clock import SystemClock
from spanyard_core.object_names import writer_hash
from spanyard_core.serve import serving
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.settings import GatewaySettings
from tests.fakes.gateway_api import RecordingIngester
from tests.fakes.reviews import FakeReviews

WRITER, OTHERS = "uid-1/server/0@e1", "uid-2/server/0@e1"
SERVER, BUILDER, FOREIGN = "token-1", "token-b", "token-2"
SOURCE = "sha256:" + "5" * 64
OLD = "sha256:" + "6" * 64


def chunk_key(writer: str = WRITER, project: str = "a.x", first: int = 1, **changes: str) -> str:
    made = {"root": "observability", "signal": "logs", "time": "20261121T144500Z"} | changes
    tail = f"{made['time']}_{writer_hash(writer)}-{first}-{first + 9}.jsonl.zst"
    return f"{made['root']}/{made['signal']}/{project}/{tail}"


def part_key(build: str = "a.b", writer: str = "uid-b/build/0@e1") -> str:
    return f"builds/{build}/log/build-{writer_hash(writer)}-1-9.jsonl.zst"


def put(key: str, data: bytes = b"data", writer: str = "", **changes: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        "op": "put",
        "key": key,
        "size": len(data),
        "sha256": sha256,
        "writer": writer,
    } | changes


def resource(kind: str, namespace: str, name: str, spec: dict[str, Any], **status: Any) -> Any:
    return {
        "apiVersion": "spanyard.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid of {namespace}.{name}"},
    }  # fmt: skip


def tenants() -> FakeReviews:
    """Two teams, a and b: a pod of a's server, one of its build, and a server of b."""
    kube = FakeReviews()
    server = {"spanyard.dev/project": "x", "spanyard.dev/deployment": "d"}
    build = {"spanyard.dev/project": "x", "spanyard.dev/build": "b"}
    kube.pod(SERVER, "a", "d-server-1", "uid-1", server)
    kube.pod(BUILDER, "a", "b-build-2", "uid-b", build, build="uid of a.b")
    kube.pod(FOREIGN, "b", "d-server-1", "uid-2", server)
    archive = {"project": "x", "source": {"archive": {"digest": SOURCE}}}
    for namespace in ("a", "b"):
        kube.objects["builds", namespace, "b"] = resource(
            "Build", namespace, "b", archive, phase="Building", attempt=2
        )
        kube.objects["builds", namespace, "old"] = resource(
            "Build", namespace, "old", {**archive, "source": {"archive": {"digest": OLD}}},
            phase="Succeeded", attempt=1,
        )  # fmt: skip
        kube.objects["builds", namespace, "other"] = resource(
            "Build", namespace, "other", {**archive, "project": "y"}, phase="Succeeded"
        )
        kube.objects["deployments", namespace, "d"] = resource(
            "Deployment", namespace, "d",
            {"project": "x", "buildRef": {"name": "old"}, "command": "run"},
        )  # fmt: skip
    return kube


@dataclass
class Pod:
    """A pod that asks the gateway, with its token, and sends what it got."""

    session: aiohttp.ClientSession
    storage: Storage
    kube: FakeReviews
    token: str = SERVER
    said: list[str] = field(default_factory=list)

    def named(self, token: str) -> "Pod":
        return Pod(self.session, self.storage, self.kube, token)

    async def sign(self, wish: Any, expect: int = 200) -> Any:
        async with self.session.post(
            "/internal/objects/sign", json=wish, headers={"Authorization": f"Bearer {self.token}"}
        ) as answer:
            assert answer.status == expect, (wish, await answer.text())
            return await answer.json()

    async def send(
        self, signed: Any, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        told = dict(signed["headers"] if headers is None else headers)
        told.pop("Content-Length", None)
        if data is not None:
            told["Content-Length"] = str(len(data))
        url = signed["url"]
        async with self.session.request(
            signed["method"], URL(url, encoded=True), data=data, headers=told,
            skip_auto_headers=("Content-Type",),
        ) as answer:  # fmt: skip
            return answer.status, await answer.read()


@asynccontextmanager
async def gateway(url: str, **options: Any) -> AsyncIterator[Pod]:
    storage, kube = open_storage(url, **options), tenants()
    settings = GatewaySettings(storage=url, clickhouse="chdb:///c", auth="kubernetes")
    app = make_app(settings, database=None, storage=storage, ingester=RecordingIngester(),
                   clock=SystemClock(), registry=CollectorRegistry(), kube=kube)  # fmt: skip
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession(address.url) as session,
    ):
        yield Pod(session, storage, kube)
    await storage.close()
