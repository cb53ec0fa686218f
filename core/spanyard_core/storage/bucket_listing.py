"""Listing a bucket in UTF-8 byte order of whole keys, page by page.

S3 and GCS list in that order themselves, and say so. SeaweedFS does not: it walks directories,
so `a/b` comes before `a-b`, and a start key cuts in its own order. There `listing=walk` lists
each directory on its own, which is in order, at one request per directory. A server that is
caught breaking the order is walked from then on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.store import GCSStore, S3Store

from spanyard_core.errors import StorageError, StorageRefusedError
from spanyard_core.storage.protocol import ObjectInfo

if TYPE_CHECKING:
    from obstore import ObjectMeta

_PAGE = 1000
"""What S3 and GCS give at most per request."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Lister:
    """Lists one store; remembers whether the server's order can be trusted."""

    store: S3Store | GCSStore
    walks: bool = False

    async def list(self, prefix: str, after: str) -> AsyncGenerator[ObjectInfo, None]:
        """Objects whose key starts with `prefix` and lies after `after`, in order.

        Raises `StorageError` when the server turns out not to list in order; the next call walks.
        """
        folder = prefix[: prefix.rfind("/") + 1]
        lower = after.encode()
        if self.walks:
            found = self._walk(folder, prefix.encode(), lower)
        else:
            found = self._flat_from(folder, prefix, after)
        last = b""
        async for info in found:
            if info.size == 0 and not await self._is_object(info.key):
                continue
            key = info.key.encode()
            if last and key <= last:
                if self.walks:
                    raise StorageRefusedError(
                        f"the server listed {info.key!r} after {last.decode()!r}, though they"
                        " lie in one directory; servers that list in no order cannot be used"
                    )
                self.walks = True
                raise StorageError(
                    f"the server listed {info.key!r} after {last.decode()!r}, which is not key"
                    " order; directories are listed one by one from now on"
                    " (say so from the start: listing=walk in the storage URL), try again"
                )
            last = key
            if info.key.startswith(prefix):
                if key > lower:
                    yield info
            elif key > prefix.encode():
                return

    async def _is_object(self, key: str) -> bool:
        """Tell an empty object from a folder's marker.

        Consoles make markers: empty objects whose key ends in `/`, which obstore cuts off.
        """
        try:
            await obstore.head_async(self.store, key)
        except FileNotFoundError:
            return False
        return True

    async def _flat_from(self, folder: str, prefix: str, after: str) -> AsyncIterator[ObjectInfo]:
        """A start key is exclusive, and obstore knows whole directories only.

        So a prefix that ends within a name is asked for itself, then used as the start key.
        """
        if prefix != folder and prefix.encode() > after.encode():
            try:
                row = await obstore.head_async(self.store, prefix)
            except FileNotFoundError:
                pass
            else:
                yield _info(row)
            after = prefix
        async for info in self._flat(folder, after):
            yield info

    async def _flat(self, folder: str, after: str) -> AsyncIterator[ObjectInfo]:
        stream = obstore.list(
            self.store, folder.rstrip("/") or None, offset=after or None, chunk_size=_PAGE
        )
        async for page in stream:
            for row in page:
                yield _info(row)

    async def _walk(self, folder: str, prefix: bytes, lower: bytes) -> AsyncIterator[ObjectInfo]:
        """One directory, and those below it, in order; `list` drops what is not after `lower`.

        Where all of it has the prefix, objects directly in it are taken from the server's pages,
        up to the first one that lies deeper: within one directory every server lists by name.
        Else, or from there on, the directory is taken as a whole, objects and directories, and
        sorted. No start key is used: SeaweedFS would leave out `a/b` after `a-b`.
        """
        below = folder.encode()
        last = b""
        if below.startswith(prefix):
            async for info in self._flat(folder, ""):
                key = info.key.encode()
                if b"/" in key[len(below) :]:
                    break
                last = key
                yield info
            else:
                return
        level = await obstore.list_with_delimiter_async(self.store, folder.rstrip("/") or None)
        objects = {row["path"].encode(): row for row in level["objects"]}
        folders = [path.encode() + b"/" for path in level["common_prefixes"]]
        for key in sorted([*objects, *folders]):
            if key <= last:
                continue
            if key in objects:
                yield _info(objects[key])
            elif (key > lower or lower.startswith(key)) and (
                key.startswith(prefix) or prefix.startswith(key)
            ):
                async for info in self._walk(key.decode(), prefix, lower):
                    yield info


def _info(row: ObjectMeta) -> ObjectInfo:
    modified = (row["last_modified"] - _EPOCH) // _MICROSECOND * 1000
    return ObjectInfo(row["path"], row["size"], modified)
