"""Storage for the collector of a build: chunks of its output are stored as parts of its log, too.

A part has the chunk's bytes and is put before it, create-if-absent. So a chunk that is stored has
its part, whatever is killed when, and the ingester, which moves chunks, leaves the parts alone.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from spanyard_core.build_log import part_key
from spanyard_core.errors import ObjectExistsError
from spanyard_core.object_names import PENDING
from spanyard_core.storage.protocol import ObjectInfo, Storage

_LOGS = f"{PENDING}/logs/"


class BuildParts:
    """See `Storage`; everything but `write` is the inner one's."""

    def __init__(self, inner: Storage, build: str) -> None:
        """`build` is an id, `{namespace}.{name}`."""
        self._inner = inner
        self._build = build

    @property
    def url(self) -> str:
        return self._inner.url

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if key.startswith(_LOGS) and (part := part_key(self._build, data)):
            # It may be there by an earlier try. Or other bytes have its name: then they have the
            # chunk's name as well, and the uploader comes again with another.
            with contextlib.suppress(ObjectExistsError):
                await self._inner.write(part, data, if_absent=True)
        await self._inner.write(key, data, if_absent=if_absent)

    async def write_file(self, key: str, path: Path) -> None:
        await self._inner.write_file(key, path)

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return await self._inner.read(key, start=start, length=length)

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        return self._inner.list(prefix, after=after)

    async def delete(self, key: str) -> None:
        await self._inner.delete(key)

    async def move(self, source: str, target: str) -> None:
        await self._inner.move(source, target)

    async def exists(self, key: str) -> bool:
        return await self._inner.exists(key)

    async def digest(self, key: str) -> str:
        return await self._inner.digest(key)

    def local_path(self, key: str) -> Path | None:
        return self._inner.local_path(key)

    async def close(self) -> None:
        await self._inner.close()
