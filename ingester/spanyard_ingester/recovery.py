"""Recovery: open plans that somebody left behind, and late rows of attempts that were given up."""

import logging
from collections.abc import Iterable
from datetime import date

from spanyard_core.clock import Clock
from spanyard_core.records import Signal
from spanyard_ingester.attempts import Attempts, Ending
from spanyard_ingester.concurrently import batched
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import OpenPlan
from spanyard_ingester.settle import Settler
from spanyard_ingester.warehouse import Warehouse

log = logging.getLogger("spanyard.ingester")

_ASKED_AT_ONCE = 1_000
"""Attempts that one statement of the audit asks for: over HTTP they stand in its address."""


class Recovery:
    """Finishes what others (or we, before a crash) began."""

    def __init__(
        self,
        ledger: Ledger,
        warehouse: Warehouse,
        attempts: Attempts,
        settler: Settler,
        clock: Clock,
        *,
        takeover_after: float,
    ) -> None:
        self._ledger = ledger
        self._warehouse = warehouse
        self._attempts = attempts
        self._settler = settler
        self._clock = clock
        self._takeover_after = takeover_after
        self.zombies = 0
        """Attempts that had rows though they were given up."""

    async def at_start(self) -> None:
        """End the open plans of our own name, and settle what was committed and not moved."""
        await self._resolve(
            opened
            for opened in list(self._ledger.state.open.values())
            if opened.owner == self._ledger.owner
        )
        for attempt, digests in list(self._ledger.state.unsettled.items()):
            self._settler.leftover(attempt, digests)

    async def take_over(self) -> int:
        """End open plans of others that have been silent for long enough; how many."""
        now = self._clock.monotonic()
        silent = [
            opened
            for opened in list(self._ledger.state.open.values())
            if opened.instance != self._ledger.instance
            and now - self._ledger.seen.setdefault((opened.owner, opened.instance), now)
            >= self._takeover_after
        ]
        return await self._resolve(silent)

    async def _resolve(self, plans: Iterable[OpenPlan]) -> int:
        count = 0
        for opened in plans:
            count += 1
            plan = opened.plan
            log.info(
                "attempt %d on %s was left open by %s (entry %d)",
                plan.attempt,
                plan.table,
                opened.owner,
                opened.n,
            )
            result = await self._attempts.resolve(plan, f"left open by {opened.owner}")
            if result.ending is Ending.COMMITTED:
                self._settler.leftover(
                    plan.attempt, {item.key: item.sha256 for item in plan.objects}
                )
        return count

    async def audit(self) -> int:
        """Delete rows of attempts that were given up and landed late; how many attempts.

        Raises DatabaseError; the next audit looks again.
        """
        dead: dict[Signal, dict[int, date]] = {}
        for attempt, item in self._ledger.state.dead.items():
            dead.setdefault(item.table, {})[attempt] = date.fromisoformat(item.day)
        found = 0
        for table, attempts in dead.items():
            for lot in batched(sorted(attempts), _ASKED_AT_ONCE):
                days = sorted({attempts[attempt] for attempt in lot})
                present = await self._warehouse.attempts_present(table, days, lot)
                for attempt in sorted(present):
                    log.warning("attempt %d on %s landed after it was given up", attempt, table)
                    await self._warehouse.delete_attempt(attempt, table, attempts[attempt])
                found += len(present)
        self.zombies += found
        return found
