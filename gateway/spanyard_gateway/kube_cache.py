"""What the API server keeps of our kinds, as watches saw it; it knows when it is out of date.

A watch does not tell that it is cut off: so a small question is asked every few seconds. When that
fails, the watches end, and begin anew with a listing when the server answers again. What is known
meanwhile is given out for `STALE_S`, then not any more: old news that look new are worse than none.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from spanyard_core.clock import Clock
from spanyard_core.errors import InvalidResourceError
from spanyard_core.kube import (
    BUILDS,
    DEPLOYMENTS,
    PROJECTS,
    Api,
    Kube,
    KubeError,
    KubeUnavailableError,
)
from spanyard_core.resources.kinds import Kind, Resource
from spanyard_core.resources.schema import decode
from spanyard_core.retry import Backoff
from spanyard_core.tasks import run_root_tasks

log = logging.getLogger("spanyard.gateway")

APIS: dict[Kind, Api] = {"Project": PROJECTS, "Build": BUILDS, "Deployment": DEPLOYMENTS}
STALE_S = 30.0
"""Longer than a restart of an API server behind a load balancer."""
_ASK_EVERY_S = 5.0
_PROBE = "spanyard-is-it-there"
"""A name that nothing has: the answer is 404, or 403, and both are answers."""

_Part = tuple[Kind, str]
"""A kind in a namespace; the empty one: in all."""


class KubeCache:
    """Projects, Builds and Deployments of some namespaces or all. `run` is a root task."""

    def __init__(self, kube: Kube, clock: Clock, *, namespaces: Sequence[str] = ()) -> None:
        self._kube = kube
        self._clock = clock
        self._parts: list[_Part] = [(kind, place) for kind in APIS for place in namespaces or [""]]
        self._found: dict[Kind, dict[str, Resource]] = {kind: {} for kind in APIS}
        self._synced: set[_Part] = set()
        self._ever: set[_Part] = set()
        self._since = clock.monotonic()
        """Monotonic, when it was last known to be whole."""
        self._is_away = True
        self.problem = "the Kubernetes API has not been asked yet"

    # --- reading -----------------------------------------------------------------------------

    def all(self, kind: Kind) -> list[Resource]:
        """All of a kind, by id. Raises KubeUnavailableError when that is not known."""
        if not self._ever.issuperset(part for part in self._parts if part[0] == kind):
            raise KubeUnavailableError(
                f"the Kubernetes API has not told the {APIS[kind].plural} yet: {self.problem}"
            )
        if self.stale_seconds > STALE_S:
            raise KubeUnavailableError(
                f"the Kubernetes API has not answered for {self.stale_seconds:.0f} s: {self.problem}"
            )
        found = self._found[kind]
        return [found[name] for name in sorted(found)]

    def find(self, kind: Kind, name: str) -> Resource | None:
        """One as it was last seen, however long ago."""
        return self._found[kind].get(name)

    @property
    def stale_seconds(self) -> float:
        """How long it has not been known to be whole; 0 while the watches run."""
        return 0.0 if self._is_whole else self._clock.monotonic() - self._since

    @property
    def _is_whole(self) -> bool:
        return not self._is_away and self._synced.issuperset(self._parts)

    # --- watching ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch for ever, whatever the server does."""
        backoff = Backoff(random.Random(), most=15.0)
        while True:
            try:
                await self._ask()
                self._is_away = False
                await run_root_tasks(
                    {
                        f"watch of {kind} {place}": self._watch(kind, place)
                        for kind, place in self._parts
                    },
                    until=self._until_away(backoff),
                )
            except (KubeError, KubeUnavailableError) as error:
                self._away(error)
            except BaseExceptionGroup as errors:
                mine, others = errors.split((KubeError, KubeUnavailableError))
                if others is not None or mine is None:
                    raise
                self._away(mine.exceptions[0])
            self._synced.clear()
            await self._clock.sleep(backoff.next())

    async def _until_away(self, backoff: Backoff) -> None:
        while True:
            await self._clock.sleep(_ASK_EVERY_S)
            if self._is_whole:
                backoff.reset()
            await self._ask()
            if self._is_whole:
                self._since = self._clock.monotonic()

    async def _ask(self) -> None:
        """Raises KubeUnavailableError when nobody answers."""
        try:
            async with asyncio.timeout(_ASK_EVERY_S):
                await self._kube.get(PROJECTS, _PROBE, self._parts[0][1] or "default")
        except TimeoutError as error:
            raise KubeUnavailableError(f"no answer within {_ASK_EVERY_S:g} s") from error
        except KubeError as error:
            if error.status not in {403, 404}:
                raise

    def _away(self, error: BaseException) -> None:
        if self._is_whole:
            self._since = self._clock.monotonic()
        if not self._is_away or self.problem != str(error):
            log.warning("resources are not watched: %s", error)
        self._is_away, self.problem = True, str(error)

    async def _watch(self, kind: Kind, place: str) -> None:
        part, found = (kind, place), self._found[kind]
        seen: set[str] | None = set()
        """Until the first SYNCED: what is not in the listing is gone."""
        async for event in self._kube.watch(APIS[kind], place):
            if event.type == "SYNCED":
                if seen is not None:
                    for name in [n for n in found if _is_in(n, place) and n not in seen]:
                        del found[name]
                    seen = None
                self._synced.add(part)
                self._ever.add(part)
                if self._is_whole:
                    self._since = self._clock.monotonic()
                continue
            metadata = event.object["metadata"]
            name = f"{metadata.get('namespace', '')}.{metadata['name']}"
            if event.type == "DELETED":
                found.pop(name, None)
                continue
            if seen is not None:
                seen.add(name)
            try:
                found[name] = decode(event.object)
            except InvalidResourceError as error:
                log.warning("%s %s is passed over: %s", kind, name, error)


def _is_in(name: str, namespace: str) -> bool:
    return not namespace or name.partition(".")[0] == namespace
