"""The disk ring: records of a container in the spool's entries, uploaded or not.

Nothing is kept for it: entries stay on disk for a while after their upload, and their heads say
what they hold. Reading is for those who just subscribed; it costs nobody else anything.
"""

import logging
from collections.abc import Iterator, Mapping

from spanyard_core.chunks import decode_facts, decoded_blocks
from spanyard_core.errors import BadRecordError
from spanyard_sidecar.entries import DamagedEntryError
from spanyard_sidecar.ring import Batch
from spanyard_sidecar.spool import Spool

log = logging.getLogger("spanyard.sidecar")


class SpoolHistory:
    """Callable as `ring.DiskHistory`."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __call__(self, container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        """Batches of `container` that have records later than `after`, oldest first."""
        for n in self._spool.on_disk_entries():
            try:
                yield from self._entry(n, container, after)
            except FileNotFoundError:
                continue  # it left the ring meanwhile
            except (OSError, DamagedEntryError, BadRecordError) as error:
                log.warning("live history leaves out spool entry %d: %s", n, error)

    def _entry(self, n: int, container: str, after: Mapping[str, int]) -> Iterator[Batch]:
        with self._spool.opened(n) as entry:
            for item in entry.head.objects:
                facts = item.facts
                if item.container != container or facts.last <= after.get(facts.writer, 0):
                    continue
                data = entry.read(item)
                _, at = decode_facts(data)
                first, rest = facts.first, b""
                for block in decoded_blocks(data[at:]):
                    piece = rest + block
                    end = piece.rfind(b"\n") + 1
                    rest = piece[end:]
                    if end:
                        yield facts.writer, first, piece[:end]
                        first += piece.count(b"\n", 0, end)
