"""Unsettled: waiting until loaded objects lie where they stay.

Between its commit and `Settled` an object may be moved or deleted at any moment, by whoever loaded
it. Who rewrites objects, or loads them again from where they lie, waits for that first.
"""

import logging
from collections.abc import Collection

from spanyard_core.clock import Clock
from spanyard_core.errors import StorageError
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.settle import Settler

log = logging.getLogger("spanyard.ingester")

_WAIT = 0.5
_ROUNDS = 60
_OTHERS_HAVE = 20
"""Rounds that other ingesters get: one at work tells the ledger after five seconds."""


class Unsettled:
    """What the ledger says is loaded and may still be moved."""

    def __init__(self, ledger: Ledger, settler: Settler, clock: Clock) -> None:
        self._ledger = ledger
        self._settler = settler
        self._clock = clock

    async def wait(self, keys: Collection[str]) -> None:
        """Return when none of these is unsettled.

        What waits in this process is settled at once; what others loaded, and do not settle for a
        while, like at a start. Raises StorageError when that takes too long.
        """
        if not self._left(keys):
            return
        for turn in range(_ROUNDS):
            await self._settler.run_once()
            await self._ledger.flush_riders()
            await self._ledger.refresh()
            left = self._left(keys)
            if not left:
                return
            if turn == _OTHERS_HAVE:
                self._take_over(left)
            await self._clock.sleep(_WAIT)
        raise StorageError(
            f"{len(left)} loaded objects are not yet where they are to stay, {min(left)} for one; "
            f"do it again later. {self._settler.problem}".rstrip()
        )

    def _left(self, keys: Collection[str]) -> set[str]:
        return {key for key in keys if key in self._ledger.state.digests}

    def _take_over(self, left: Collection[str]) -> None:
        for attempt, digests in self._ledger.state.unsettled.items():
            if not digests.keys().isdisjoint(left):
                log.info("attempt %d was left unsettled", attempt)
                self._settler.leftover(attempt, digests)
