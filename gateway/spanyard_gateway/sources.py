"""How far a file is stored: what a collector asks whose spool was lost.

The answer comes from two places, because an object may be loaded or still waiting: the ledger's
copy in ClickHouse, and the facts in front of the project's pending objects. The highest
offset wins. Both must be asked: to miss one would store records twice.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.chunks import HEAD_BYTES, ChunkFacts, decode_facts
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import PENDING, ChunkName, check_project, parse_key
from spanyard_core.records import SIGNALS
from spanyard_core.storage import Storage
from spanyard_gateway.reader import Reader


class StoredSource(msgspec.Struct, rename="camel"):
    """The last chunk that holds bytes of the file."""

    writer: str
    last_seq: int
    to_offset: int
    pending: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class SourceFinder:
    """Looks a fingerprint up."""

    reader: Reader
    storage: Storage

    async def find(self, project: str, fingerprint: str) -> StoredSource | None:
        """The farthest stored place of the file, None when nothing of it is stored.

        Raises StorageError and DatabaseError: without both answers there is none.
        """
        check_project(project)
        # Pending first: an object that is loaded in between then shows in the ledger.
        waiting = await self._pending(project, fingerprint)
        loaded = await self._loaded(project, fingerprint)
        found = [s for s in (waiting, loaded) if s is not None]
        return max(found, key=lambda s: s.to_offset, default=None)

    async def _loaded(self, project: str, fingerprint: str) -> StoredSource | None:
        rows = await self.reader.rows(
            "SELECT writer, seq_to, source_to, source_pending FROM ledger FINAL"
            " WHERE project = {project:String} AND source = {fingerprint:String}"
            " AND status != 'abandoned' ORDER BY source_to DESC, seq_to DESC LIMIT 1",
            {"project": project, "fingerprint": fingerprint},
        )
        if not rows:
            return None
        row: dict[str, Any] = rows[0]
        pending = [(int(a), int(b)) for a, b in row["source_pending"]]
        return StoredSource(row["writer"], row["seq_to"], row["source_to"], pending)

    async def _pending(self, project: str, fingerprint: str) -> StoredSource | None:
        best: StoredSource | None = None
        for signal in SIGNALS:
            async for info in self.storage.list(f"{PENDING}/{signal}/{project}/"):
                try:
                    if not isinstance(parse_key(info.key), ChunkName):
                        continue
                    facts = await self._facts(info.key)
                except (BadRecordError, ObjectNotFoundError):
                    continue  # foreign, or loaded and moved since: then the ledger has it
                source = facts.source
                if source is None or source.fingerprint != fingerprint:
                    continue
                if best is None or source.to_offset > best.to_offset:
                    best = StoredSource(
                        facts.writer, facts.last, source.to_offset, list(source.pending)
                    )
        return best

    async def _facts(self, key: str) -> ChunkFacts:
        head = await self.storage.read(key, length=HEAD_BYTES)
        try:
            return decode_facts(head)[0]
        except BadRecordError:
            return decode_facts(await self.storage.read(key, length=HEAD_BYTES * 32))[0]
