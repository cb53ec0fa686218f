"""Rescan: what is wrong with the objects of a batch that ClickHouse refused or miscounted.

Each is read again, line by line. The batch's plan is open meanwhile and its place in the loader
taken, so one object that cannot be read just now does not hold up the others: after a few tries
it is left out, and comes back as a pending object later.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError, ObjectNotFoundError, StorageError
from spanyard_core.retry import Backoff
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import LoadedObject, tail_of
from spanyard_ingester.planner import Ready
from spanyard_ingester.prepare import Preparer
from spanyard_ingester.refusal import Findings
from spanyard_ingester.rejects import reject_of
from spanyard_ingester.scan import Scanned

log = logging.getLogger("spanyard.ingester")

TRIES = 6
"""Reads of one object, over about six seconds: an answer lost on the way is not worth a new batch."""
_PATIENT_WITH = 2
"""Unreadable objects in a row, after which storage is away and each further one is tried once."""


@dataclass(frozen=True, slots=True)
class Rescan:
    """Reads objects for their bad lines."""

    ledger: Ledger
    preparer: Preparer
    clock: Clock
    rng: Random

    async def findings(self, objects: Iterable[tuple[LoadedObject, Ready]]) -> Findings:
        """What came to light. Raises nothing for what one object does."""
        findings = Findings()
        in_a_row = 0
        for item, ready in objects:
            if ready.facts is None:
                continue  # a plain object's lines were checked one by one when they were rewritten
            try:
                scanned = await self._scanned(ready, TRIES if in_a_row < _PATIENT_WITH else 1)
            except ObjectNotFoundError:
                findings.gone.add(item.key)
            except BadRecordError as error:
                findings.rejects[item.key] = reject_of(
                    item.key, ready.name, str(error), size=item.size, facts=ready.facts
                )
            except (StorageError, OSError) as error:
                log.error(
                    "%s cannot be read for its bad lines, left for later: %s", item.key, error
                )
                findings.unread.add(item.key)
                in_a_row += 1
            else:
                in_a_row = 0
                if scanned.bad:
                    findings.bad[item.key] = scanned.bad
                if scanned.bad or not all(scanned.good.covers(a, b) for a, b in item.ranges):
                    findings.good[item.key] = list(scanned.good)
        return findings

    async def _scanned(self, ready: Ready, tries: int) -> Scanned:
        backoff = Backoff(self.rng)
        while True:
            try:
                drops = self.ledger.state.drops.get(tail_of(ready.key), ())
                return await self.preparer.scan(ready, drops)
            except ObjectNotFoundError:
                raise
            except (StorageError, OSError):
                if backoff.attempts >= tries - 1:
                    raise
                await self.clock.sleep(backoff.next())
