"""What the gateway asks of the ingester: hints, quarantine actions. One address for the pods.

`IngesterClient` is the seam: HTTP in the cluster, a direct call where both run in one process.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import aiohttp

from spanyard_core.errors import SpanyardError

HINT_TIMEOUT_S = 2
"""A hint saves seconds at best; listing finds the object anyway."""
ACTION_TIMEOUT_S = 30
PRUNE_TIMEOUT_S = 600
"""A deletion rewrites the parts that it touches: 21 s for 10 million rows."""


class IngesterAwayError(SpanyardError):
    """The ingester cannot be reached."""


class IngesterRefusedError(SpanyardError):
    """The ingester answered with an error; carries its status and its problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or status))
        self.status = status
        self.problem = problem


class IngesterClient(Protocol):
    """Raises IngesterAwayError and IngesterRefusedError."""

    async def hint(self, keys: Sequence[str]) -> None:
        """Tell that these objects are there."""
        ...

    async def quarantine_action(
        self, action: str, quarantine_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """`replay` or `delete` one quarantined line or object."""
        ...

    async def prune(self, body: dict[str, Any]) -> dict[str, Any]:
        """Delete (or, with `dryRun`, count) what is older than `before` of a `project`."""
        ...


class HttpIngesterClient:
    """The ingester at `address`, such as `http://spanyard-ingester:8321`."""

    def __init__(self, session: aiohttp.ClientSession, address: str, token: str = "") -> None:
        self._session = session
        self._address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def hint(self, keys: Sequence[str]) -> None:
        await self._post("/hints", {"keys": list(keys)}, HINT_TIMEOUT_S)

    async def quarantine_action(
        self, action: str, quarantine_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        return await self._post(f"/quarantine/{quarantine_id}/{action}", body, ACTION_TIMEOUT_S)

    async def prune(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._post("/prune", body, PRUNE_TIMEOUT_S)

    async def _post(self, path: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        if not self._address:
            raise IngesterAwayError(
                "no ingester is configured; give the gateway its address with --ingester"
            )
        try:
            async with self._session.post(
                self._address + path,
                json=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                answer = await _json(response)
                if response.status >= 400:
                    raise IngesterRefusedError(response.status, answer)
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise IngesterAwayError(
                f"the ingester at {self._address} does not answer ({type(error).__name__}); "
                "is it running?"
            ) from error


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    raw = await response.content.read(1 << 20)
    try:
        value = json.loads(raw)
    except ValueError:
        return {"detail": raw[:200].decode("utf-8", "replace")}
    return value if isinstance(value, dict) else {"value": value}
