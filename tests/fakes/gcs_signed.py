"""Signed addresses of GCS (V4, RSA), as the server checks them: nothing signed may be missing or other.

Written from the documentation's side of the server, apart from the code that signs.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.fakes.gcs_server_objects import GcsError

SIGNATURE = "X-Goog-Signature"


def check_signed(
    pem: str, method: str, raw_path: str, raw_query: str, headers: Mapping[str, str], body: bytes
) -> None:
    """Raises GcsError when the request is not the one that was signed, or too late."""
    refused = GcsError(403, "SignatureDoesNotMatch", "Access denied.")
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    query = dict(pairs)
    if not pem or query.get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256":
        raise refused
    stamp, expires = query["X-Goog-Date"], int(query["X-Goog-Expires"])
    began = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if not 1 <= expires <= 604_800 or datetime.now(UTC) > began + timedelta(seconds=expires):
        raise GcsError(400, "ExpiredToken", "The provided token has expired.")
    names = query["X-Goog-SignedHeaders"].split(";")
    told = {name.lower(): value.strip() for name, value in headers.items()}
    if "host" not in names or any(name not in told for name in names):
        raise refused
    if any(name.startswith("x-goog-") and name not in names for name in told):
        raise GcsError(400, "MalformedSecurityHeader", "A header was not signed.")
    canonical = "\n".join(
        [
            method,
            raw_path,
            "&".join(
                f"{quote(name, safe='~')}={quote(value, safe='~')}"
                for name, value in sorted(pairs)
                if name != SIGNATURE
            ),
            *(f"{name}:{told[name]}" for name in sorted(names)),
            "",
            ";".join(sorted(names)),
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = query["X-Goog-Credential"].partition("/")[2]
    text = "\n".join(
        ["GOOG4-RSA-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey)
    try:
        key.verify(bytes.fromhex(query[SIGNATURE]), text.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        raise refused from None
    least, _, most = told.get("x-goog-content-length-range", f"0,{len(body)}").partition(",")
    if not int(least) <= len(body) <= int(most):
        raise GcsError(400, "EntityTooLarge", "The length is outside the range.")
