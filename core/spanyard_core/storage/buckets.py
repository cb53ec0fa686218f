"""Storage in a bucket of S3 or GCS, through obstore, which is imported with this module.

A single PUT is whole or not at all; larger overwrites go in parts and appear when the last one is
there. Create-if-absent is a conditional PUT (`If-None-Match: *`, on GCS
`x-goog-if-generation-match: 0`), never a look before a write.

Known trap: obstore repeats a PUT whose connection broke, or that got a 5xx. Had the first one
been applied, the repeat meets its own object, and `write` raises `ObjectExistsError` for it.
Callers compare `digest`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.store import GCSStore, S3Store

from spanyard_core.errors import (
    ObjectNotFoundError,
    SettingError,
    SpanyardError,
    StorageRefusedError,
)
from spanyard_core.faults import fault_point
from spanyard_core.storage.bucket_errors import raise_translated, status_of, summary_of
from spanyard_core.storage.bucket_listing import Lister
from spanyard_core.storage.keys import check_key, check_prefix
from spanyard_core.storage.protocol import ObjectInfo

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_MULTIPART_FROM = 32 << 20
"""Bytes; a PUT of this size takes 26 s at 10 Mbit/s, still within the timeout."""
_PART = 8 << 20
_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 60.0
_RETRY: "RetryConfig" = {
    # Two repeats mend a connection that went stale; everything longer is the caller's back-off.
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=3),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
_RANGE_NOT_SATISFIABLE = 416


def open_bucket(
    scheme: str, bucket: str, prefix: str, settings: Mapping[str, str]
) -> "BucketStorage":
    """`scheme` is `s3` or `gs`; `settings` hold known names only (`urls.py` sees to it)."""
    shown = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    endpoint = settings.get("endpoint", "").rstrip("/")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise SettingError(f"{shown}: endpoint {endpoint!r} is no http:// or https:// URL")
    listing = settings.get("listing", "flat")
    if listing not in {"flat", "walk"}:
        raise SettingError(f"{shown}: listing is {listing!r}; it is 'flat' or 'walk'")
    client = _client(settings, endpoint, shown)
    make = _s3 if scheme == "s3" else _gcs
    try:
        store = make(bucket, prefix, endpoint, settings, client)
    except SpanyardError:
        raise
    except Exception as error:  # obstore: unreadable credentials file, malformed endpoint, …
        raise SettingError(f"{shown} cannot be opened: {summary_of(error)}") from error
    return BucketStorage(shown, store, walks=listing == "walk")


def _s3(
    bucket: str, prefix: str, endpoint: str, settings: Mapping[str, str], client: "ClientConfig"
) -> S3Store:
    config: dict[str, Any] = {
        name: settings[name]
        for name in ("region", "access_key_id", "secret_access_key", "session_token")
        if name in settings
    }
    if endpoint:
        config["endpoint"] = endpoint
    addressing = settings.get("addressing", "path" if endpoint else "virtual")
    if addressing not in {"path", "virtual"}:
        raise SettingError(f"s3://{bucket}: addressing is {addressing!r}; 'path' or 'virtual'")
    config["virtual_hosted_style_request"] = addressing == "virtual"
    return S3Store(
        bucket, prefix=prefix or None, client_options=client, retry_config=_RETRY, **config
    )


def _gcs(
    bucket: str, prefix: str, endpoint: str, settings: Mapping[str, str], client: "ClientConfig"
) -> GCSStore:
    config: dict[str, Any] = {
        name: settings[name]
        for name in ("application_credentials", "bearer_token")
        if name in settings
    }
    if endpoint:
        config["base_url"] = endpoint
    return GCSStore(
        bucket, prefix=prefix or None, client_options=client, retry_config=_RETRY, **config
    )


def _client(settings: Mapping[str, str], endpoint: str, shown: str) -> "ClientConfig":
    config: ClientConfig = {
        "connect_timeout": _seconds(settings, "connect_timeout", _CONNECT_SECONDS, shown),
        "timeout": _seconds(settings, "timeout", _REQUEST_SECONDS, shown),
        "user_agent": "spanyard",
    }
    if endpoint.startswith("http://"):
        config["allow_http"] = True
    if "ca_file" in settings:
        try:
            config["root_certificate"] = Path(settings["ca_file"]).read_bytes()
        except OSError as error:
            raise SettingError(
                f"{shown}: ca_file {settings['ca_file']!r} cannot be read: {error.strerror}"
            ) from error
    return config


def _seconds(settings: Mapping[str, str], name: str, default: float, shown: str) -> timedelta:
    text = settings.get(name, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 3600:
        raise SettingError(f"{shown}: {name} is {text!r}; give seconds between 0.001 and 3600")
    return timedelta(seconds=seconds)


class BucketStorage:
    """See `Storage`."""

    def __init__(self, url: str, store: S3Store | GCSStore, *, walks: bool = False) -> None:
        """`walks`: the server does not list in key order (see `bucket_listing`)."""
        self._url = url
        self._open_store: S3Store | GCSStore | None = store
        self._lister = Lister(store, walks)

    @property
    def url(self) -> str:
        return self._url

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        store = self._store(key)
        try:
            await obstore.put_async(
                store,
                key,
                data,
                mode="create" if if_absent else "overwrite",
                # Parts have no condition: create-if-absent is one PUT, whatever the size.
                use_multipart=not if_absent and len(data) >= _MULTIPART_FROM,
                chunk_size=_PART,
                max_concurrency=4,
            )
        except Exception as error:
            raise_translated(error, "write", self._name(key))

    async def write_file(self, key: str, path: Path) -> None:
        store = self._store(key)
        with path.open("rb") as file:
            try:
                await obstore.put_async(store, key, file, chunk_size=_PART, max_concurrency=4)
            except Exception as error:
                raise_translated(error, "write", self._name(key))

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        store = self._store(key)
        if length == 0:  # obstore refuses an empty range
            if not await self.exists(key):
                raise ObjectNotFoundError(f"{self._name(key)} does not exist")
            return b""
        try:
            if length is not None:
                return bytes(await obstore.get_range_async(store, key, start=start, length=length))
            options = {"range": {"offset": start}} if start else None
            found = await obstore.get_async(store, key, options=cast("Any", options))
            return bytes(await found.bytes_async())
        except Exception as error:
            if status_of(error) == _RANGE_NOT_SATISFIABLE:
                return b""  # the object ends before `start`
            raise_translated(error, "read", self._name(key))

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self._store()
        check_prefix(prefix)
        async with aclosing(self._lister.list(prefix, after)) as found:
            while True:
                try:
                    info = await anext(found)
                except StopAsyncIteration:
                    return
                except SpanyardError:
                    raise
                except Exception as error:
                    raise_translated(error, "list", self._name(prefix))
                yield info

    async def delete(self, key: str) -> None:
        store = self._store(key)
        try:
            await obstore.delete_async(store, key)
        except FileNotFoundError as error:
            self._absent_or_raise(error, "delete", key)
        except Exception as error:
            raise_translated(error, "delete", self._name(key))

    async def move(self, source: str, target: str) -> None:
        store = self._store(source, target)
        if source == target:
            if not await self.exists(source):
                raise ObjectNotFoundError(f"{self._name(source)} does not exist")
            return
        try:
            await obstore.copy_async(store, source, target)
        except FileNotFoundError as error:
            self._absent_or_raise(error, "move", source)
            if not await self.exists(target):
                raise ObjectNotFoundError(
                    f"neither {self._name(source)} nor {target} exists"
                ) from error
            return
        except Exception as error:
            raise_translated(error, "move", self._name(source))
        fault_point("ingest.copied")
        await self.delete(source)

    async def exists(self, key: str) -> bool:
        store = self._store(key)
        try:
            # One byte instead of a HEAD, whose 404 has no body to tell a missing bucket by.
            await obstore.get_range_async(store, key, start=0, length=1)
        except FileNotFoundError as error:
            self._absent_or_raise(error, "look at", key)
            return False
        except Exception as error:
            if status_of(error) == _RANGE_NOT_SATISFIABLE:
                return True  # empty
            raise_translated(error, "look at", self._name(key))
        return True

    async def digest(self, key: str) -> str:
        store = self._store(key)
        try:
            found = await obstore.get_async(store, key)
            digest = sha256()
            async for block in found.stream(min_chunk_size=1 << 20):
                digest.update(block)
            return digest.hexdigest()
        except Exception as error:
            raise_translated(error, "read", self._name(key))

    def local_path(self, key: str) -> Path | None:
        return None

    async def close(self) -> None:
        self._open_store = None

    def _store(self, *keys: str) -> S3Store | GCSStore:
        if self._open_store is None:
            raise StorageRefusedError(f"{self._url} is closed")
        for key in keys:
            check_key(key)
        return self._open_store

    def _absent_or_raise(self, error: Exception, action: str, key: str) -> None:
        """Return if `error` says that the object is absent; a missing bucket is raised."""
        try:
            raise_translated(error, action, self._name(key))
        except ObjectNotFoundError:
            return

    def _name(self, key: str) -> str:
        return f"{self._url}/{key}"
