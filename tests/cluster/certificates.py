"""The test cluster's certificate authority, its certificates and kubeconfigs."""

import base64
import datetime as dt
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.addresses import API_PORT, API_SERVICE, DOMAIN, NODE_ADDRESS, NODE_NAME

DAYS = 30
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{DOMAIN}",
    NODE_NAME,
)
SERVER_ADDRESSES = ("127.0.0.1", API_SERVICE, NODE_ADDRESS)

USERS: dict[str, tuple[str, str]] = {
    "admin": ("spanyard-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "api-to-kubelet": ("spanyard-api", "system:masters"),
    "dns": ("spanyard-dns", "system:masters"),
}
"""Name of the file → the certificate's common name and organisation, which RBAC reads."""


@dataclass(frozen=True)
class Certificates:
    """The files in one folder."""

    folder: Path

    def certificate(self, name: str) -> str:
        return str(self.folder / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def kubeconfig(self, name: str, file: Path | None = None) -> str:
        """Written as a user of `USERS`; with the certificates inside, so that it can be copied."""
        file = file or self.folder / f"{name}.kubeconfig"
        made = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "spanyard-test",
            "clusters": [
                {
                    "name": "spanyard-test",
                    "cluster": {
                        "server": f"https://{NODE_ADDRESS}:{API_PORT}",
                        "certificate-authority-data": _base64(self.certificate("ca")),
                    },
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": _base64(self.certificate(name)),
                        "client-key-data": _base64(self.key(name)),
                    },
                }
            ],
            "contexts": [
                {"name": "spanyard-test", "context": {"cluster": "spanyard-test", "user": name}}
            ],
        }
        file.touch(0o600)
        file.write_text(json.dumps(made, indent=1), "utf-8")
        return str(file)


def made(folder: Path) -> Certificates:
    """A new authority and all certificates, valid for `DAYS`."""
    certificates = Certificates(folder)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("spanyard-test-ca", "")
    ca = _builder(ca_name, ca_name, ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    _write(certificates, "ca", ca_key, ca.sign(ca_key, hashes.SHA256()))
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in SERVER_ADDRESSES]
    for name, (common, organisation) in {**USERS, "api": ("kube-apiserver", "")}.items():
        key = ec.generate_private_key(ec.SECP256R1())
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH if name == "api" else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = _builder(_name(common, organisation), ca_name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if name == "api":
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write(certificates, name, key, builder.sign(ca_key, hashes.SHA256()))
    _write(certificates, "service-accounts", ec.generate_private_key(ec.SECP256R1()), None)
    return certificates


def _name(common: str, organisation: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
    )


def _write(
    certificates: Certificates,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate | None,
) -> None:
    file = Path(certificates.key(name))
    file.touch(0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    if certificate is not None:
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        Path(certificates.certificate(name)).write_bytes(pem)


def _base64(file: str) -> str:
    return base64.b64encode(Path(file).read_bytes()).decode()
