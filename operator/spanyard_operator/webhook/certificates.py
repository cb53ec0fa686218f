"""The webhook's certificate: made here, kept in a Secret, renewed long before it ends.

An authority signs one certificate and its key is thrown away, so nothing else can ever be signed.
A renewal makes both anew; the old authority stays in the bundle until the next one, so that
replicas may change at different times.
"""

import datetime as dt
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spanyard_core.errors import SettingError

VALID_DAYS = 365
RENEW_DAYS = 120
"""Left when it is renewed: months of a broken operator are survived."""
BACKDATED = timedelta(hours=1)
"""Clocks of nodes differ."""
CA_FIELD, CERTIFICATE_FIELD, KEY_FIELD = "ca.crt", "tls.crt", "tls.key"


@dataclass(frozen=True)
class Pair:
    """PEM texts."""

    bundle: bytes
    """The authority, and the one before."""
    certificate: bytes
    key: bytes

    def fits(self, name: str, now: datetime) -> bool:
        """Whether it is for this host name and holds for long enough."""
        try:
            found = x509.load_pem_x509_certificate(self.certificate)
            serialization.load_pem_private_key(self.key, None)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, x509.ExtensionNotFound):
            return False
        hosts = names.get_values_for_type(x509.DNSName)
        return name in hosts and found.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)


def host_name(service: str, namespace: str) -> str:
    """The name that the API server calls a Service by."""
    if not service or not namespace:
        raise SettingError("the webhook's service and namespace must be known: webhook_service")
    return f"{service}.{namespace}.svc"


def made(name: str, now: datetime, *, before: bytes = b"") -> Pair:
    """A new pair for a host name; `before`: the bundle until now."""
    ends = now + timedelta(days=VALID_DAYS)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name(f"spanyard webhook {now:%Y-%m-%d %H:%M:%S}")
    authority = (
        _begun(issuer, issuer, ca_key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [name, f"{name}.cluster.local"]
    certificate = (
        _begun(_name(name[:64]), issuer, key.public_key(), now, ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Pair(
        bundle=authority.public_bytes(serialization.Encoding.PEM) + _newest(before),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def now() -> datetime:
    """In UTC."""
    return dt.datetime.now(UTC)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - BACKDATED)
        .not_valid_after(ends)
    )


def _newest(bundle: bytes) -> bytes:
    """The first certificate of a bundle; nothing of what is none."""
    try:
        first = x509.load_pem_x509_certificates(bundle)[0]
    except (ValueError, IndexError):
        return b""
    return first.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
