"""Attempts of builds on this machine, from source to artifact, status and log (B1)."""

import asyncio
import errno
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec

from spanyard_core.build_log import begin_build_log, finish_build_log
from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import (
    ObjectNotFoundError,
    SpanyardError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import (
    Build,
    BuildStatus,
    CollectorStatus,
    Failure,
    project_id,
    resource_id,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.retry import Backoff
from spanyard_core.storage import Storage
from spanyard_local.builds.attempt import Attempt, Means
from spanyard_local.builds.folder import default_root
from spanyard_local.podapi import PodHost, PodIdentity
from spanyard_local.servers.environment import Keys

log = logging.getLogger("spanyard.local")

T = TypeVar("T")
STORAGE_TRIES = 5
"""Of a call that storage does not take: about 5 s, then the build has failed and can be retried."""
COLLECTOR = CollectorStatus(
    mode="shim",
    guarantee="every line is stored, while the build runs; a killed `up` loses none",
)


class BuildRunner:
    """Runs attempts; several at a time, of different builds."""

    def __init__(
        self,
        *,
        storage: Storage,
        pods: PodHost,
        clock: Clock,
        rng: Random,
        build_root: Path | None = None,
        secrets: Keys | None = None,
        config_maps: Keys | None = None,
        keep_folders: bool = False,
        never_copied: Sequence[Path] = (),
    ) -> None:
        """`config_maps` are looked up in `secrets` when not given. `keep_folders`: what a build
        worked in stays, for a look. `never_copied`: what no source contains, the data folder
        and files of secrets above all."""
        secrets = secrets if secrets is not None else {}
        self._storage = storage
        self._pods = pods
        self._clock = clock
        self._rng = rng
        self._means = Means(
            storage=storage,
            clock=clock,
            root=build_root or default_root(),
            secrets=secrets,
            config_maps=config_maps if config_maps is not None else secrets,
            keep_folders=keep_folders,
            never_copied=tuple(never_copied),
            patiently=self._patiently,
        )

    async def run(
        self,
        build: Build,
        *,
        attempt: int,
        changed: Callable[[BuildStatus], Awaitable[None]],
        cancel: asyncio.Event,
        logs_whole: Callable[[], bool] = lambda: True,
    ) -> BuildStatus:
        """Run one attempt; `changed` gets every status but the last, which is returned.

        A failure of the build is a status, not an exception. Cancelled as a task (`up` ends), the
        step is ended with grace, its output stored, and the build stays `Building`: the next `up`
        starts another attempt. `logs_whole` says whether the pods of earlier attempts are drained;
        before, `build.log` is not made.
        """
        status = life.begun(build, now=self._now(), collector=COLLECTOR)
        status = msgspec.structs.replace(status, attempt=attempt)
        work = Attempt(self._means, build, status, changed=changed, cancel=cancel)
        of_it = resource_id(build)
        failure: Failure | None = None
        drained = False
        try:
            await changed(status)
            await self._patiently(lambda: begin_build_log(self._storage, of_it, first=attempt == 1))
            async with self._pods.pod(self._identity(build, attempt)) as pod:
                try:
                    failure = await work.run(pod)
                except (SpanyardError, OSError) as error:
                    failure = _of_the_machine(error, work.status.step)
            drained = pod.drained
        except (SpanyardError, OSError) as error:
            failure = failure or _of_the_machine(error, work.status.step)
        whole = drained and not work.lost_lines and logs_whole()
        complete = whole and await self._finish_log(of_it)
        now = self._now()
        if failure is not None:
            ended = life.failed(build, work.status, failure, now=now, log_complete=complete)
        else:
            ended = life.succeeded(
                build, work.status, work.artifact, now=now, log_complete=complete
            )
        if work.lost_lines:
            told = f"{ended.message}; not all of its output is in the log"
            return msgspec.structs.replace(ended, message=told)
        return ended

    def _identity(self, build: Build, attempt: int) -> PodIdentity:
        return PodIdentity(
            namespace=build.metadata.namespace,
            pod=f"{build.metadata.name}-{attempt}",
            uid=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            project=project_id(build),
            build=build.metadata.name,
            resource_uid=build.metadata.uid,
        )

    async def _finish_log(self, build: str) -> bool:
        try:
            done = await self._patiently(lambda: finish_build_log(self._storage, build))
        except (SpanyardError, OSError) as error:
            log.warning("the log of build %s stays in parts for now: %s", build, error)
            return False
        return not done.damaged

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call it until storage takes it, STORAGE_TRIES times. Raises the last StorageError."""
        backoff = Backoff(self._rng, first=0.5, most=4.0)
        while True:
            try:
                return await call()
            except (ObjectNotFoundError, StorageRefusedError):
                raise
            except StorageError:
                if backoff.attempts >= STORAGE_TRIES - 1:
                    raise
                await self._clock.sleep(backoff.next())

    def _now(self) -> str:
        return rfc3339(self._clock.time_ns())


def _of_the_machine(error: Exception, step: str) -> Failure:
    """What is no failure of the build's own."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return explain("NoSpace", step=step, detail=str(error))
    return explain("InternalError", step=step, detail=str(error))
