"""The REST API over what keeps resources: reading, changing, uploading, and who may."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import validate

from spanyard_core.storage import open_storage
from tests.fakes.gateway_api import Api, running_gateway
from tests.fakes.resource_api import MemoryResources, manifests


@pytest.fixture
def kept() -> MemoryResources:
    return MemoryResources()


@pytest.fixture
async def api(kept: MemoryResources, tmp_path: Path) -> AsyncIterator[Api]:
    """Without ClickHouse: builds and deployments must not need it (B5)."""
    await kept.apply(manifests())
    storage = open_storage(f"file://{tmp_path}")
    async with running_gateway(None, storage, resources=kept, max_source_size=100_000) as api:
        yield api
    await storage.close()


async def send(
    api: Api, method: str, path: str, expect: int = 200, json: Any = None, **more: Any
) -> Any:
    async with api.session.request(method, path, json=json, **more) as response:
        assert response.status == expect, await response.text()
        return await response.json()


async def test_builds_that_are_declared_and_builds_that_left_something_are_one_list(
    api: Api, kept: MemoryResources
) -> None:
    for name in ("local.support", "local.support-0", "local.old"):
        await api.storage.write(f"builds/{name}/build.log", b"x\n")
    for limit in ("1", "2", "3", "100"):
        builds = await api.all_pages("/builds", limit=limit)
        assert [(b["id"], b["complete"], b["resource"] is not None) for b in builds] == [
            ("local.old", True, False),
            ("local.support-0", True, False),
            ("local.support-1", False, True),
            ("local.support", True, True),
        ]
    builds = await api.all_pages("/builds", project="local.support", limit="1")
    assert [b["id"] for b in builds] == ["local.support-1", "local.support"]
    assert await api.all_pages("/builds", project="local.other") == []


async def test_one_build_tells_its_status_and_events_without_clickhouse(
    api: Api, kept: MemoryResources
) -> None:
    kept.told = [event("Queued"), event("Failed")]
    build = await api.get("/builds/local.support-1")
    assert build["resource"]["spec"]["project"] == "support"
    assert [e["reason"] for e in build["events"]] == ["Queued", "Failed"]
    log = await api.get("/builds/local.support-1/logs")
    assert (log["text"], log["complete"]) == ("", False)  # queued: no line yet
    assert (await api.get("/builds/local.none", 404))["title"] == "No such build"
    assert (await api.get("/builds/local.none/logs", 404))["title"] == "No such build"


def event(reason: str) -> Any:
    from spanyard_core.resources.api import ResourceEvent

    return ResourceEvent(time="2026-11-21T12:00:00Z", type="Normal", reason=reason, message="so")


async def test_deployments_come_from_what_keeps_them(api: Api) -> None:
    [deployment] = await api.all_pages("/deployments", limit="1")
    assert (deployment["id"], deployment["projectId"]) == ("local.support", "local.support")
    assert deployment["resource"]["spec"]["follow"] is True
    assert await api.all_pages("/deployments", project="local.other") == []
    assert (await api.get("/deployments/local.support"))["resource"]["kind"] == "Deployment"
    assert (await api.get("/deployments/local.none", 404))["title"] == "No such deployment"


async def test_manifests_are_applied_all_or_none(api: Api, kept: MemoryResources) -> None:
    made = manifests()
    made[0]["spec"] = {"displayName": "Support"}
    answer = await send(api, "POST", "/apply?dryRun=true", json={"manifests": made})
    assert [a["outcome"] for a in answer["applied"]] == ["configured", *["unchanged"] * 3]
    assert (await api.get("/builds/local.support"))["resource"]["spec"]["project"] == "support"
    assert next(iter(kept.found.values())).spec.display_name == ""  # type: ignore[union-attr]
    answer = await send(api, "POST", "/apply", json={"manifests": made})
    assert answer["applied"][0] == {
        "kind": "Project", "id": "local.support", "outcome": "configured",
    }  # fmt: skip
    problem = await send(
        api, "POST", "/apply", 422, json={"manifests": [made[1], {"kind": "Build", "spec": 1}]}
    )
    assert problem["title"] == "Invalid resource"
    assert problem["errors"][0]["where"] == "Build"
    assert problem["detail"].startswith("Build: ")
    for wrong in ({}, {"manifests": []}, {"manifests": [1]}, []):
        await send(api, "POST", "/apply", 400, json=wrong)


async def test_a_put_must_be_what_its_address_says(api: Api, kept: MemoryResources) -> None:
    build = manifests()[1]
    build["metadata"] = {"name": "new"}
    answer = await send(api, "PUT", "/builds/local.new", json=build)
    assert answer == {"kind": "Build", "id": "local.new", "outcome": "created"}
    problem = await send(api, "PUT", "/projects/other.new2", 422, json=build | {"metadata": 7})
    assert [e["where"] for e in problem["errors"]] == ["kind", "metadata.name"]
    build["metadata"]["namespace"] = "elsewhere"
    problem = await send(api, "PUT", "/builds/local.new", 422, json=build)
    assert problem["errors"] == [
        {"where": "metadata.namespace", "what": "is 'elsewhere', and the address says 'local'"}
    ]


async def test_a_field_is_merged_into_a_spec(api: Api) -> None:
    patch = {"follow": None, "buildRef": {"name": "support-1"}}
    changed = await send(api, "PATCH", "/deployments/local.support", json=patch)
    assert changed["spec"]["buildRef"] == {"name": "support-1"}
    assert "follow" not in changed["spec"]
    await send(api, "PATCH", "/deployments/local.none", 404, json=patch)
    await send(api, "PATCH", "/deployments/local.support", 422, json={"replicas": "many"})


async def test_a_build_is_cancelled_while_it_is_not_finished(
    api: Api, kept: MemoryResources
) -> None:
    changed = await send(api, "POST", "/builds/local.support/cancel", json={})
    assert changed["spec"]["cancel"] is True
    kept.found["Build", "local.support-1"].status.phase = "Failed"  # type: ignore[union-attr]
    problem = await send(api, "POST", "/builds/local.support-1/cancel", 409, json={})
    assert "is failed already" in problem["detail"]
    await send(api, "POST", "/builds/local.none/cancel", 404, json={})


async def test_what_is_deleted_is_gone_when_it_is_cleaned_up(api: Api) -> None:
    assert await send(api, "DELETE", "/builds/local.support-1") == {
        "kind": "Build", "id": "local.support-1",
    }  # fmt: skip
    await send(api, "DELETE", "/builds/local.support-1", 404)
    await api.get("/builds/local.support-1", 404)


async def test_without_what_keeps_resources_nothing_can_be_changed(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    async with running_gateway(None, storage) as api:
        for method, path, body in (
            ("POST", "/apply", {"manifests": manifests()}),
            ("PUT", "/builds/local.support", {**manifests()[2]}),
            ("PATCH", "/builds/local.support", {}),
            ("DELETE", "/builds/local.support", None),
            ("POST", "/builds/local.support/cancel", {}),
        ):
            problem = await send(api, method, path, 501, json=body)
            assert "`spanyard up` runs one that does" in problem["detail"]
        assert await api.all_pages("/builds") == []
        assert "leave it out" in (await api.get("/builds", 400, project="local.a"))["detail"]
        await api.get("/deployments", 503)  # as before: from log lines
    await storage.close()


async def test_a_keeper_that_is_away_is_told(api: Api, kept: MemoryResources) -> None:
    kept.away = True
    for path in ("/builds", "/builds/local.support", "/deployments", "/deployments/local.support"):
        assert (await api.get(path, 503))["detail"] == "the keeper of resources does not answer"
    await send(api, "POST", "/apply", 503, json={"manifests": manifests()})


async def test_an_archive_is_stored_once_under_its_digest(api: Api) -> None:
    data = b"\x28\xb5\x2f\xfd" + bytes(50_000)
    digest = hashlib.sha256(data).hexdigest()
    await api.get(f"/sources/{digest}", 404)
    for _ in range(2):
        answer = await send(api, "PUT", f"/sources/sha256:{digest}", data=data)
        assert answer == {
            "digest": f"sha256:{digest}", "key": f"sources/{digest}.tar.zst", "size": len(data),
        }  # fmt: skip
    assert await api.storage.read(f"sources/{digest}.tar.zst") == data
    assert (await api.get(f"/sources/{digest}"))["size"] is None
    problem = await send(api, "PUT", f"/sources/{'0' * 64}", 400, data=data)
    assert f"the body's sha256 is {digest}" in problem["detail"]
    assert not await api.storage.exists(f"sources/{'0' * 64}.tar.zst")
    for wrong in ("abc", "..%2fx", "sha256:" + "g" * 64):
        await send(api, "PUT", f"/sources/{wrong}", 400, data=data)


@pytest.mark.parametrize("told", [True, False])
async def test_an_archive_over_the_limit_is_refused_and_leaves_nothing(
    api: Api, told: bool
) -> None:
    data = bytes(100_001)

    async def parts() -> AsyncIterator[bytes]:
        yield data

    digest = hashlib.sha256(data).hexdigest()
    body: Any = data if told else parts()
    problem = await send(api, "PUT", f"/sources/{digest}", 413, data=body)
    assert "100,000 bytes" in problem["detail"]
    assert ".spanyardignore" in problem["detail"]
    assert not await api.storage.exists(f"sources/{digest}.tar.zst")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "TEXT/PLAIN; charset=utf-8"}, 415),
        ({"Content-Type": "text/plain", "X-Spanyard-Request": "1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)
async def test_pages_of_other_sites_change_nothing(
    api: Api, kept: MemoryResources, headers: dict[str, str], status: int
) -> None:
    kept.found.clear()
    body = aiohttp.JsonPayload({"manifests": manifests()})
    async with api.session.post(
        "/apply", data=body, headers={"Content-Type": "application/json"} | headers
    ) as response:
        assert response.status == status, await response.text()
    assert bool(kept.found) is (status == 200)


async def test_a_link_from_another_page_opens_ours(api: Api) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with api.session.get("/builds", headers=headers) as response:
        assert response.status == 200
    headers["Sec-Fetch-Mode"] = "no-cors"
    async with api.session.get("/builds", headers=headers) as response:
        assert response.status == 403


async def test_the_document_has_every_operation(api: Api) -> None:
    document = await api.get("/openapi.json")
    validate(document)
    assert {"get", "put", "patch", "delete"} == set(document["paths"]["/builds/{id}"])
    assert "415" in document["paths"]["/apply"]["post"]["responses"]
    assert document["paths"]["/sources/{digest}"]["put"]["requestBody"]["content"].keys() == {
        "application/octet-stream"
    }
