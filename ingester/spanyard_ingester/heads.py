"""Heads: the facts in front of an object, read without the rest of it."""

from spanyard_core.chunks import HEAD_BYTES, MAX_FACTS_BYTES, ChunkFacts, decode_facts
from spanyard_core.errors import BadRecordError
from spanyard_core.storage.protocol import Storage


async def read_facts(storage: Storage, key: str) -> ChunkFacts:
    """An object's facts, by one small read, or a second one for a long frame.

    Raises ObjectNotFoundError, StorageError, and BadRecordError for what is no chunk.
    """
    head = await storage.read(key, length=HEAD_BYTES)
    try:
        return decode_facts(head)[0]
    except BadRecordError:
        if len(head) < HEAD_BYTES:
            raise
    return decode_facts(await storage.read(key, length=MAX_FACTS_BYTES + 8))[0]
