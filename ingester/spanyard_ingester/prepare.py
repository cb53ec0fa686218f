"""Prepare: from a ready object to a verified file that the engine can read.

A chunk is read once, its digest compared with what it declares, and its frames walked, so that no
bomb and no cut frame reaches the engine. In a directory the engine reads the object itself, else
a copy. An object with lines to leave out, and a plain one, is written anew.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import zstandard

from spanyard_core.chunks import (
    MAX_DECODED_BYTES,
    ChunkFacts,
    decode_facts,
    decoded_blocks,
)
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, StorageError
from spanyard_core.object_names import ChunkName
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.frames import decoded_bound
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import tail_of
from spanyard_ingester.plain import PlainReader
from spanyard_ingester.planner import Limits, Prepared, Ready
from spanyard_ingester.scan import Scan, Scanned
from spanyard_ingester.splitter import LineSplitter
from spanyard_ingester.workspace import Workspace

_SLACK = 2 * 128 * 1024
"""What a whole chunk's bound may exceed its decoded size by: its last block, and an empty one."""


class Preparer:
    """Reads objects. Raises BadRecordError for what goes to quarantine as a whole, StorageError
    (ObjectNotFoundError among them) and OSError for what may go better later.
    """

    def __init__(
        self,
        storage: Storage,
        workspace: Workspace,
        clock: Clock,
        *,
        limits: Limits,
        max_object: int,
        max_plain: int,
        max_line: int,
        max_bad: int,
    ) -> None:
        self._storage = storage
        self._workspace = workspace
        self._clock = clock
        self._limits = limits
        self._max_object = max_object
        self._max_plain = max_plain
        self._max_line = max_line
        self._max_bad = max_bad

    async def prepare(self, ready: Ready, state: LedgerState) -> Prepared:
        """The object as the insert will read it."""
        drops = frozenset(state.drops.get(tail_of(ready.key), ()))
        if isinstance(ready.name, ChunkName):
            return await self._chunk(ready, drops)
        return await self._plain(ready, drops)

    async def _chunk(self, ready: Ready, drops: frozenset[int]) -> Prepared:
        data, facts = await self.read_chunk(ready)
        present = None
        written = False
        if drops or facts.records != facts.last - facts.first + 1:
            # Which seqs it holds is not told by its name: look.
            scanned = await self.scan(ready, drops, data=data)
            if scanned.bad:
                drops |= {line.line for line in scanned.bad}
            present = list(scanned.good)
            path: Path | None = await self._without(data, drops)
            written = True
        else:
            scanned = Scanned()
            path = self._storage.local_path(ready.key)
        return Prepared(
            ready=ready,
            path=path or self._workspace.keep(data),
            temporary=path is None or written,
            sha256=facts.sha256,
            writer=facts.writer,
            first=facts.first,
            last=facts.last,
            present=present,
            bad=scanned.bad,
            source=facts.source,
        )

    async def read_chunk(self, ready: Ready) -> tuple[bytes, ChunkFacts]:
        """A chunk's bytes, verified, and its facts."""
        data = ready.data
        if data is None:
            data = await self._storage.read(ready.key, length=self._max_object + 1)
            if len(data) > self._max_object:
                raise BadRecordError(f"the object has more than {self._max_object} bytes")
        facts, at = decode_facts(data)
        if facts != ready.facts:
            raise StorageError(f"{ready.key} was replaced since its head was read")
        payload = memoryview(data)[at:]
        digest = hashlib.sha256(payload).hexdigest()
        if digest != facts.sha256:
            raise BadRecordError(
                f"the object's bytes have the digest {digest[:12]}…, it declares "
                f"{facts.sha256[:12]}…: cut short or changed"
            )
        if decoded_bound(payload) > facts.decoded + _SLACK:
            await self._measure(data, facts)
        return data, facts

    async def _measure(self, data: bytes, facts: ChunkFacts) -> None:
        """Unpack to count, where the frames allow for more than the object declares."""
        size = 0
        for block in decoded_blocks(data, limit=facts.decoded):  # raises beyond
            size += len(block)
            await self._clock.sleep(0)
        if size != facts.decoded:
            raise BadRecordError(f"the object unpacks to {size} bytes; it declares {facts.decoded}")

    async def scan(
        self, ready: Ready, drops: Iterable[int] = (), *, data: bytes | None = None
    ) -> Scanned:
        """Find an object's bad lines, beyond those left out already."""
        if data is None:
            data, _ = await self.read_chunk(ready)
        if ready.facts is None:
            raise AssertionError("only chunks are scanned; plain objects are checked as they come")
        scan = Scan(
            ready.key,
            ready.facts,
            most_bytes=MAX_DECODED_BYTES,
            most_bad=self._max_bad,
            longest_line=self._max_line,
            known_bad=drops,
        )
        for _ in scan.steps(data):
            await self._clock.sleep(0)
        return scan.result

    async def _without(self, data: bytes, drops: Iterable[int]) -> Path:
        """A copy of a chunk without these lines."""
        left_out = frozenset(drops)
        splitter = LineSplitter(self._max_line)
        compress = zstandard.ZstdCompressor(level=1).compressobj()
        path, file = self._workspace.create()
        try:
            for block in decoded_blocks(data):
                kept = [
                    line.data
                    for line in splitter.feed(block)
                    if line.number not in left_out and line.data is not None
                ]
                file.write(compress.compress(b"".join(line + b"\n" for line in kept)))
                await self._clock.sleep(0)
            rest = splitter.finish()
            if rest is not None and rest.number not in left_out and rest.data is not None:
                file.write(compress.compress(rest.data + b"\n"))
            file.write(compress.flush())
        except BaseException:
            self._workspace.remove(path)
            raise
        finally:
            file.close()
        return path

    async def _plain(self, ready: Ready, drops: frozenset[int]) -> Prepared:
        path, file = self._workspace.create()
        reader = PlainReader(
            ready.key,
            ready.name,
            longest_line=self._max_line,
            most_bad=self._max_bad,
            most_bytes=self._max_plain,
            limits=self._limits,
            drops=drops,
        )
        try:
            await reader.read(self._storage, self._clock, file)
        except BaseException:
            self._workspace.remove(path)
            raise
        finally:
            file.close()
        ready.size = reader.size
        return Prepared(
            ready=ready,
            path=path,
            temporary=True,
            sha256=reader.sha256,
            writer=reader.writer,
            first=1,
            last=reader.lines,
            present=list(reader.good),
            bad=reader.bad,
        )

    def discard(self, prepared: Prepared) -> None:
        """Remove an object's temporary file."""
        if prepared.temporary:
            self._workspace.remove(prepared.path)
