"""Compaction: snapshots of the ledger, and the deletion of entries that nobody needs any more.

The two newest snapshots stay, and every entry after the older one, and every entry younger than
`KEEP_ENTRIES`: an ingester that was asleep must never find a hole where an entry was, because it
would fill it and believe that it owns the shard (`ledger.STALE_AFTER` is its side of this).
"""

import contextlib
import json
import logging
from collections.abc import Iterable

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import ObjectExistsError, SettingError
from spanyard_core.object_names import LEDGER, ledger_key
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.ledger import STALE_AFTER, Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.snapshots import encode_snapshot, snapshot_key, snapshot_number

log = logging.getLogger("spanyard.ingester")

KEEP_ENTRIES = 6 * STALE_AFTER
"""Seconds that an entry stays, however many follow it."""
_WRITERS_PER_ENTRY = 50
DEAD_MOST = 50_000
"""Attempts given up that the audit looks for. More than that come in a week only where every batch
has a bad line in it, and then these are the last seven hours'."""
_CONFIG = f"{LEDGER}/config.json"


async def read_shards(storage: Storage) -> int:
    """How many shards the ledger has; said once and for all by the first ingester (one shard).

    Also finds out whether the store keeps what the ledger rests on. Raises SettingError when it
    replaces an object that was to be created only if absent.
    """
    with contextlib.suppress(ObjectExistsError):
        await storage.write(_CONFIG, b'{"shards": 1}\n', if_absent=True)
    data = await storage.read(_CONFIG)
    with contextlib.suppress(ObjectExistsError):
        await storage.write(_CONFIG, data, if_absent=True)  # the same bytes: nothing is harmed
        raise SettingError(
            f"storage is {storage.url}, where an object that exists was replaced, though it was to "
            "be created only if absent (If-None-Match: *); two ingesters would both load the same. "
            "Use a store with conditional puts (S3, GCS, a newer version of this server), and no "
            "proxy that drops the header"
        )
    try:
        return int(json.loads(data)["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"{storage.url}: {_CONFIG} is not what Spanyard wrote there; it says how many "
            'shards the ledger has, usually {"shards": 1}'
        ) from error


class Compactor:
    """Takes snapshots of one shard."""

    def __init__(
        self, storage: Storage, ledger: Ledger, clock: Clock, *, every: int, dead_for: float
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._clock = clock
        self._every = every
        self._dead_for = dead_for

    @property
    def is_due(self) -> bool:
        """Whether enough entries came since the last snapshot.

        The more writers, the more a snapshot costs (2 s for a million) and the longer it may wait.
        """
        enough = self._every + len(self._ledger.state.handled) // _WRITERS_PER_ENTRY
        return self._ledger.state.n - self._ledger.snapshot_n >= enough

    async def run_once(self) -> None:
        """Write a snapshot of the state as it is, then delete what it makes superfluous.

        Raises StorageError; repeating is safe.
        """
        state = self._ledger.state
        prune(state, before=rfc3339(self._clock.time_ns() - int(self._dead_for * 1e9)))
        n = state.n
        try:
            await self._storage.write(
                snapshot_key(self._ledger.shard, n), encode_snapshot(state), if_absent=True
            )
        except ObjectExistsError:
            log.debug("snapshot %d is there: another ingester took it", n)
        self._ledger.snapshot_n = max(self._ledger.snapshot_n, n)
        await self._delete_old()

    async def _delete_old(self) -> None:
        prefix = f"{LEDGER}/{self._ledger.shard}/"
        snapshots = [
            n
            async for info in self._storage.list(f"{prefix}snapshot-")
            if (n := snapshot_number(info.key)) is not None
        ]
        if len(snapshots) < 2:
            return
        floor = snapshots[-2]
        youngest = self._clock.time_ns() - int(KEEP_ENTRIES * 1e9)
        old: list[str] = [snapshot_key(self._ledger.shard, n) for n in snapshots[:-2]]
        async for info in self._storage.list(prefix):
            if info.key > ledger_key(self._ledger.shard, floor) or info.modified_ns > youngest:
                break
            old.append(info.key)
        await self._delete(old)

    async def _delete(self, keys: Iterable[str]) -> None:
        await map_bounded(self._storage.delete, list(keys), limit=16)


def prune(state: LedgerState, *, before: str) -> None:
    """Forget attempts that were given up before that time: the audit has looked long enough.

    Of the others the newest DEAD_MOST stay.
    """
    for attempt in [a for a, dead in state.dead.items() if dead.time < before]:
        del state.dead[attempt]
    for attempt in list(state.dead)[: max(len(state.dead) - DEAD_MOST, 0)]:
        del state.dead[attempt]
