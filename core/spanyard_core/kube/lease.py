"""A Lease: of several processes that could do a work, one does it and the others wait for its end.

Nobody compares clocks of two machines. Who waits sees the Lease change, and takes it when it has
not changed for its duration by the waiter's own monotonic clock. Who holds it counts from the
moment before it *asked* for the renewal that succeeded, and stops before the others may begin. A
process that was frozen meanwhile notices when it wakes, not before: what must never be done by two
at once needs a fence of its own (the ledger's numbers, deterministic names).
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import SpanyardError
from spanyard_core.kube.apis import LEASES
from spanyard_core.kube.errors import KubeError, KubeUnavailableError
from spanyard_core.kube.protocol import Kube, Object

log = logging.getLogger("spanyard.lease")

T = TypeVar("T")

_RELEASE_WITHIN = 2.0
"""Seconds; else the others wait for the duration, no more."""
_SOON = 0.1
"""Seconds before another look when somebody was quicker."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. After a kill the next one begins within `duration` + `renew_every`: 12 s."""

    duration: int = 10
    """How long it is held without a renewal. Whole seconds: so the API has it."""
    renew_every: float = 2.0
    deadline: float = 7.0
    """Who could not renew for so long stops; the rest up to `duration` is for its stopping."""

    def __post_init__(self) -> None:
        if not 0 < self.renew_every * 2 <= self.deadline < self.duration:
            raise ValueError("a Lease needs 0 < 2 × renew_every ≤ deadline < duration")


class LeaseLostError(SpanyardError):
    """The Lease is somebody else's, or could not be renewed in time: the work must stop."""


class Lease:
    """One process's view of the Lease `name`.

    `holder` must be unique among living processes: with the same name after a restart (a
    container's in its pod) a process goes on with its own Lease at once. `annotations` are written
    when it is taken: where the holder can be reached. With `fenced`, two at work do no harm, only
    waste: then silence of the API server does not end the work, another holder does.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        holder: str,
        *,
        clock: Clock,
        times: LeaseTimes | None = None,
        fenced: bool = False,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._clock = clock
        self._times = times or LeaseTimes()
        self._fenced = fenced
        self._labels = dict(labels or {})
        self._annotations = dict(annotations or {})
        self._seen: Object | None = None
        self._seen_at = 0.0
        """Monotonic, when `_seen` was first seen so."""
        self._renewed_at: float | None = None
        """Monotonic, before the last successful renewal was asked for; None while not held."""
        self.problem: str | None = None
        """Why the API server cannot be asked just now, for /readyz."""

    @property
    def name(self) -> str:
        """Of the Lease."""
        return self._name

    @property
    def is_held(self) -> bool:
        """Whether it is ours, as far as one can know."""
        at = self._renewed_at
        if at is None or self._fenced:
            return at is not None
        return self._clock.monotonic() - at < self._times.deadline

    @property
    def seen_holder(self) -> str:
        """Who holds it as last seen; empty when nobody."""
        return str(_spec(self._seen).get("holderIdentity") or "")

    @property
    def seen_annotations(self) -> Mapping[str, str]:
        """What the holder wrote when it took it."""
        metadata = (self._seen or {}).get("metadata", {})
        return metadata.get("annotations") or {}

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the Lease, do the work, release. Raises LeaseLostError when it is lost.

        The work is cancelled when the Lease is lost. It has to be gone within the rest of the
        duration (3 s by default), or the process has to end.
        """
        try:
            await self.acquire()
        except BaseException:
            work.close()
            raise
        return await self.while_held(work)

    async def while_held(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work under the Lease that was acquired, then release. Raises LeaseLostError."""
        try:
            return await self._work(work)
        finally:
            await self.release()

    async def _work(self, work: Coroutine[Any, Any, T]) -> T:
        working = asyncio.create_task(work, name=f"work under the lease {self._name}")
        keeping = asyncio.create_task(self.keep(), name=f"renewal of the lease {self._name}")
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                keeping.result()  # raises: it ends by an error only
            return await working
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)

    async def acquire(self) -> None:
        """Return when it is ours. Waits for the API server as long as that is away."""
        while (wait := await self._try()) is not None:
            await self._clock.sleep(wait)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLostError."""
        while True:
            await self._clock.sleep(self._times.renew_every)
            await self._renew()

    async def release(self) -> None:
        """Let the next one begin at once. Does nothing where it is not held."""
        held, self._renewed_at = self._renewed_at is not None, None
        if not held:
            return
        try:
            async with asyncio.timeout(_RELEASE_WITHIN):
                await self._give_up()
        except (KubeError, KubeUnavailableError, TimeoutError) as error:
            log.warning("the lease %s was not released: %s", self._name, error or "no answer")
        else:
            log.info("released the lease %s", self._name)

    async def _give_up(self) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now()}
        try:
            await self._write(spec)
        except KubeError as error:
            if not error.conflict:
                raise
            # A renewal that was cancelled may have been made all the same: then it is still ours.
            found = await self._kube.get(LEASES, self._name, self._namespace)
            if found is None or _spec(found).get("holderIdentity") != self._holder:
                raise
            self._saw(found)
            await self._write(spec)

    # --- taking it ---------------------------------------------------------------------------

    async def _try(self) -> float | None:
        """Take it if it is free: None when it is ours now, else seconds to wait."""
        asked = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._times.deadline):
                taken = await self._take()
        except KubeUnavailableError as error:
            self._told(f"the API server does not answer: {error}")
            return self._times.renew_every
        except TimeoutError:
            self._told(f"the API server did not answer within {self._times.deadline:g} s")
            return self._times.renew_every
        except KubeError as error:
            if error.status == 409:
                return _SOON
            self._told(f"the API server refuses the lease {self._name}: {error}")
            return self._times.renew_every
        self.problem = None
        if taken:
            self._renewed_at = asked
            log.info("took the lease %s", self._name)
            return None
        left = self._seen_at + self._duration_of(self._seen) - self._clock.monotonic()
        return min(self._times.renew_every, max(left, _SOON))

    async def _take(self) -> bool:
        found = await self._kube.get(LEASES, self._name, self._namespace)
        if found is None:
            spec = self._taking(0)
            metadata = {
                "name": self._name,
                "namespace": self._namespace,
                "labels": self._labels,
                "annotations": self._annotations,
            }
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": metadata,
                "spec": spec,
            }
            self._saw(await self._kube.create(LEASES, body, self._namespace))
            return True
        self._saw(found)
        if not self._is_free(found):
            return False
        transitions = int(_spec(found).get("leaseTransitions") or 0) + 1
        return await self._write(self._taking(transitions), self._annotations)

    def _taking(self, transitions: int) -> dict[str, Any]:
        now = self._now()
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._times.duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _is_free(self, found: Object) -> bool:
        if _spec(found).get("holderIdentity") in {None, "", self._holder}:
            return True
        return self._clock.monotonic() - self._seen_at >= self._duration_of(found)

    def _duration_of(self, found: Object | None) -> float:
        """The holder's own; it may have other settings than we."""
        return float(_spec(found).get("leaseDurationSeconds") or self._times.duration)

    def _saw(self, found: Object) -> None:
        """A new version is a sign of life. Which time stands in it does not matter."""
        if self._seen is None or _version(self._seen) != _version(found):
            before, self._seen_at = self.seen_holder, self._clock.monotonic()
            self._seen = found
            if self.seen_holder not in {before, self._holder, ""}:
                log.info("%s holds the lease %s", self.seen_holder, self._name)

    # --- keeping it --------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Once, however often that has to be tried. Raises LeaseLostError."""
        while True:
            asked = self._clock.monotonic()
            assert self._renewed_at is not None, "acquire first"
            left = self._times.deadline
            if not self._fenced:
                left += self._renewed_at - asked
            if left <= 0:
                self._lost(
                    f"it could not be renewed for {self._times.deadline:g} s: {self.problem}"
                )
            try:
                async with asyncio.timeout(left):
                    if await self._write({"renewTime": self._now()}):
                        self._renewed_at, self.problem = asked, None
                        return
                    self._lost("it was deleted")
            except KubeUnavailableError as error:
                self._told(f"the API server does not answer: {error}")
            except TimeoutError:
                self._told("the API server does not answer")
            except KubeError as error:
                if error.conflict:
                    await self._look_again(left)
                    continue
                self._told(f"the API server refuses the lease {self._name}: {error}")
            await self._clock.sleep(min(self._times.renew_every / 2, 1.0))

    async def _look_again(self, within: float) -> None:
        """Somebody wrote to it: another holder, or our own write whose answer was lost."""
        try:
            async with asyncio.timeout(within):
                found = await self._kube.get(LEASES, self._name, self._namespace)
        except (KubeError, KubeUnavailableError, TimeoutError) as error:
            self._told(f"the API server does not answer: {error}")
            return
        if found is None:
            self._lost("it was deleted")
        self._saw(found)
        if self.seen_holder != self._holder:
            self._lost(f"{self.seen_holder or 'nobody'} holds it now")

    def _lost(self, why: str) -> NoReturn:
        self._renewed_at = None
        raise LeaseLostError(f"the lease {self._name} is lost: {why}")

    def _told(self, problem: str) -> None:
        if self.problem is None:
            log.warning("%s", problem)
        self.problem = problem

    async def _write(
        self, spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None
    ) -> bool:
        """Change what we saw, if nobody else has; False when it is gone."""
        metadata: dict[str, Any] = {"resourceVersion": _version(self._seen)}
        if annotations:
            metadata["annotations"] = dict(annotations)
        made = await self._kube.merge(
            LEASES, self._name, {"metadata": metadata, "spec": dict(spec)}, self._namespace
        )
        if made is None:
            return False
        self._saw(made)
        return True

    def _now(self) -> str:
        """Kubernetes' MicroTime; for people, nobody compares it."""
        return rfc3339(self._clock.time_ns())[:-4] + "Z"


def _spec(lease: Object | None) -> Mapping[str, Any]:
    return (lease or {}).get("spec") or {}


def _version(lease: Object | None) -> str:
    return str((lease or {}).get("metadata", {}).get("resourceVersion", ""))
