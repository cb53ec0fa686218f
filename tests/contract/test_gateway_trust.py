"""What a pod can do with the rights that it has: its own new objects, and nothing else.

The gateway listens, the bucket is a real S3 server, a server with GCS's wire protocol, or a
directory. Each row of the attack table is tried as the pod would try it.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from prometheus_client import CollectorRegistry
from yarl import URL

from spanyard_core.build_objects import artifact_key, meta_key, source_key
from spanyard_core.clock import SystemClock, rfc3339
from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError, StorageRefusedError
from spanyard_core.object_names import writer_hash
from spanyard_core.records import LogLine
from spanyard_core.serve import serving
from spanyard_core.storage import Storage, digest_of, open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.auth import rates
from spanyard_gateway.objects import gcs, s3, through
from spanyard_gateway.objects.through import TICKET
from spanyard_gateway.settings import GatewaySettings
from spanyard_sidecar.gateway_storage import GatewayStorage
from tests.fakes.gateway_api import T0, RecordingIngester, chunk
from tests.fakes.gcs_server import GcsServer
from tests.fakes.reviews import FakeReviews
from tests.fakes.s3_server import S3Server

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


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3), "gs"])
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """URL and options of an empty bucket of each kind."""
    if request.param == "file":
        yield f"file://{tmp_path}/bucket", {}
    elif request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server.url_for(f"trust {tmp_path.name}"), {"options": server.options}
    else:
        google: GcsServer = request.getfixturevalue("gcs_server")
        key = rsa.generate_private_key(65537, 2048)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        google.trust(public.decode())
        account = tmp_path / "account.json"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account.write_text(json.dumps(
            {"type": "service_account", "client_email": "g@example.com", "private_key": pem}
        ))  # fmt: skip
        monkeypatch.setattr(gcs, "VARIABLES", ("TEST_GOOGLE_ACCOUNT",))
        monkeypatch.setenv("TEST_GOOGLE_ACCOUNT", str(account))
        yield google.url_for(f"trust {tmp_path.name}"), {"options": google.options}


async def test_a_pod_adds_its_own_objects_and_replaces_none(bucket: Any) -> None:
    url, options = bucket
    async with gateway(url, **options) as pod:
        key = chunk_key()
        signed = await pod.sign(put(key, b"hello", WRITER))
        assert signed["expiresIn"] <= 300
        # Not other bytes, not another length, not without a condition, and not too late.
        statuses = {}
        for about, data, left_out in (
            ("longer", b"hello!", ""), ("shorter", b"hell", ""), ("other bytes", b"jello", ""),
            *((f"without {name}", b"hello", name) for name in signed["headers"]
              if name != "Content-Length"),
        ):  # fmt: skip
            if about == "other bytes" and url.startswith("gs:"):
                continue  # GCS knows no sha256; the ingester computes it
            headers = {k: v for k, v in signed["headers"].items() if k != left_out}
            statuses[about], _ = await pod.send(signed, data, headers)
        assert all(400 <= status < 500 for status in statuses.values()), statuses
        assert not await pod.storage.exists(key)
        assert (await pod.send(signed, b"hello"))[0] == 200
        assert await pod.storage.read(key) == b"hello"
        # The same request again, its own past, and what is there told instead of signed.
        assert (await pod.send(signed, b"hello"))[0] in {412, 403}
        known = {"exists": True, "sha256": hashlib.sha256(b"hello").hexdigest(), "size": 5}
        assert await pod.sign(put(key, b"jello", WRITER), 409) == known
        assert await pod.sign({"op": "head", "key": key, "writer": WRITER}) == known
        assert await pod.storage.read(key) == b"hello"
        await pod.sign({"op": "head", "key": chunk_key(first=99), "writer": WRITER}, 404)
        # Other methods on the signed address.
        for method in ("GET", "DELETE", "POST", "HEAD"):
            status, said = await pod.send({**signed, "method": method}, None)
            assert status in {400, 403, 404, 405, 411, 415, 501}, (method, said)
            assert b"hello" not in said
        assert await pod.storage.read(key) == b"hello"


async def test_the_storage_of_pods_works_with_it(bucket: Any, tmp_path: Path) -> None:
    url, options = bucket

    def storage_of(pod: Pod, token: str) -> GatewayStorage:
        file = tmp_path / token
        file.write_text(token)
        return GatewayStorage(f"gateway+{pod.session._base_url}", token_file=str(file))

    async with gateway(url, **options) as pod:
        lines = [LogLine(project="a.x", writer=WRITER, seq=n, timestamp=rfc3339(T0), level="info",
                         message="line") for n in (1, 2)]  # fmt: skip
        key, data = chunk("logs", list(lines))
        server, builder = storage_of(pod, SERVER), storage_of(pod, BUILDER)
        await server.write(key, data, if_absent=True)
        with pytest.raises(ObjectExistsError):
            await server.write(key, data, if_absent=True)
        assert await server.digest(key) == digest_of(data) == await pod.storage.digest(key)
        packed = tmp_path / "artifact.tar.zst"
        packed.write_bytes(b"packed" * 1_000_000)
        await builder.write_file(artifact_key("a.b", 2), packed)
        await builder.write_file(artifact_key("a.b", 2), packed)  # an answer was lost
        packed.write_bytes(b"other")
        with pytest.raises(ObjectExistsError):
            await builder.write_file(artifact_key("a.b", 2), packed)
        with pytest.raises(ObjectNotFoundError):
            await builder.read(source_key(SOURCE))
        await pod.storage.write(source_key(SOURCE), b"0123456789")
        assert await builder.read(source_key(SOURCE)) == b"0123456789"
        assert await builder.read(source_key(SOURCE), start=2, length=3) == b"234"
        assert await builder.read(source_key(SOURCE), start=8, length=9) == b"89"
        assert await builder.read(source_key(SOURCE), start=10, length=1) == b""
        with pytest.raises(StorageRefusedError):
            await server.read(key)
        for storage in (server, builder):
            await storage.close()


async def test_of_two_at_once_one_wins(bucket: Any) -> None:
    url, options = bucket
    async with gateway(url, **options) as pod:
        wishes = [await pod.sign(put(chunk_key(), data, WRITER)) for data in (b"one", b"two")]
        sent = await asyncio.gather(
            *(pod.send(s, d) for s, d in zip(wishes, (b"one", b"two"), strict=True))
        )
        statuses = sorted(status for status, _ in sent)
        assert statuses[0] == 200
        assert statuses[1] in {409, 412}


async def test_a_signature_ends(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = bucket
    for module in (s3, gcs, through):
        monkeypatch.setattr(module, "SIGNED_SECONDS", 1 if module is not through else -6)
    async with gateway(url, **options) as pod:
        signed = await pod.sign(put(chunk_key(), b"late", WRITER))
        if not url.startswith("file:"):
            await asyncio.sleep(2.2)
        status, _ = await pod.send(signed, b"late")
        assert status in {400, 403}
        assert not await pod.storage.exists(chunk_key())


ATTACKS: list[tuple[str, str, Any]] = [
    # (what is tried, with which pod's token, the wish)
    ("forge a record of another team", SERVER, put(chunk_key(project="b.x"), writer=WRITER)),
    ("forge one of another project", SERVER, put(chunk_key(project="a.y"), writer=WRITER)),
    ("write as another pod", SERVER, put(chunk_key(OTHERS), writer=OTHERS)),
    ("write as another pod, named as this one", SERVER, put(chunk_key(OTHERS), writer=WRITER)),
    ("a uid that this one's begins with", SERVER,
     put(chunk_key("uid-11/server/0@e"), writer="uid-11/server/0@e")),
    ("no writer at all", SERVER, put(chunk_key())),
    ("put what is done", SERVER, put(chunk_key(root="processed"), writer=WRITER)),
    ("fill the quarantine", SERVER, put(chunk_key(root="quarantine"), writer=WRITER)),
    ("write the ledger", SERVER, put("ledger/0/000000000001.json")),
    ("a plain object", SERVER, put("observability/logs/a.x/mine.jsonl", writer=WRITER)),
    ("an unknown signal", SERVER, put(chunk_key(signal="money"), writer=WRITER)),
    ("an empty range", SERVER, put(chunk_key().replace("-1-10", "-9-1"), writer=WRITER)),
    ("out of the folder", SERVER,
     put(chunk_key(project="a.x/../../logs/b.x"), writer=WRITER)),
    ("a slash too many", SERVER, put("/" + chunk_key(), writer=WRITER)),
    ("a line break", SERVER, put(chunk_key() + "\n", writer=WRITER)),
    ("other digits", SERVER, put(chunk_key().replace("-1-10", "-١-10"), writer=WRITER)),
    ("too much", SERVER, put(chunk_key(), writer=WRITER, size=10**9)),
    ("less than nothing", SERVER, put(chunk_key(), writer=WRITER, size=-1)),
    ("a digest that is none", SERVER, put(chunk_key(), writer=WRITER, sha256="x")),
    ("a digest in capitals", SERVER, put(chunk_key(), writer=WRITER, sha256="A" * 64)),
    ("delete", SERVER, {"op": "delete", "key": chunk_key()}),
    ("list", SERVER, {"op": "list", "key": "observability/"}),
    ("read its own past", SERVER, {"op": "get", "key": chunk_key()}),
    ("read another's", SERVER, {"op": "get", "key": chunk_key(OTHERS, "b.x")}),
    ("look at another's", SERVER, {"op": "head", "key": chunk_key(OTHERS, "b.x"), "writer": OTHERS}),
    ("look at another's, as itself", SERVER,
     {"op": "head", "key": chunk_key(OTHERS, "b.x"), "writer": WRITER}),
    ("read sources, as a server", SERVER, {"op": "get", "key": source_key(SOURCE)}),
    ("a build's log, as a server", SERVER, put(part_key(writer=WRITER), writer=WRITER)),
    ("an artifact, as a server", SERVER, put(artifact_key("a.b", 2))),
    ("replace what is served", SERVER, put(artifact_key("a.old", 1))),
    ("the artifact of another project", SERVER, {"op": "get", "key": artifact_key("a.other", 1)}),
    ("the artifact of another team", SERVER, {"op": "get", "key": artifact_key("b.old", 1)}),
    ("the artifact of a build that it does not run", SERVER,
     {"op": "get", "key": artifact_key("a.b", 2)}),
    ("the log beside the artifact", SERVER, {"op": "get", "key": "builds/a.old/build.log"}),
    ("the artifact of a server's own team, as that team's foreign pod", FOREIGN,
     {"op": "get", "key": artifact_key("a.old", 1)}),
    ("sources of another build", BUILDER, {"op": "get", "key": source_key(OLD)}),
    ("the log of another build", BUILDER,
     put(part_key("a.old", "uid-b/build/0@e1"), writer="uid-b/build/0@e1")),
    ("the log of another team's build", BUILDER,
     put(part_key("b.b", "uid-b/build/0@e1"), writer="uid-b/build/0@e1")),
    ("its own log as another pod", BUILDER, put(part_key(writer=WRITER), writer=WRITER)),
    ("the whole log", BUILDER, put("builds/a.b/build.log")),
    ("an earlier attempt's artifact", BUILDER, put(artifact_key("a.b", 1))),
    ("a later attempt's artifact", BUILDER, put(artifact_key("a.b", 3))),
    ("the laptop's artifact", BUILDER, put(artifact_key("a.b"))),
    ("another build's artifact", BUILDER, put(artifact_key("a.old", 2))),
    ("another team's artifact", BUILDER, put(artifact_key("b.b", 2))),
    ("sources", BUILDER, put(source_key(SOURCE))),
    ("an artifact, as a builder", BUILDER, {"op": "get", "key": artifact_key("a.old", 1)}),
]  # fmt: skip


async def test_the_attack_table(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        # All of it is there to be read, or could be written.
        for key in (chunk_key(), chunk_key(OTHERS, "b.x"), source_key(SOURCE), source_key(OLD),
                    artifact_key("a.old", 1), artifact_key("b.old", 1), artifact_key("a.b", 2),
                    artifact_key("a.other", 1), "builds/a.old/build.log"):  # fmt: skip
            await pod.storage.write(key, b"theirs")
        before = {info.key async for info in pod.storage.list("")}
        for about, token, wish in ATTACKS:
            async with pod.session.post(
                "/internal/objects/sign", json=wish, headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                assert answer.status in {400, 403}, (about, answer.status, await answer.text())
                assert "url" not in await answer.json(), about
        assert {info.key async for info in pod.storage.list("")} == before
        # And that it is the rules that refuse: what is right is signed.
        for token, wish in (
            (SERVER, put(chunk_key(first=50), writer=WRITER)),
            (SERVER, {"op": "get", "key": artifact_key("a.old", 1)}),
            (FOREIGN, {"op": "get", "key": artifact_key("b.old", 1)}),
            (BUILDER, {"op": "get", "key": source_key(SOURCE)}),
            (BUILDER, put(part_key(), writer="uid-b/build/0@e1")),
            (BUILDER, put(meta_key("a.b", 2))),
        ):
            assert "url" in await pod.named(token).sign(wish), wish


async def test_who_is_no_pod_of_ours_gets_nothing_signed(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        kube, wish = pod.kube, put(chunk_key(), writer=WRITER)
        labels = {"spanyard.dev/project": "x"}
        kube.pod("unlabelled", "a", "p1", "uid-1", {})
        kube.pod("odd-label", "a", "p2", "uid-1", {"spanyard.dev/project": "../b.x"})
        kube.pod("another-uid", "a", "p3", "uid-1", labels)
        kube.objects["pods", "a", "p3"]["metadata"]["uid"] = "uid-9"  # made again by that name
        kube.pod("gone", "a", "p4", "uid-1", labels)
        del kube.objects["pods", "a", "p4"]
        kube.pod("unbound", "a", "p5", "uid-1", labels)
        kube.users["unbound"]["extra"] = {}
        kube.pod("not-an-account", "a", "p6", "uid-1", labels)
        kube.users["not-an-account"]["username"] = "system:node:a"
        kube.pod("for-the-api-server", "a", "p7", "uid-1", labels)
        del kube.audiences["for-the-api-server"]
        for token, status in (
            ("unlabelled", 403), ("odd-label", 403), ("another-uid", 403), ("gone", 403),
            ("unbound", 401), ("not-an-account", 401), ("for-the-api-server", 401), ("nobody", 401),
        ):  # fmt: skip
            assert "url" not in await pod.named(token).sign(wish, status)


async def test_a_build_that_is_over_publishes_nothing_more(tmp_path: Path) -> None:
    for change in ({"status": {"phase": "Succeeded", "attempt": 2}},
                   {"status": {"phase": "Building", "attempt": 3}},
                   {"metadata": {"uid": "made again"}}):  # fmt: skip
        async with gateway(f"file://{tmp_path}/bucket") as pod:
            build = pod.kube.objects["builds", "a", "b"]
            for name, value in change.items():
                build[name] = build[name] | value
            await pod.named(BUILDER).sign(put(artifact_key("a.b", 2)), 403)
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        del pod.kube.objects["builds", "a", "b"]
        await pod.named(BUILDER).sign(put(artifact_key("a.b", 2)), 403)


async def test_a_deployment_gets_what_it_runs_and_ran(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        old, new = artifact_key("a.old", 1), artifact_key("a.b", 2)
        for key in (old, new):
            await pod.storage.write(key, b"artifact of it")
        deployment = pod.kube.objects["deployments", "a", "d"]
        deployment["spec"] = {"project": "x", "buildRef": {"name": "b"}, "command": "run"}
        await pod.sign({"op": "get", "key": old}, 403)
        signed = await pod.sign({"op": "get", "key": new})
        assert await pod.send(signed) == (200, b"artifact of it")
        for asked, status, data in (("bytes=0-7", 206, b"artifact"), ("bytes=9-", 206, b"of it"),
                                    ("bytes=9-99", 206, b"of it")):  # fmt: skip
            told = signed["headers"] | {"Range": asked}
            assert await pod.send(signed, None, told) == (status, data)
        assert (await pod.send(signed, None, signed["headers"] | {"Range": "bytes=99-"}))[0] == 416
        await asyncio.sleep(2.1)  # a resource is trusted as it was for so long
        deployment["status"] = {"revisions": [
            {"number": 1, "hash": "h", "state": "Replaced", "build": "old"}]}  # fmt: skip
        assert "url" in await pod.sign({"op": "get", "key": old})


async def test_a_ticket_for_the_gateway_is_good_for_one_request(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        signed = await pod.sign(put(chunk_key(), b"data", WRITER))
        for url in (chunk_key(first=2), "ledger/0/1.json", chunk_key() + "/..", "../bucket/x"):
            elsewhere = {**signed, "url": f"/internal/objects/data/{url}"}
            assert (await pod.send(elsewhere, b"data"))[0] in {403, 404}
        good = signed["headers"][TICKET]
        changed = good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:]
        for ticket in ("", "x", pod.token, changed):
            assert (await pod.send(signed, b"data", {TICKET: ticket}))[0] == 403
        assert [info.key async for info in pod.storage.list("")] == []
        assert (await pod.send(signed, b"data"))[0] == 200


async def test_hints_and_questions_are_of_the_pods_own_project(tmp_path: Path) -> None:
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        auth = {"Authorization": f"Bearer {SERVER}"}
        for keys, status in (([chunk_key()], 200), ([chunk_key(), chunk_key(project="b.x")], 403),
                             ([chunk_key(project="a.y")], 403)):  # fmt: skip
            async with pod.session.post(
                "/internal/hints", json={"keys": keys}, headers=auth
            ) as answer:
                assert answer.status == status
        for project, status in (("a.x", 503), ("b.x", 403), ("", 400)):
            query = {"project": project, "fingerprint": "40:abc"}
            async with pod.session.get("/internal/sources", params=query, headers=auth) as answer:
                assert answer.status == status


async def test_a_pod_that_asks_too_often_waits_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few(rates.Rates):
        def __init__(self, clock: Any) -> None:
            super().__init__(clock, per_second=0.001, burst=3)

    monkeypatch.setattr("spanyard_gateway.auth.gate.Rates", Few)
    async with gateway(f"file://{tmp_path}/bucket") as pod:
        wish = put(chunk_key(), writer=WRITER)
        for status in (200, 200, 200, 429, 429):
            await pod.sign(wish, status)
        await pod.named(FOREIGN).sign(put(chunk_key(OTHERS, "b.x"), writer=OTHERS))


async def test_the_answers_hold_no_credentials(s3_server: S3Server, monkeypatch: Any) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    async with gateway(s3_server.url_for("secrets"), options=s3_server.options) as pod:
        told = json.dumps(await pod.sign(put(chunk_key(), writer=WRITER)))
        assert s3_server.env["AWS_SECRET_ACCESS_KEY"] not in told.replace(
            s3_server.env["AWS_ACCESS_KEY_ID"], ""
        )
