"""TLS of the gateway: HTTPS alone, and a renewed certificate without a restart."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from spanyard_core.clock import SystemClock
from spanyard_core.errors import SettingError
from spanyard_core.serve import serving
from spanyard_gateway import tls
from spanyard_gateway.tls import Certificate


def make(folder: Path, name: str) -> tuple[str, str]:
    """Files of a certificate for localhost whose subject is `name`, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return str(folder / "tls.crt"), str(folder / "tls.key")


def subject_of(port: int) -> str:
    """Of the certificate that a new connection is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    found = x509.load_pem_x509_certificate(pem.encode())
    return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_a_renewed_certificate_is_shown_and_one_that_is_none_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.scheme)

    monkeypatch.setattr(tls, "LOOK_S", 0.01)
    certificate = Certificate(*make(tmp_path, "first"))
    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app, "127.0.0.1", 0, tls=certificate.context) as address:
        assert address.url.startswith("https://127.0.0.1:")
        fresh = asyncio.create_task(certificate.keep_fresh(SystemClock()))

        async def shows(name: str) -> None:
            async with asyncio.timeout(60):
                while await asyncio.to_thread(subject_of, address.port) != name:
                    await asyncio.sleep(0.01)

        await shows("first")
        (tmp_path / "tls.crt").write_text("half a file")
        async with asyncio.timeout(60):
            while "not read again" not in caplog.text:
                await asyncio.sleep(0.01)
        await shows("first")
        make(tmp_path, "second")
        await shows("second")
        trust = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"https://localhost:{address.port}/", ssl=trust) as found,
        ):
            assert await found.text() == "https"
        fresh.cancel()
        await asyncio.gather(fresh, return_exceptions=True)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate, key = make(tmp_path, "x")
    for wrong in ((certificate, str(tmp_path / "none")), (key, certificate)):
        with pytest.raises(SettingError, match="tls_cert: "):
            Certificate(*wrong)
