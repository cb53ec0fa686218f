"""Two teams and a real API server: by no operation of the API does one see anything of the other's.

Tokens, roles and reviews are Kubernetes' own; the roles are those that docs/security.md prints. The
engine and the bucket hold records of both. What the document lists is asked, all of it.
"""

import asyncio
import json
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
from spanyard_core.resources.kinds import API_VERSION, GROUP
from spanyard_core.serve import serving
from spanyard_core.storage import open_storage
from spanyard_core.tickets import ensure_keys
from spanyard_gateway.app import make_app
from spanyard_gateway.openapi import openapi_document
from spanyard_gateway.routes import all_endpoints
from spanyard_gateway.settings import GatewaySettings
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.cluster.apiserver import ApiServer
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import RecordingIngester, chunk, load
from tests.fakes.gateway_records import at
from tests.fakes.resource_api import MemoryResources

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = openapi_document(all_endpoints())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
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


def address_of(path: str, team: Team) -> str:
    names = {
        "/traces/{id}": team.trace, "/spans/{id}": team.span,
        "/traces/{id}/outline": team.trace, "/traces/{id}/spans": team.trace,
        "/quarantine/{id}": team.quarantined, "/quarantine/{id}/replay": team.quarantined,
        "/quarantine/{id}/delete": team.quarantined,
    }  # fmt: skip
    identifier = names.get(path, team.project + "-1" if "/builds/" in path else team.project)
    return path.replace("{id}", identifier).replace("{digest}", "0" * 64)


def bodies_of(path: str, method: str, team: Team) -> Any:
    if path == "/apply":
        return {"manifests": [project_of(team)]}
    if path == "/login":
        return {"token": "wrong"}
    if path == "/sql":
        return {"query": "SELECT * FROM logs"}
    if path.endswith("/prune"):
        return {"olderThan": "1d"}
    if path.endswith("/replay"):
        return {"text": "{}"}
    if method == "PUT" and path.startswith("/sources"):
        return b"an archive"
    if method == "PUT":
        kind = {"projects": "Project", "builds": "Build", "deployments": "Deployment"}
        return project_of(team) | {"kind": kind[path.split("/")[1]]}
    return {"displayName": "changed"} if method == "PATCH" else None


def project_of(team: Team) -> dict[str, Any]:
    metadata = {"name": "shop", "namespace": team.namespace}
    return {"apiVersion": API_VERSION, "kind": "Project", "metadata": metadata, "spec": {}}


WHEN = {"from": at(0), "to": at(60)}
NEEDED: dict[str, dict[str, str]] = {
    "/projects/{id}/export": {"signal": "logs"},
    "/projects/{id}/logs/histogram": WHEN,
    "/projects/{id}/metrics/names": WHEN,
    "/projects/{id}/metrics/series": WHEN | {"name": "{own.secret}"},
    "/projects/{id}/scores/series": WHEN,
    "/projects/{id}/traces/series": WHEN,
    "/traces/{id}/spans": {"ids": "{own.span}"},
}
COUNTS = {
    "/projects/{id}/logs/histogram": lambda told: sum(one["total"] for one in told["buckets"]) == 2,
    "/projects/{id}/metrics/series": lambda told: len(told["series"]) == 1,
    "/projects/{id}/traces/series": lambda told: told["series"][0]["total"]["traces"] == 1,
}
"""Answers of numbers alone: whether they are those of one team. The other has as much."""


async def test_every_operation_shows_a_team_its_own_and_nothing_else(world: World) -> None:
    read = 0
    for method, path, _ in OPERATIONS:
        for own, other in ((A, B), (B, A)):
            query = {k: v.format(own=own) for k, v in NEEDED.get(path, {}).items()}
            if method == "GET":
                status, text = await world.ask(
                    own.tokens["viewer"], method, address_of(path, own), **query
                )
                assert status in {200, 400, 404}, (path, text)
                assert other.secret not in text, path
                assert other.namespace not in text, path
                if status == 200 and path not in {"/whoami", "/openapi.json"}:
                    read += 1
                    if path in COUNTS:
                        assert COUNTS[path](json.loads(text)), (path, text)
                    elif not path.endswith("/follow"):
                        assert own.secret in text or own.namespace in text, (path, text)
            status, text = await world.ask(
                own.tokens["editor"], method, address_of(path, other),
                bodies_of(path, method, other), **query,
            )  # fmt: skip
            assert other.secret not in text, (method, path)
            if "{id}" in path or path in {"/sql", "/apply"}:
                assert status in {403, 404}, (method, path, status, text)
    assert read >= 2 * 20
    # Nothing was done to anybody.
    assert world.ingester.actions == []
    assert set(world.resources.found) == set(resources(A, B).found)
    assert all(
        one.spec == resources(A, B).found[key].spec for key, one in world.resources.found.items()
    )


async def test_who_has_no_right_or_no_name_sees_nothing_by_any_operation(world: World) -> None:
    for token in (A.tokens["nobody"], NONE.tokens["editor"], "", "wrong"):
        for method, path, _ in OPERATIONS:
            for team in (A, B):
                status, text = await world.ask(
                    token, method, address_of(path, team), bodies_of(path, method, team),
                    **NEEDED.get(path, {}),
                )  # fmt: skip
                assert A.secret not in text, (method, path)
                assert B.secret not in text, (method, path)
                if token in {"", "wrong"} and path not in {"/login", "/logout"}:
                    assert status == 401, (method, path, status)
    assert world.ingester.actions == []


async def test_what_names_no_namespace_looks_the_same_whether_foreign_or_unknown(
    world: World,
) -> None:
    for path, foreign, unknown in (
        ("/traces/{}", B.trace, "d" * 32), ("/spans/{}", B.span, "d" * 16),
        ("/traces/{}/outline", B.trace, "d" * 32),
        ("/traces/{}/spans?ids=1", B.trace, "d" * 32),
        ("/quarantine/{}", B.quarantined, "q-d"),
    ):  # fmt: skip
        told = []
        for identifier in (foreign, unknown):
            status, text = await world.ask(A.tokens["editor"], "GET", path.format(identifier))
            told.append((status, text.replace(identifier, "…")))
        assert told[0] == told[1]
        assert told[0][0] == 404
    for action in ("replay", "delete"):
        told = [
            await world.ask(A.tokens["editor"], "POST", f"/quarantine/{one}/{action}")
            for one in (B.quarantined, "q-d")
        ]
        assert [status for status, _ in told] == [404, 404]
        assert told[0][1].replace(B.quarantined, "q-d") == told[1][1]
    for path in ("/projects/{}/logs", "/builds/{}/logs", "/deployments/{}", "/projects/{}"):
        told = []
        for name in ("shop", "unheard-of"):
            identifier = f"{B.namespace}.{name}"
            status, text = await world.ask(A.tokens["editor"], "GET", path.format(identifier))
            told.append((status, text.replace(name, "…")))
        assert told[0] == told[1]
        assert told[0][0] == 403


async def test_lists_across_projects_hold_all_that_is_permitted(world: World) -> None:
    everywhere = A.tokens["everywhere"]
    for path, ids in (
        ("/projects", [t.project for t in (A, B)]),
        ("/deployments", [t.project for t in (A, B)]),
        ("/builds", [f"{t.namespace}.{n}" for t in (A, B) for n in ("left", "shop-1")]),
        ("/quarantine", ["q-a", "q-b"]),
    ):
        for token, letters in ((everywhere, "ab"), (A.tokens["viewer"], "a"), (B.tokens["viewer"], "b"),
                               (NONE.tokens["viewer"], "")):  # fmt: skip
            found: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                status, text = await world.ask(token, "GET", path, limit="1", **cursor)
                assert status == 200, text
                page = json.loads(text)
                found += [item["id"] for item in page["items"]]
                if page["nextCursor"] is None:
                    break
                cursor = {"cursor": page["nextCursor"]}
            assert found == [
                one for one in ids if any(f"-{x}-{RUN}" in one or one == f"q-{x}" for x in letters)
            ], (path, letters)
    status, text = await world.ask(everywhere, "GET", "/proof")
    assert {w["projectId"] for w in json.loads(text)["writers"]} == {A.project, B.project}
    status, text = await world.ask(A.tokens["viewer"], "GET", "/proof")
    proof = json.loads(text)
    assert {w["projectId"] for w in proof["writers"]} == {A.project}
    assert proof["totals"]["pending"] == 1
    assert proof == json.loads(
        (await world.ask(A.tokens["viewer"], "GET", f"/projects/{A.project}/proof"))[1]
    )
    status, text = await world.ask(
        everywhere, "POST", "/sql", {"query": "SELECT DISTINCT project FROM logs"}
    )
    assert status == 200
    assert A.project in text
    assert B.project in text


async def test_a_viewer_looks_and_an_editor_changes(world: World) -> None:
    viewer, editor = A.tokens["viewer"], A.tokens["editor"]
    for method, path, body, query in (
        ("POST", "/apply", {"manifests": [project_of(A)]}, {"dryRun": "true"}),
        ("POST", f"/projects/{A.project}/prune", {"olderThan": "1d", "dryRun": True}, {}),
        ("POST", f"/quarantine/{A.quarantined}/replay", {"text": "{}"}, {}),
        ("POST", f"/quarantine/{A.quarantined}/delete", None, {}),
        ("PATCH", f"/projects/{A.project}", {"description": "x"}, {}),
        ("GET", f"/sources/{'0' * 64}", None, {"namespace": A.namespace}),
        ("POST", f"/builds/{A.project}-1/cancel", None, {}),
    ):
        status, text = await world.ask(viewer, method, path, body, **query)
        assert status == 403, (path, text)
        assert f"in the namespace '{A.namespace}'" in json.loads(text)["detail"]
        status, text = await world.ask(editor, method, path, body, **query)
        assert status in {200, 404}, (path, text)
    assert {action for action, _, _ in world.ingester.actions} == {"prune", "replay", "delete"}
    world.ingester.actions.clear()
    status, text = await world.ask(
        editor, "POST", "/apply", {"manifests": [project_of(A), project_of(B)]}
    )
    assert status == 403
    assert B.namespace in json.loads(text)["detail"]


async def test_nobody_listens_to_the_others_live_records(world: World) -> None:
    for token in ("", "wrong"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.session.ws_connect(
                "/ws", headers={"Authorization": f"Bearer {token}"} if token else {}
            )
        assert refused.value.status == 401
    async with world.session.ws_connect(
        "/ws", headers={"Authorization": f"Bearer {A.tokens['viewer']}"}
    ) as ws:
        assert (await ws.receive_json())["type"] == "hello"
        for kind in ("project", "server", "deployment", "build", "trace"):
            for team in (B, A):
                name = f"{kind}-{team.letter}"
                ids = {"build": f"{team.project}-1", "trace": f"{team.project}/{team.trace}"}
                channel = f"{kind}:{ids.get(kind, team.project)}"
                await ws.send_json({"type": "subscribe", "id": name, "channel": channel})
                text = ""
                async with asyncio.timeout(20):
                    while f'"{name}"' not in text:
                        text = await ws.receive_str()
                        assert B.secret not in text
                told = json.loads(text)
                if team is B:
                    assert (told["type"], told["code"]) == ("error", "forbidden")
                else:
                    assert told["type"] != "error", told


async def test_pods_are_known_by_the_token_that_is_bound_to_them(world: World) -> None:
    api, namespace = world.api, A.namespace
    pod = make(api, f"/api/v1/namespaces/{namespace}/pods", {
        "metadata": {"name": "shop-server-1", "labels": {"spanyard.dev/project": "shop"}},
        "spec": {"serviceAccountName": "nobody", "containers": [{"name": "c", "image": "x"}]},
    })  # fmt: skip
    uid = pod["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "shop-server-1", "uid": uid}
    audiences = ["spanyard-gateway"]
    tokens = {
        "right": token_of(api, namespace, "nobody", audiences=audiences, boundObjectRef=bound),
        "for nobody's pod": token_of(api, namespace, "nobody", audiences=audiences),
        "for the API server": token_of(api, namespace, "nobody", boundObjectRef=bound),
        "for somebody else": token_of(
            api, namespace, "nobody", audiences=["vault"], boundObjectRef=bound
        ),
    }
    own, theirs = (
        chunk("logs", [LogLine(project=t.project, writer=f"{uid}/server/0@e", seq=1,
                               timestamp=at(1), level="info", message="x")])[0] for t in (A, B)
    )  # fmt: skip
    for about, token in tokens.items():
        status, text = await world.ask(token, "POST", "/internal/hints", {"keys": [own]})
        assert status == (200 if about == "right" else 401), (about, text)
        if about != "for the API server":
            # And for people's operations it is nobody's.
            status, text = await world.ask(token, "GET", "/whoami")
            assert status == 401, about
    status, text = await world.ask(tokens["right"], "POST", "/internal/hints", {"keys": [theirs]})
    assert status == 403
    wish = {"op": "put", "key": own, "size": 1, "sha256": "0" * 64, "writer": f"{uid}/server/0@e"}
    status, text = await world.ask(tokens["right"], "POST", "/internal/objects/sign", wish)
    assert (status, json.loads(text)["method"]) == (200, "PUT")
    status, text = await world.ask(
        tokens["right"], "POST", "/internal/objects/sign", wish | {"key": theirs}
    )
    assert status == 403


async def test_a_right_that_is_narrowed_to_one_object_gives_nothing(world: World) -> None:
    namespace = NONE.namespace
    make(world.api, f"{RBAC}/namespaces/{namespace}/roles", {
        "metadata": {"name": "one"},
        "rules": [{"apiGroups": [GROUP], "resources": ["projects/telemetry"], "verbs": ["get"],
                   "resourceNames": ["shop"]}],
    })  # fmt: skip
    make(world.api, f"{RBAC}/namespaces/{namespace}/rolebindings", {
        "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"kind": "ServiceAccount", "name": "everywhere", "namespace": namespace}],
    })  # fmt: skip
    status, _ = await world.ask(
        NONE.tokens["everywhere"], "GET", f"/projects/{namespace}.shop/logs"
    )
    assert status == 403


async def test_two_operators_make_one_pair_of_keys_in_a_real_secret(world: World) -> None:
    first = await ensure_keys(world.kube, A.namespace)
    second = await ensure_keys(world.kube, A.namespace)
    assert first.public_key == second.public_key
    # What is immutable stays what collectors were told.
    patched = world.api.request(
        "PATCH", f"/api/v1/namespaces/{A.namespace}/secrets/spanyard-keys",
        {"data": {"ed25519.pub": "eA=="}}, kind="application/merge-patch+json",
    )  # fmt: skip
    assert patched.status == 422
