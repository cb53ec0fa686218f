"""The examples' manifests are valid, and what they deploy serves."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from spanyard_core.resources.kinds import Build, BuildStatus, Deployment, Project
from spanyard_core.resources.schema import decode, validate
from spanyard_core.serve import serving
from spanyard_local.manifests import read_folder
from spanyard_sidecar.sources.packing import pack
from tests.fakes.deployed import Deployed, deployed, is_ready, is_stalled
from tests.fakes.pods import FakePods

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = pytest.mark.skipif(
    shutil.which("node") is None,
    reason="node is not installed: the example node-server was not run",
)


def manifests(name: str) -> tuple[Project, Build, Deployment]:
    """The three objects of an example, as they are after validation."""
    found = [
        decode(validate(document.manifest, where=document.where))
        for document in read_folder(EXAMPLES / name).documents
    ]
    project, build, deployment = found
    assert isinstance(project, Project)
    assert isinstance(build, Build)
    assert isinstance(deployment, Deployment)
    for made in (project, build, deployment):
        made.metadata.namespace, made.metadata.uid = "local", f"uid-{made.metadata.name}"
    return project, build, deployment


NO_APPLICATIONS = {"gitops", "watch"}
"""tests/unit/test_gitops.py and tests/unit/local/test_live_client.py are about them."""


@pytest.mark.parametrize(
    "folder",
    [f for f in sorted(EXAMPLES.iterdir()) if f.name not in NO_APPLICATIONS],
    ids=lambda f: f.name,
)
def test_every_example_has_a_readme_and_a_manifest_that_fits_together(folder: Path) -> None:
    project, build, deployment = manifests(folder.name)
    assert (folder / "README.md").is_file()
    assert build.spec.project == deployment.spec.project == project.metadata.name
    assert deployment.spec.follow


@asynccontextmanager
async def running(name: str, folder: Path, **env: str) -> AsyncIterator[Deployed]:
    """The example's server from its folder as it is, without install and build."""
    _, build, deployment = manifests(name)
    source = build.spec.source
    place = source.directory or source.artifact
    assert place is not None
    packed = pack(Path(place.path), folder / "packed")
    async with deployed(folder, pods=FakePods(folder / "runs", env)) as it:
        key = f"builds/local.{name}/artifact.tar.zst"
        await it.storage.write_file(key, folder / "packed")
        build = msgspec.structs.replace(build, status=BuildStatus(phase="Succeeded"))
        build.status.artifact.key = key
        build.status.artifact.digest = packed.digest
        it.builds[name] = build
        it.want(deployment)
        await it.until(lambda s: is_ready(s) or is_stalled(s))
        assert is_ready(it.status), it.status
        yield it


async def test_the_prebuilt_folder_is_served_as_it_is(tmp_path: Path) -> None:
    async with running("prebuilt", tmp_path) as it:
        status, text = await it.get()
        assert (status, text) == (200, (EXAMPLES / "prebuilt/site/index.html").read_text())


async def test_the_support_agent_runs_by_its_manifest(tmp_path: Path) -> None:
    async with running("support-agent", tmp_path, SUPPORT_AGENT_PACE="0") as it:
        assert await it.get("/health") == (200, '{"status": "ok"}')
    assert "stops" in it.pods.pods[0].lines()[-1]


@NODE
async def test_the_node_server_prints_json_and_sends_spans_until_its_end(tmp_path: Path) -> None:
    spans: list[dict[str, Any]] = []
    refused: list[int] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        if not refused:
            refused.append(1)  # the collector is away: tried again
            return web.Response(status=503)
        for resource in body["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                spans.extend(scope["spans"])
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with serving(app, "127.0.0.1", 0) as address:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": address.url, "OTEL_SERVICE_NAME": "node-server"}
        async with running("node-server", tmp_path, **env) as it:
            _, thrown = await it.get("/roll?dice=3")
            status, wrong = await it.get("/roll?dice=none")
            assert status == 400
        lines = [json.loads(line) for line in it.pods.pods[0].lines()]
    roots = {s["traceId"]: s for s in spans if not s["parentSpanId"]}
    good, bad = roots[json.loads(thrown)["traceId"]], roots[json.loads(wrong)["traceId"]]
    assert (good["status"]["code"], bad["status"]["code"]) == (1, 2)
    below = [s for s in spans if s["parentSpanId"] == good["spanId"]]
    assert len(below) == 3
    assert all(int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) for s in spans)
    assert {line["level"] for line in lines} == {"info", "error"}
    assert lines[-1]["message"].startswith("stops")
