"""Which namespaces a query across projects may look into, as a condition inside that query."""

from spanyard_core.clock import Clock
from spanyard_gateway.auth.caller import Sight
from spanyard_gateway.auth.kept import Kept
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

NAMESPACES_SECONDS = 5.0
"""A namespace's first records show in lists across projects after so long."""
NAMESPACE = "substringIndex(project, '.', 1)"
_STORED = """
    SELECT DISTINCT substringIndex(project, '.', 1) AS namespace FROM (
        SELECT DISTINCT project FROM ledger UNION ALL SELECT DISTINCT project FROM quarantine)
"""


class Tenants:
    """Knows the namespaces of which anything is stored, so that only of these is asked who may."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._stored: Kept[str, frozenset[str]] = Kept(
            clock, seconds=lambda _: NAMESPACES_SECONDS, most=1, at_once=1
        )

    async def where(self, sight: Sight) -> Where:
        """The condition on `project`; none for who may see everything. Raises DatabaseError."""
        where = Where()
        if await sight.everything():
            return where
        permitted = await sight.among(await self._stored.get("", self._namespaces))
        where.add(f"{NAMESPACE} IN {{tenants:Array(String)}}", tenants=sorted(permitted))
        return where

    async def _namespaces(self) -> frozenset[str]:
        rows = await self._reader.rows(_STORED)
        return frozenset(str(row["namespace"]) for row in rows)
