"""Signing for GCS: V4 with a service account's key, conditions among the signed headers.

Where there is no such key (workload identity) nothing can be signed here, and the gateway takes the
bytes itself (`through`). GCS knows no sha256: length and create-if-absent are enforced by the
bucket, the digest is what the pod says of its own object, and the ingester computes it anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import aiohttp

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError
from spanyard_core.storage import check_key
from spanyard_gateway.objects.looking import looked
from spanyard_gateway.objects.model import OWN_SECONDS, SIGNED_SECONDS, Signed, Stored

VARIABLES = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Where obstore looks for the file too."""
_META = "x-goog-meta-sha256"


def account_of(environ: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """A service account with a private key, from the file that the environment names."""
    for name in VARIABLES:
        if environ.get(name):
            try:
                found: Any = json.loads(Path(environ[name]).read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise SettingError(f"{name}: {environ[name]!r} cannot be read") from error
            if found.get("type") == "service_account" and found.get("private_key"):
                return {"email": found["client_email"], "key": found["private_key"]}
    return None


class GcsSigner:
    """See `Signer`."""

    def __init__(
        self, url: str, account: Mapping[str, str], session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        """`url` as for `open_storage`. Raises SettingError for a key that is none."""
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query))
        self._session, self._clock, self._email = session, clock, account["email"]
        try:
            key = load_pem_private_key(account["key"].encode(), None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise SettingError("storage: the service account's private key is not an RSA key (PEM)")
        self._key: RSAPrivateKey = key
        self._endpoint = given.get("endpoint", "").rstrip("/") or "https://storage.googleapis.com"
        prefix = unquote(parts.path).strip("/")
        self._path = f"/{parts.netloc}/" + (f"{prefix}/" if prefix else "")

    async def look(self, key: str) -> Stored | None:
        return await looked(self._session, self._signed("HEAD", key, {}, OWN_SECONDS), _META)

    async def put(self, key: str, size: int, sha256: str) -> Signed:
        conditions = {
            "x-goog-if-generation-match": "0",
            "x-goog-content-length-range": f"{size},{size}",
            _META: sha256,
        }
        return self._signed("PUT", key, conditions, SIGNED_SECONDS)

    async def get(self, key: str) -> Signed:
        return self._signed("GET", key, {}, SIGNED_SECONDS)

    def _signed(self, method: str, key: str, headers: Mapping[str, str], seconds: int) -> Signed:
        """cloud.google.com/storage/docs/authentication/canonical-requests, GOOG4-RSA-SHA256."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        now = datetime.fromtimestamp(self._clock.time_ns() // 10**9, UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        scope = f"{day}/auto/storage/goog4_request"
        signed = {"host": urlsplit(self._endpoint).netloc, **headers}
        names = ";".join(sorted(signed))
        path = quote(self._path + check_key(key), safe="/~")
        query = "&".join(
            f"{name}={quote(value, safe='~')}"
            for name, value in sorted(
                {
                    "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
                    "X-Goog-Credential": f"{self._email}/{scope}",
                    "X-Goog-Date": stamp,
                    "X-Goog-Expires": str(seconds),
                    "X-Goog-SignedHeaders": names,
                }.items()
            )
        )
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        told = f"GOOG4-RSA-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = self._key.sign(told.encode(), PKCS1v15(), SHA256()).hex()
        url = f"{self._endpoint}{path}?{query}&X-Goog-Signature={signature}"
        return Signed(method, url, dict(headers), seconds)
