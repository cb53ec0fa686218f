"""Raw text of what is in quarantine: bytes of bad lines and objects, from wherever they lie now."""

import logging
from collections.abc import Iterable, Sequence

from spanyard_core.chunks import FRAME_MAGIC, decoded_blocks
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.operations import BadLine, pending_key, processed_key, quarantine_key

log = logging.getLogger("spanyard.ingester")

PREVIEW_BYTES = 64 * 1024


class RawReader:
    """Reads. Raises StorageError; what is not there any more is empty."""

    def __init__(self, storage: Storage, clock: Clock, *, max_object: int) -> None:
        self._storage = storage
        self._clock = clock
        self._max_object = max_object

    async def head(self, key: str) -> bytes:
        """The first bytes of a rejected object."""
        for place in (key, quarantine_key(key)):
            try:
                return await self._storage.read(place, length=PREVIEW_BYTES)
            except ObjectNotFoundError:
                continue
        return b""

    async def lines(
        self, key: str, lines: Iterable[BadLine], *, most: int = PREVIEW_BYTES
    ) -> dict[str, bytes]:
        """Id → the first `most` bytes of each of these lines, from wherever the object is now."""
        wanted = sorted(lines, key=lambda line: line.offset)
        for place in dict.fromkeys(
            (key, pending_key(key), processed_key(key), quarantine_key(key))
        ):
            try:
                return await self._read_lines(place, wanted, most)
            except ObjectNotFoundError:
                continue
        return {}

    async def _read_lines(self, key: str, wanted: Sequence[BadLine], most: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {line.id: b"" for line in wanted}
        if key.endswith(".jsonl"):
            for line in wanted:
                length = min(line.size, most)
                found[line.id] = await self._storage.read(key, start=line.offset, length=length)
            return found
        data = await self._storage.read(key, length=self._max_object)
        if data[:4] != FRAME_MAGIC:
            return found
        at = 0
        open_lines = list(wanted)
        try:
            for block in decoded_blocks(data):
                end = at + len(block)
                going_on = []
                for line in open_lines:
                    stop = line.offset + min(line.size, most)
                    piece = block[max(line.offset - at, 0) : max(stop - at, 0)]
                    found[line.id] += piece
                    if stop > end:
                        going_on.append(line)
                open_lines = going_on
                at = end
                if not open_lines:
                    break
                await self._clock.sleep(0)
        except BadRecordError:
            log.warning("%s cannot be read to the end for its quarantine rows", key)
        return found
