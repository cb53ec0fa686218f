"""Two teams on a real API server, and a gateway that holds records, losses and builds of both.

Their tokens and roles are Kubernetes' own; the roles are those that docs/security.md prints.
"""

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from prometheus_client import CollectorRegistry

from spanyard_core.clickhouse import database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.kube.client import KubeClient
from spanyard_core.records import (
    AnyLine,
    GapLine,
    LogLine,
    MetricLine,
    ScoreLine,
    Signal,
    SpanLine,
    TraceLine,
)
from spanyard_core.serve import serving
from spanyard_core.storage import open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.settings import GatewaySettings
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.cluster.apiserver import ApiServer
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import RecordingIngester, chunk, load
from tests.fakes.gateway_records import at
from tests.fakes.resource_api import MemoryResources

ROOT = Path(__file__).resolve().parents[2]
RUN = uuid.uuid4().hex[:6]
ROLES = ("viewer", "editor")
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass
class Team:
    """One namespace: its ids, and a word that stands in everything of it."""

    letter: str
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return f"k5-{self.letter}-{RUN}"

    @property
    def secret(self) -> str:
        return f"secretof{self.letter}{RUN}"

    @property
    def project(self) -> str:
        return f"{self.namespace}.shop"

    @property
    def trace(self) -> str:
        return self.letter * 32

    @property
    def span(self) -> str:
        return self.letter * 16

    @property
    def quarantined(self) -> str:
        return f"q-{self.letter}"


A, B, NONE = Team("a"), Team("b"), Team("c")


def lines(team: Team) -> dict[Signal, list[AnyLine]]:
    own: dict[str, Any] = {
        "project": team.project, "deployment": "shop", "pod": f"pod-{team.secret}", "uid": "u",
    }  # fmt: skip
    word, uid = team.secret, f"uid-{team.letter}"
    return {
        "logs": [LogLine(**own, writer=f"{uid}/server/0@e", seq=i, timestamp=at(i), level="info",
                         message=f"{word} {i}", trace_id=team.trace) for i in (1, 2)],
        "spans": [SpanLine(**own, writer=f"{uid}/spans@e", seq=1, id=team.span, name=word,
                           trace_id=team.trace, start_time=at(1), end_time=at(2))],
        "traces": [TraceLine(**own, writer=f"{uid}/traces@e", seq=1, id=team.trace, name=word,
                             start_time=at(1), end_time=at(2), status="ok", output=word)],
        "metrics": [MetricLine(**own, writer=f"{uid}/metrics@e", seq=1, name=word, kind="counter",
                               value=1.0, timestamp=at(1))],
        "scores": [ScoreLine(**own, writer=f"{uid}/scores@e", seq=1, name=word, value=1.0,
                             timestamp=at(1), trace_id=team.trace)],
        "gaps": [GapLine(**own, writer=f"{uid}/server/0@e/meta", seq=1, event="gap", cause="full",
                         message=word, timestamp=at(1), subject=f"{uid}/server/0@e", after_seq=1)],
    }  # fmt: skip


async def store(db: Any, storage: Any, folder: Path, team: Team, first: int) -> None:
    """Records, losses, quarantine, waiting objects and a build's log of one team."""
    warehouse, now = ClickHouseWarehouse(db), datetime.now(UTC)
    for attempt, (signal, own) in enumerate(lines(team).items(), start=first):
        await load(db, folder, attempt, signal, own)
        await warehouse.ledger_copy([
            LedgerRow(shard=0, n=attempt, attempt=attempt, key=f"k-{team.secret}-{attempt}",
                      writer=own[0].writer, seq_from=1, seq_to=len(own), records=len(own),
                      source=f"40:{team.letter}", source_from=0, source_to=10, source_pending=(),
                      signal=signal, project=team.project, status="committed", time=now)
        ])  # fmt: skip
    await warehouse.quarantine_add([
        QuarantineRow(id=team.quarantined, project=team.project, signal="logs",
                      key=f"observability/{team.secret}", writer=f"uid-{team.letter}/server/0@e",
                      line=9, offset=1, reason="not JSON", bytes=team.secret.encode(), size=9,
                      created_at=now, updated_at=now)
    ])  # fmt: skip
    waiting = [LogLine(project=team.project, writer=f"uid-{team.letter}/late-{team.secret}/0@e",
                       seq=1, timestamp=at(9), level="info", message=team.secret)]  # fmt: skip
    key, data = chunk("logs", list(waiting))
    await storage.write(key, data)
    await storage.write(f"builds/{team.project}-1/build.log", f"{team.secret}\n".encode())
    await storage.write(f"builds/{team.namespace}.left/build.log", f"{team.secret}\n".encode())


def resources(*teams: Team) -> MemoryResources:
    kept = MemoryResources()
    for team in teams:
        for kind, name, spec in (
            ("Project", "shop", {"displayName": team.secret}),
            (
                "Build",
                "shop-1",
                {"project": "shop", "source": {"directory": {"path": team.secret}}},
            ),
            ("Deployment", "shop", {"project": "shop", "follow": True, "command": team.secret}),
        ):
            metadata = {"name": name, "namespace": team.namespace}
            one = kept._made({"kind": kind, "metadata": metadata, "spec": spec})
            kept.found[kind, f"{team.namespace}.{name}"] = one  # type: ignore[index]
    return kept


def roles() -> dict[str, list[Any]]:
    """The rules of the two ClusterRoles, from the page that tells of them."""
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    found = re.findall(
        r"^`spanyard-(viewer|editor)`.*?```yaml\n(.*?)```", text, re.DOTALL | re.MULTILINE
    )
    return {name: yaml.safe_load(block)["rules"] for name, block in found}


def make(api: ApiServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    made = api.request("POST", path, body)
    assert made.status == 201, made.message
    return made.body


def token_of(api: ApiServer, namespace: str, account: str, **spec: Any) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 3600} | spec}  # fmt: skip
    return str(make(api, path, body)["status"]["token"])


def declare(api: ApiServer) -> str:
    """Namespaces, accounts, roles and bindings; gives the token of who may everything."""
    for name, rules in roles().items():
        meta = {"name": f"k5-{name}-{RUN}"}
        make(api, f"{RBAC}/clusterroles", {"metadata": meta, "rules": rules})
    for team in (A, B, NONE):
        make(api, "/api/v1/namespaces", {"metadata": {"name": team.namespace}})
        accounts = f"/api/v1/namespaces/{team.namespace}/serviceaccounts"
        for name in (*ROLES, "nobody", "everywhere"):
            make(api, accounts, {"metadata": {"name": name}})
            team.tokens[name] = token_of(api, team.namespace, name)
        for name in ROLES:
            body = {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                            "name": f"k5-{name}-{RUN}"},
                "subjects": [{"kind": "ServiceAccount", "name": name,
                              "namespace": team.namespace}],
            }  # fmt: skip
            make(api, f"{RBAC}/namespaces/{team.namespace}/rolebindings", body)
    body = {
        "metadata": {"name": f"k5-{RUN}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": f"k5-viewer-{RUN}"},
        "subjects": [{"kind": "ServiceAccount", "name": "everywhere", "namespace": A.namespace}],
    }  # fmt: skip
    make(api, f"{RBAC}/clusterrolebindings", body)
    return A.tokens["everywhere"]


@dataclass
class World:
    session: aiohttp.ClientSession
    api: ApiServer
    resources: MemoryResources
    ingester: RecordingIngester
    storage: Any
    kube: KubeClient

    async def ask(
        self, token: str, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is None:
            headers["X-Spanyard-Request"] = "1"
        more = {"data": body} if isinstance(body, bytes) else {"json": body} if body else {}
        async with self.session.request(
            method, path, params=query, headers=headers, **more
        ) as answer:
            return answer.status, (await answer.read()).decode("utf-8", "replace")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("tenants")
    declare(api_server)
    kube = await KubeClient.from_kubeconfig(str(api_server.kubeconfig(folder / "kubeconfig")))
    storage = open_storage(f"file://{folder}/bucket")
    kept, ingester = resources(A, B), RecordingIngester()
    async with database(engine_url()) as db:
        await migrate(db)
        await store(db, storage, folder, A, 1)
        await store(db, storage, folder, B, 101)
        app = make_app(
            GatewaySettings(storage="file:///unused", clickhouse="chdb:///unused",
                            auth="kubernetes", auth_cache=60.0),
            database=db, storage=storage, ingester=ingester, clock=SystemClock(),
            registry=CollectorRegistry(), resources=kept, kube=kube,
        )  # fmt: skip
        async with (
            serving(app, "127.0.0.1", 0) as address,
            aiohttp.ClientSession(address.url) as session,
        ):
            yield World(session, api_server, kept, ingester, storage, kube)
    await storage.close()
    await kube.close()
