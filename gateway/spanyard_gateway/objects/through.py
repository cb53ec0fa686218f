"""Where nothing can be signed (a directory, a bucket without a key): the gateway takes the bytes.

What a pod may is written into a ticket of ours, which comes back in a header with the request.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, ObjectExistsError
from spanyard_core.storage import Storage, check_key
from spanyard_core.storage.directory import DirectoryStorage
from spanyard_core.tickets import Signer as TicketSigner
from spanyard_core.tickets import Verifier
from spanyard_gateway.objects.model import SIGNED_SECONDS, Signed, Stored

TICKET = "X-Spanyard-Ticket"
DATA_PATH = "/internal/objects/data/"
AUDIENCE = "objects"
IN_MEMORY = 64 << 20
"""Bytes that a bucket gets in one conditional PUT."""
BLOCK = 1 << 20


class ThroughGateway:
    """See `objects.model.Signer`."""

    def __init__(self, storage: Storage, signer: TicketSigner, clock: Clock) -> None:
        self._storage, self._signer, self._clock = storage, signer, clock
        self._verifier = Verifier.of(signer.public_key)

    async def look(self, key: str) -> Stored | None:
        check_key(key)
        path = self._storage.local_path(key)
        if path is not None:
            if not await self._storage.exists(key):
                return None
            try:
                found = await asyncio.to_thread(path.stat)
            except (FileNotFoundError, NotADirectoryError):
                return None  # the ingester has moved it just now
            return Stored(found.st_size)
        async for info in self._storage.list(key):
            return Stored(info.size) if info.key == key else None
        return None

    async def put(self, key: str, size: int, sha256: str) -> Signed:
        return self._ticket("PUT", key, {"size": size, "sha256": sha256})

    async def get(self, key: str) -> Signed:
        return self._ticket("GET", key, {})

    def _now(self) -> float:
        return self._clock.time_ns() / 1e9

    def _ticket(self, method: str, key: str, claims: dict[str, Any]) -> Signed:
        ends = int(self._now()) + SIGNED_SECONDS
        ticket = self._signer.sign(AUDIENCE, ends, {"method": method, "key": key, **claims})
        return Signed(method, DATA_PATH + quote(key, safe="/~"), {TICKET: ticket}, SIGNED_SECONDS)

    def claims(self, ticket: str, method: str, key: str) -> dict[str, Any] | None:
        """What the ticket allows; None when not this. Raises TicketError."""
        claims = self._verifier.check(ticket, AUDIENCE, self._now())
        return claims if (claims["method"], claims["key"]) == (method, key) else None

    async def take(self, claims: dict[str, Any], body: AsyncIterator[bytes]) -> None:
        """Store a body as its ticket says. Raises BadRecordError, ObjectExistsError, StorageError."""
        key, size, hashed, got = claims["key"], claims["size"], hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(prefix="spanyard-object-") as file:
            async for part in body:
                got += len(part)
                if got > size:
                    raise BadRecordError(
                        f"the body is longer than the {size:,} bytes it is to have"
                    )
                hashed.update(part)
                await asyncio.to_thread(file.write, part)
            if got != size or hashed.hexdigest() != claims["sha256"]:
                raise BadRecordError(
                    "the body is not the one that was signed for: length or sha256"
                )
            await asyncio.to_thread(file.flush)
            await self._store(key, Path(file.name), size)

    async def _store(self, key: str, path: Path, size: int) -> None:
        if isinstance(self._storage, DirectoryStorage):
            await self._storage.write_file(key, path, if_absent=True)
        elif size <= IN_MEMORY:
            data = await asyncio.to_thread(path.read_bytes)
            await self._storage.write(key, data, if_absent=True)
        else:
            # In parts there is no condition. Only the result of an attempt is so large, and that
            # has one writer.
            if await self._storage.exists(key):
                raise ObjectExistsError(f"{key} exists already")
            await self._storage.write_file(key, path)

    async def give(self, key: str, start: int, length: int | None) -> AsyncIterator[bytes]:
        """The object's bytes in blocks. Raises ObjectNotFoundError, StorageError."""
        while length is None or length > 0:
            wanted = BLOCK if length is None else min(BLOCK, length)
            block = await self._storage.read(key, start=start, length=wanted)
            if not block:
                return
            yield block
            start += len(block)
            length = None if length is None else length - len(block)
            if len(block) < wanted:
                return

    async def digest(self, key: str) -> str:
        """sha256, computed."""
        return await self._storage.digest(key)
