"""Two tenants on a real cluster: code in one's pod tries what it can with the rights the pod has.

The pods, their tokens and the bucket are real; the table of attempts runs inside the pod.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.build_objects import source_key
from spanyard_core.errors import ObjectNotFoundError
from tests.cluster import sources
from tests.cluster.stack import RELEASE, TEAM, Stack, eventually
from tests.fakes.objects import log_chunk

VICTIM = "spanyard-e2e-victim"
SECRET = f"{VICTIM}.secret"
MINE = f"{TEAM}.attack"
ATTACK = Path(__file__).parent / "application" / "attack.py"
TOKEN_FILE = "/var/run/secrets/spanyard/token"
GATEWAY = f"http://{RELEASE}-gateway.{RELEASE}.svc"


@pytest.fixture(scope="module")
def theirs(stack: Stack) -> dict[str, bytes]:
    """Objects of another tenant, in the bucket that both share."""
    made = dict([log_chunk("victim-pod/server/0@a", 1, 3, project=SECRET)])
    made[f"builds/{VICTIM}.b-1/artifact-1.tar.zst"] = b"an artifact"
    made[f"builds/{VICTIM}.b-1/build.log"] = b"a password in a log\n"
    made[source_key(f"sha256:{hashlib.sha256(b'sources').hexdigest()}")] = b"sources"
    stored(stack, made)
    return made


def stored(stack: Stack, objects: Mapping[str, bytes]) -> None:
    async def put() -> None:
        storage = stack.storage()
        for key, data in objects.items():
            await storage.write(key, data)
        await storage.close()

    asyncio.run(put())


def bucket(stack: Stack) -> dict[str, bytes]:
    """Everything that is recorded or built, but what our own parts keep for themselves."""

    async def read() -> dict[str, bytes]:
        storage = stack.storage()
        found = {}
        for prefix in ("observability/", "processed/", "quarantine/", "builds/", "sources/"):
            async for info in storage.list(prefix):
                if VICTIM in info.key or MINE in info.key or prefix == "sources/":
                    # One that is moved meanwhile is found where it goes: that is listed later.
                    with contextlib.suppress(ObjectNotFoundError):
                        found[info.key] = await storage.read(info.key)
        await storage.close()
        return found

    return asyncio.run(read())


@pytest.fixture(scope="module")
def pod(stack: Stack) -> Iterator[dict[str, Any]]:
    """One that its tenant made: with the labels of a project of theirs, and a token as ours have."""
    name = "attack"
    stack.cluster.apply(
        sources.project("attack"),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": TEAM,
                "labels": {"spanyard.dev/project": "attack", "spanyard.dev/deployment": "attack"},
            },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "attack",
                        "image": stack.cluster.image("test-python"),
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "3600"],
                        "env": [{"name": "TOKEN_FILE", "value": TOKEN_FILE}],
                        "volumeMounts": [
                            {"name": "token", "mountPath": str(Path(TOKEN_FILE).parent)}
                        ],
                    }
                ],
                "volumes": [
                    {
                        "name": "token",
                        "projected": {
                            "sources": [
                                {
                                    "serviceAccountToken": {
                                        "path": "token",
                                        "audience": "spanyard-gateway",
                                        "expirationSeconds": 3600,
                                    }
                                }
                            ]
                        },
                    }
                ],
            },
        },
    )
    found = eventually(
        "the pod runs",
        lambda: (
            (p := stack.cluster.get("pod", name, "-n", TEAM))
            and p["status"].get("phase") == "Running"
            and p
        ),
        stack,
        within=120,
    )
    yield found
    stack.cluster.kubectl("delete", "pod", name, "-n", TEAM, "--now", check=False)


def tried(stack: Stack, where: str, attempts: list[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """What came of the attempts, by name."""
    said = stack.cluster.kubectl(
        "exec", "-i", "-n", TEAM, *where.split(), "--", "python3", "-c", ATTACK.read_text("utf-8"),
        given=json.dumps(attempts),
    )  # fmt: skip
    lines = [json.loads(line) for line in said.splitlines()]
    return {line["name"]: (line["status"], line["said"]) for line in lines}


def sign(name: str, op: str, key: str, data: bytes = b"", writer: str = "") -> dict[str, Any]:
    wish: dict[str, Any] = {"op": op, "key": key}
    if op == "put":
        wish |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if writer:
        wish["writer"] = writer
    return {"name": name, "method": "POST", "url": f"{GATEWAY}/internal/objects/sign", "body": wish}


def get(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "method": "GET", "url": f"{GATEWAY}{path}", **more}


def test_a_pod_neither_reads_nor_forges_nor_deletes_what_is_not_its_own_nor_its_own_past(
    stack: Stack, theirs: Mapping[str, bytes], pod: Mapping[str, Any]
) -> None:
    uid = pod["metadata"]["uid"]
    writer = f"{uid}/attack/0@x"
    key, data = log_chunk(writer, 1, 2, project=MINE)
    _, other = log_chunk(writer, 1, 2, project=MINE, instead={2: b'{"forged": true}\n'})
    other = other.ljust(len(data), b" ")[: len(data)]
    foreign, foreign_data = log_chunk("victim-pod/server/0@a", 4, 6, project=SECRET)
    disguised, _ = log_chunk(writer, 1, 2, project=SECRET)
    elsewhere, elsewhere_data = log_chunk("another-pod/server/0@x", 1, 2, project=MINE)
    [loaded] = [k for k in theirs if k.startswith("observability/")]
    artifact = f"builds/{VICTIM}.b-1/artifact-1.tar.zst"
    [archive] = [k for k in theirs if k.startswith("sources/")]

    def b64(text: bytes) -> str:
        return base64.b64encode(text).decode()

    own = sign("its own chunk", "put", key, data, writer)
    own["put"] = {
        "other bytes of this length": b64(other),
        "elsewhere": b64(data),
        "what was signed": b64(data),
        "the same again": b64(data),
        "other bytes where it lies": b64(other),
    }
    own["instead"] = ["attack", "secret"]
    results = tried(
        stack,
        "attack",
        [
            own,
            sign("its own past, forged", "put", key, other, writer),
            sign("its own past, read", "get", key),
            sign("its own past, deleted", "delete", key),
            sign("their chunk, forged", "put", foreign, foreign_data, "victim-pod/server/0@a"),
            sign("a chunk of theirs by its own writer", "put", disguised, data, writer),
            sign("a chunk of another pod", "put", elsewhere, elsewhere_data, "another-pod/server/0@x"),
            sign("their chunk, read", "get", loaded),
            sign("their chunk, moved", "get", loaded.replace("observability/", "processed/", 1)),
            sign("their artifact, read", "get", artifact),
            sign("their artifact, looked at", "head", artifact),
            sign("their artifact, forged", "put", artifact, b"x"),
            sign("their next artifact", "put", f"builds/{VICTIM}.b-2/artifact-1.tar.zst", b"x"),
            sign("their build log", "put", f"builds/{VICTIM}.b-1/log/{key.split('/')[-1]}", data, writer),
            sign("sources that no build of it names", "get", archive),
            sign("the ledger", "put", "ledger/0/000000000001.json", b"{}"),
            sign("a path out of it", "put", f"observability/logs/{MINE}/../{SECRET}/x", b"x", writer),
            {"name": "a hint for theirs", "method": "POST", "url": f"{GATEWAY}/internal/hints",
             "body": {"keys": [foreign]}},
            get("how far theirs is stored", f"/internal/sources?project={SECRET}&fingerprint={'a' * 64}"),
            get("projects", "/projects"),
            get("their logs", f"/projects/{SECRET}/logs"),
            get("their logs without a token", f"/projects/{SECRET}/logs", with_token=False),
            get("their build log by REST", f"/builds/{VICTIM}.b-1/logs"),
            {"name": "SQL", "method": "POST", "url": f"{GATEWAY}/sql", "body": {"query": "SELECT * FROM logs"}},
            {"name": "the bucket itself", "method": "GET", "with_token": False,
             "url": f"{_endpoint(stack)}/{artifact}"},
            {"name": "ClickHouse", "method": "GET", "with_token": False,
             "url": f"http://{_server_ip(stack)}:8123/?query=SELECT+1"},
        ],
    )  # fmt: skip
    allowed = {"its own chunk": {200}, "its own chunk: what was signed": {200}}
    refused = {
        "its own past, forged": {409},
        "its own past, deleted": {400, 403},
        "ClickHouse": {0},
        "a path out of it": {400, 403},
        # Twice the same is told so, and is no harm.
        "its own chunk: the same again": {409, 412},
        "its own chunk: other bytes where it lies": {400, 403, 409, 412},
        "its own chunk: other bytes of this length": {400, 403},
    }
    expected = {name: allowed.get(name) or refused.get(name) or {401, 403, 404} for name in results}
    assert len(results) == 31, sorted(results)
    wrong = {name: said for name, said in results.items() if said[0] not in expected[name]}
    assert not wrong, json.dumps(wrong, indent=1)
    for name, (_, said) in results.items():
        if name not in allowed:
            assert "password" not in said, name
            assert stack.cluster.bucket.environ["AWS_SECRET_ACCESS_KEY"] not in said, name

    def loaded_lines() -> bool:
        lines = stack.exported(MINE, signal="logs")
        return sum(uid in json.dumps(line) for line in lines) == 2

    eventually("its own chunk is loaded", loaded_lines, stack)
    after = bucket(stack)
    assert _theirs(after) == _theirs(theirs)
    assert data in [v for k, v in after.items() if MINE in k]
    assert other not in after.values()
    assert after[archive] == b"sources"


def _theirs(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """The other tenant's, wherever loading has moved them."""
    return {
        key.removeprefix("observability/").removeprefix("processed/"): data
        for key, data in objects.items()
        if VICTIM in key
    }


def _endpoint(stack: Stack) -> str:
    """The address of the bucket, with its prefix."""
    from urllib.parse import parse_qs, urlsplit

    url = urlsplit(stack.storage_url)
    return f"{parse_qs(url.query)['endpoint'][0]}/{url.netloc}{url.path}"


def _server_ip(stack: Stack) -> str:
    pods = stack.cluster.get("pods", "-n", RELEASE, "-l", "app.kubernetes.io/component=server")
    return str(pods[0]["status"]["podIP"])


LOOK = """
import json, os
print(json.dumps({
    "files": sorted(p for p in (
        "/var/run/secrets/spanyard/token", "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/var/log/pods", "/spanyard/state",
    ) if os.path.exists(p)),
    "variables": sorted(k for k in os.environ if k.startswith(("AWS_", "GOOGLE_")) or "TOKEN" in k),
    "user": os.getuid(),
}))
"""


def test_a_server_has_nothing_of_the_collector_beside_it_and_cannot_speak_for_others(
    stack: Stack, theirs: Mapping[str, bytes]
) -> None:
    body = {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [
                        {"key": key, "value": {"stringValue": value}}
                        for key, value in (
                            ("spanyard.project", SECRET), ("service.namespace", VICTIM),
                            ("k8s.namespace.name", VICTIM), ("service.name", "secret"),
                        )
                    ]
                },
                "scopeLogs": [{"logRecords": [{"body": {"stringValue": "forged by OTLP"}}]}],
            }
        ]
    }  # fmt: skip
    forged = {"project": SECRET, "message": "forged by a printed line", "writer": "x", "seq": 1}
    command = """sh -c 'echo "$LINE"; exec python3 -m http.server 8080'"""
    stack.cluster.apply(
        sources.project("attack"),
        sources.deployment(
            "honest", "attack", image=stack.cluster.image("test-python"),
            command=command, env=[{"name": "LINE", "value": json.dumps(forged)}], health={"path": "/"},
        ),
    )  # fmt: skip
    stack.wait_until_ready("honest")
    [pod] = eventually(
        "one pod of it",
        lambda: (p := stack.pods("spanyard.dev/deployment=honest")) and len(p) == 1 and p,
        stack,
    )
    where = f"{pod['metadata']['name']} -c server"
    said = stack.cluster.kubectl("exec", "-n", TEAM, *where.split(), "--", "python3", "-c", LOOK)
    assert json.loads(said) == {"files": [], "variables": [], "user": json.loads(said)["user"]}
    results = tried(
        stack,
        where,
        [
            {"name": "OTLP for another", "method": "POST", "url": "http://127.0.0.1:4318/v1/logs",
             "body": body},
            get("projects", "/projects"),
            sign("their artifact", "get", f"builds/{VICTIM}.b-1/artifact-1.tar.zst"),
        ],
    )  # fmt: skip
    assert {name: status for name, (status, _) in results.items()} == {
        "OTLP for another": 200, "projects": 401, "their artifact": 401,
    }  # fmt: skip

    def messages() -> str | None:
        told = json.dumps(stack.exported(MINE, signal="logs"))
        return told if "forged by OTLP" in told and "forged by a printed line" in told else None

    eventually("both lines are its own project's", messages, stack)
    assert _theirs(bucket(stack)) == _theirs(theirs)
    with pytest.raises(urllib.error.HTTPError) as refused:
        stack.get(f"/projects/{SECRET}/logs")
    assert refused.value.code in {403, 404}
    refused.value.close()
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", "honest", "-n", TEAM)
