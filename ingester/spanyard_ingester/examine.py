"""Examine: from a key to what is to be done with its object, by reading its head."""

import logging
from random import Random

from spanyard_core.chunks import ChunkFacts, decode_facts
from spanyard_core.errors import BadRecordError, ObjectNotFoundError, StorageError
from spanyard_core.object_names import ChunkName
from spanyard_core.retry import Backoff
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.concurrently import map_bounded
from spanyard_ingester.heads import read_facts
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import processed_key, tail_of
from spanyard_ingester.pending import Candidate, Pending
from spanyard_ingester.planner import Limits, Ready, is_covered
from spanyard_ingester.rejects import Rejects, reject_of
from spanyard_ingester.settle import Settler

log = logging.getLogger("spanyard.ingester")

_WHOLE_BYTES = 16 * 1024
"""Objects up to this size are read whole with their head: one request instead of two."""
_BUSY_DELAY = 1.0
"""Seconds until an object is looked at again, a part of which is under way elsewhere."""
_ATTEMPTS_IN_A_CROWD = 3
"""Attempts to read a head after which an object gives its place away, where places are few."""
_WRITER_MOST = 512
"""Characters of a writer's name, which every plan repeats; a collector's has less than 400."""


class Examiner:
    """Reads heads and sorts objects into ready, covered and rejected."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        pending: Pending,
        rejects: Rejects,
        settler: Settler,
        rng: Random,
        *,
        limits: Limits,
        at_once: int,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._pending = pending
        self._rejects = rejects
        self._settler = settler
        self._rng = rng
        self._limits = limits
        self._at_once = at_once
        self.problem = ""
        """Why heads cannot be read just now."""

    async def run_once(self, most: int) -> int:
        """Examine up to `most` candidates; how many."""
        candidates = self._pending.candidates(most)
        if candidates:
            await map_bounded(self._examine, candidates, limit=self._at_once)
        return len(candidates)

    async def _examine(self, candidate: Candidate) -> None:
        key, name = candidate.key, candidate.name
        state = self._ledger.state
        if tail_of(key) in state.rejected:
            self._pending.forget(key)
            return
        ready = Ready(key, name, candidate.size or 0, candidate.since)
        if isinstance(name, ChunkName) and state.is_busy(ready.scope, name.first, name.last):
            self._pending.again(candidate, _BUSY_DELAY)
            return
        try:
            await self._read_head(ready)
        except ObjectNotFoundError:
            if key in state.reload:
                await self._fetch_back(candidate)
            else:
                self._pending.forget(key)  # moved since it was listed, or never there
            return
        except StorageError as error:
            self.problem = str(error)
            self._delay(candidate)
            return
        except BadRecordError as error:
            self._rejects.add(reject_of(key, name, str(error), size=ready.size))
            return
        self.problem = ""
        if is_covered(ready, state):
            self._settler.covered(ready)
        else:
            self._pending.ready(ready)

    async def _fetch_back(self, candidate: Candidate) -> None:
        """An object that was moved while its rows were deleted is loaded from where it lay."""
        key = candidate.key
        there = processed_key(key)
        if there != key and there not in self._ledger.state.reload:
            try:
                # Copied: in a bucket a move ends with a DELETE, and one that comes late would meet
                # the copy that has been settled again meanwhile, the last one.
                await self._storage.write(key, await self._storage.read(there))
            except ObjectNotFoundError:
                pass
            except StorageError as error:
                self.problem = str(error)
                self._delay(candidate)
                return
            else:
                self._pending.again(candidate, 0.0)
                return
        reason = "the object is gone, after its rows were deleted to load it again"
        self._rejects.add(reject_of(key, candidate.name, reason))

    def _delay(self, candidate: Candidate) -> None:
        backoff = Backoff(self._rng)
        delay = backoff.next()
        for _ in range(min(candidate.attempts, 8)):
            delay = backoff.next()
        candidate.attempts += 1
        if candidate.attempts == 1:
            log.warning("cannot read %s, trying again: %s", candidate.key, self.problem)
        if candidate.attempts >= _ATTEMPTS_IN_A_CROWD and self._pending.is_crowded:
            # Others wait for its place; a later listing comes back to it.
            self._pending.forget(candidate.key)
        else:
            self._pending.again(candidate, delay)

    async def _read_head(self, ready: Ready) -> None:
        """Read the facts of a chunk; of a plain object, only that it is there."""
        if not isinstance(ready.name, ChunkName):
            if not ready.size:  # known by a hint alone
                async for info in self._storage.list(ready.key):
                    if info.key == ready.key:
                        ready.size = info.size
                    break
            if not await self._storage.exists(ready.key):
                raise ObjectNotFoundError(f"{ready.key} is not there")
            return
        head = await self._storage.read(ready.key, length=_WHOLE_BYTES + 1)
        if len(head) <= _WHOLE_BYTES:
            ready.size = len(head)
            ready.data = head
            facts, _ = decode_facts(head)
        else:
            try:
                facts, _ = decode_facts(head)
            except BadRecordError:
                facts = await read_facts(self._storage, ready.key)
        check_facts(ready, facts, self._limits)
        ready.facts = facts


def check_facts(ready: Ready, facts: ChunkFacts, limits: Limits) -> None:
    """Raises BadRecordError when an object's frame contradicts its name, or it is too large."""
    name = ready.name
    if facts.first < 1 or facts.first > facts.last:
        raise BadRecordError(f"the object declares the impossible range {facts.first}…{facts.last}")
    try:
        named = facts.name.key(name.root)
    except (OverflowError, ValueError, OSError) as error:
        raise BadRecordError(f"the object declares an impossible time: {error}") from error
    if named != name.key():
        raise BadRecordError(f"the object declares what belongs under the name {named[:300]!r}")
    if len(facts.writer) > _WRITER_MOST:
        raise BadRecordError(
            f"the object's writer has a name of {len(facts.writer)} characters; {_WRITER_MOST} is most"
        )
    if not 0 < facts.records <= facts.last - facts.first + 1:
        raise BadRecordError(
            f"the object declares {facts.records} records in {facts.first}…{facts.last}"
        )
    if facts.records > limits.rows or not 0 < facts.decoded <= limits.decoded:
        raise BadRecordError(
            f"the object declares {facts.records} records of {facts.decoded} bytes in all; a batch "
            f"holds {limits.rows} and {limits.decoded}"
        )
