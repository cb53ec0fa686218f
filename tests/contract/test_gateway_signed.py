"""What a pod stores through the gateway, in a bucket of each kind: its own new objects.

The gateway listens, the bucket is a real S3 server, a server with GCS's wire protocol, or a
directory.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from spanyard_core.build_objects import artifact_key, source_key
from spanyard_core.clock import rfc3339
from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError, StorageRefusedError
from spanyard_core.records import LogLine
from spanyard_core.storage import digest_of
from spanyard_gateway.objects import gcs, s3, through
from spanyard_sidecar.gateway_storage import GatewayStorage
from tests.fakes.gateway_api import T0, chunk
from tests.fakes.gcs_server import GcsServer
from tests.fakes.pod_at_gateway import (
    BUILDER,
    SERVER,
    SOURCE,
    WRITER,
    Pod,
    chunk_key,
    gateway,
    put,
)
from tests.fakes.s3_server import S3Server


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
