"""Two teams and a real API server: by no operation of the API does one see anything of the other's.

Tokens, roles and reviews are Kubernetes' own; the roles are those that docs/security.md prints. The
engine and the bucket hold records of both. What the document lists is asked, all of it.
"""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from spanyard_core.records import LogLine
from spanyard_core.resources.kinds import API_VERSION, GROUP
from spanyard_core.tickets import ensure_keys
from spanyard_gateway.openapi import openapi_document
from spanyard_gateway.routes import all_endpoints
from tests.cluster.tenants import (
    NONE,
    RBAC,
    RUN,
    A,
    B,
    Team,
    World,
    make,
    resources,
    token_of,
    world,
)
from tests.fakes.gateway_api import chunk
from tests.fakes.gateway_records import at

__all__ = ["world"]
pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
DOCUMENT = openapi_document(all_endpoints())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


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
    "/projects/{id}/logs/facets": WHEN,
    "/projects/{id}/logs/histogram": WHEN,
    "/projects/{id}/traces/facets": WHEN,
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
                async with asyncio.timeout(60):
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
