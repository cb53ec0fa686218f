"""Signing for S3: the conditions are among the signed headers, so none can be left out or changed.

botocore signs all headers that it is given (obstore signs the host alone, and then an object can be
overwritten). Credentials are botocore's usual ones: environment, files, web identity, instance.
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import aiohttp

from spanyard_core.errors import SettingError, StorageError
from spanyard_core.storage import check_key
from spanyard_gateway.objects.looking import looked
from spanyard_gateway.objects.model import OWN_SECONDS, SIGNED_SECONDS, Signed, Stored

_META = "x-amz-meta-sha256"


class S3Signer:
    """See `Signer`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """`url` as for `open_storage`. Raises SettingError when there are no credentials."""
        from botocore.session import Session  # type: ignore[import-untyped]

        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query))
        self._session = session
        aws = Session()
        self._region = given.get("region") or aws.get_config_variable("region") or "us-east-1"
        self._credentials: Any = aws.get_credentials()
        if self._credentials is None:
            raise SettingError(
                f"storage: no credentials to sign for s3://{parts.netloc}; set them in the "
                "environment, or give the pod a role"
            )
        prefix = unquote(parts.path).strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        endpoint = given.get("endpoint", "").rstrip("/")
        addressing = given.get("addressing", "path" if endpoint else "virtual")
        scheme, _, host = (endpoint or f"https://s3.{self._region}.amazonaws.com").partition("://")
        self._base = (
            f"{scheme}://{host}/{parts.netloc}"
            if addressing == "path"
            else f"{scheme}://{parts.netloc}.{host}"
        )

    async def look(self, key: str) -> Stored | None:
        return await looked(self._session, await self._sign("HEAD", key, {}, OWN_SECONDS), _META)

    async def put(self, key: str, size: int, sha256: str) -> Signed:
        conditions = {
            "If-None-Match": "*",
            "Content-Length": str(size),
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256)).decode(),
            _META: sha256,
        }
        return await self._sign("PUT", key, conditions, SIGNED_SECONDS)

    async def get(self, key: str) -> Signed:
        return await self._sign("GET", key, {}, SIGNED_SECONDS)

    async def _sign(
        self, method: str, key: str, headers: Mapping[str, str], seconds: int
    ) -> Signed:
        return await asyncio.to_thread(self._signed, method, key, headers, seconds)

    def _signed(self, method: str, key: str, headers: Mapping[str, str], seconds: int) -> Signed:
        """Blocks: credentials may have to be renewed."""
        from botocore.auth import S3SigV4QueryAuth  # type: ignore[import-untyped]
        from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

        url = f"{self._base}/{quote(self._prefix + check_key(key), safe='/~')}"
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        try:
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise StorageError(f"no credentials to sign with: {error}") from error
        auth = S3SigV4QueryAuth(credentials, "s3", self._region, expires=seconds)
        auth.add_auth(request)
        return Signed(method, request.url, dict(headers), seconds)
